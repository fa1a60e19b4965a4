"""Speed as a ratio to what one would do otherwise, both timed in turn in one run."""
