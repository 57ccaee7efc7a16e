"""Callbacks and steps for other programs; each module needs its program installed."""
