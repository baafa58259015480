"""How the directory's tables came to be what they are."""
