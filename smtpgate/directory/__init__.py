"""The directory: accounts, users, access keys, identities and policies."""
