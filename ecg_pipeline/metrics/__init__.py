"""Metrics, intervals and comparisons from labels and scores."""
