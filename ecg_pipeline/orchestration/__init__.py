"""Dagster: the assets over the science, their partitions, and how they run. The only package that knows it."""

import warnings

import dagster as dg

# Partition mappings between two dimensions and one have been marked beta for years; a warning an asset helps nobody.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
