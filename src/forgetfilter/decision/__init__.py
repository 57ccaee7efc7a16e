"""Decide which rows to remove, by a threshold and a person's overrides, and give the reason for each row."""
