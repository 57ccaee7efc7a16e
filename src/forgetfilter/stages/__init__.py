"""Stages that stand beside Algorithm 1: self-made answers, examples, the final model, what is kept as evidence."""
