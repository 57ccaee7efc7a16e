"""Read and write data: containers (files), layouts (what a row's fields mean), and tokens."""
