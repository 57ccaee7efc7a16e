"""Apply what a run has learned of its rows to further rows, without training."""
