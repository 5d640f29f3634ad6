"""Marks: ratios to a named reference route in the same process, median of seven interleaved runs, one thread."""
