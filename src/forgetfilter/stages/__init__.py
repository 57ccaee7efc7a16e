"""Stages beside Algorithm 1: self-made answers, examples, the final model, and evidence for later decisions."""
