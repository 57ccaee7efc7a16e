"""The paper's studies, and those that its reviewers asked for: each a short file over the same few pieces."""
