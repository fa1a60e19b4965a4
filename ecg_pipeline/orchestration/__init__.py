"""Dagster: the assets over the science, their partitions, and how they run. The only package that knows it."""

import warnings

import dagster as dg

# Partition mappings between two dimensions and one have been marked beta for years, and Pipes asks every reader of
# messages a question that is in preview; a warning an asset helps nobody.
for marked in (dg.BetaWarning, dg.PreviewWarning):
    warnings.filterwarnings("ignore", category=marked)
