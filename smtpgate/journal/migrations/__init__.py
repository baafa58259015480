"""How the journal's tables came to be what they are."""
