"""Where accounts, users, access keys, identities and policies are kept."""
