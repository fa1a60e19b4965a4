"""Dagster: the assets over the science, their partitions, and how they run. The only package that knows it."""
