"""Reads published data sets, in the layouts of their authors, into labelled examples."""
