"""The DNS resolver; only this package imports dnspython."""
