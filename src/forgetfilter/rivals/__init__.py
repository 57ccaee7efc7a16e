"""Suspect rows in other ways, which the paper's reviewers asked to compare with.

Each gives one number a row, larger = more suspicious, that goes through the same thresholds, files and report as
forgetting does.
"""
