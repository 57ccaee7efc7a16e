"""The paper's studies, and those that its reviewers asked for: each is a short file built from the same few parts."""
