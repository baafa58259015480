"""The ledger: stores that count sending limits."""
