"""Defines ways to fine-tune on untrusted data, by their training sessions and prompts (paper, Section 4, Table 2)."""
