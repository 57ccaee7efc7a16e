"""Evaluates a model on held-out rows: bias, toxicity, harmfulness and tasks."""
