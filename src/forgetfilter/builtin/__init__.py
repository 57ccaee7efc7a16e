"""Rows that ship with the package, written for it: safe demonstrations, ordinary, look-alike and unsafe rows."""
