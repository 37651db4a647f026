"""Measures reading and judging on labelled files: what is right, what is wrong, and what would have gone out unseen."""
