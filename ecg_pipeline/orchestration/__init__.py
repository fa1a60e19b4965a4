"""Dagster: the assets over the science, their partitions, and how they run. The only package that knows it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def without_marks() -> Iterator[None]:
    """Without Dagster's warnings that a thing is in beta or in preview, which help nobody who did not choose it.

    Partition mappings have been in beta for years, and checks by partition are in preview.
    """
    with warnings.catch_warnings():
        for marked in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category=marked)
        yield
