"""The API of Amazon SES, as far as it needs no sockets: signatures, forms, errors."""
