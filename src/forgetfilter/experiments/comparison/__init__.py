"""Filters and strategies side by side on the same noisy sets: the paper's Tables 1 and 2, with what reviewers asked."""
