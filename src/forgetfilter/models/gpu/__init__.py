"""The fast path on a GPU: packed rows, variable-length attention, CUDA graphs and decoding."""
