"""Published data sets, read in the layout of their authors into labelled examples."""
