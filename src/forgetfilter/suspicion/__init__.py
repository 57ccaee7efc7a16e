"""Suspicion of a row by what it says: pure functions of words, hidden states and scores. No model."""
