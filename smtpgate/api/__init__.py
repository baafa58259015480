"""Front end: the API of Amazon SES."""
