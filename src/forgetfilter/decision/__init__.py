"""Decide which rows to remove: a threshold on suspicion, a person's overrides, and the reason for each row."""
