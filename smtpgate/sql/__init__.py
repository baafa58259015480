"""SQL databases, SQLite and PostgreSQL behind one surface, for all that is kept in tables."""
