"""Compares filters and strategies on the same noisy sets: the paper's Tables 1 and 2, and what reviewers asked for."""
