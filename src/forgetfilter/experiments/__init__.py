"""Mixes of published data sets, and everything that trains on them: strategies, comparisons and studies."""
