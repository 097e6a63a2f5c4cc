"""Writes the files of a release: the films and what is known of them in the forms that readers know."""
