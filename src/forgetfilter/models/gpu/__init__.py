"""Speed the forward path up on a GPU: packed rows, variable-length attention, CUDA graphs and decoding."""
