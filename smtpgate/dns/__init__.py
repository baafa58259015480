"""The resolver, the only door to dnspython."""
