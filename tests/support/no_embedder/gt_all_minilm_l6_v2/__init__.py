"""Stands before the package of this name, which has a sentence-embedding model, so that tests go without one."""
