"""Steps for other programs that process data; each module needs its program installed."""
