"""Processes that start at once, for tests that kill one after another."""

from multiprocessing import get_context
from multiprocessing.context import ForkServerContext

PRELOADED = ("ecg_pipeline_tests.models.test_killed_pretraining", "ecg_pipeline_tests.test_killed_stages")
"""Modules of their functions, which are imported once."""


def quick_processes() -> ForkServerContext:
    """Forks of a process that has imported the modules and done nothing else, so it has no threads."""
    context = get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    return context
