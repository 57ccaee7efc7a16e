"""Safe demonstrations that ship with the package, written for it."""
