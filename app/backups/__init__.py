"""Backups of the database: one file of pg_dump, and a manifest that says what is in it."""
