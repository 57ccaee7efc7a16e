"""Pure functions that compute suspicion of rows from words, hidden states and scores, without a model."""
