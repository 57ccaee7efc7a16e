"""Measure forgetting from scores, choose cuts and estimate their errors, without a model or labels."""
