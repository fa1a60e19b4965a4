"""Dagster: assets, partitions, jobs, sensors and servers. Only the entry points use Dagster outside of it."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg


@contextmanager
def without_preview_warnings() -> Iterator[None]:
    """Suppress Dagster's beta and preview warnings.

    Partition mappings have been in beta for years, and checks by partition are in preview.
    """
    with warnings.catch_warnings():
        for marked in (dg.BetaWarning, dg.PreviewWarning):
            warnings.simplefilter("ignore", category=marked)
        yield
