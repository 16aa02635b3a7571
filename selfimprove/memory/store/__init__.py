"""The SQLite file: schema, rows, commits, verification."""
