"""Pure functions that measure how similar two texts are and how well a filter detects unsafe rows."""
