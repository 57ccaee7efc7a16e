"""Publish a run's rows and its model, with cards that say what was removed, how, and with what error."""
