"""Progress of a step, in the terminal and in the run's log."""

import time
from collections.abc import Callable

import dagster as dg

from ecg_pipeline.ecg import Progress


def report_progress(context: dg.AssetExecutionContext, terminal: Callable[[str], None] | None) -> Progress:
    """Progress callback that writes to a terminal and, once a tenth of the work, to the run's log."""
    reported, began, first = -1, time.monotonic(), None
    what = " ".join(
        [context.asset_key.to_user_string(), *([context.partition_key] if context.has_partition_key else [])]
    )

    def progress(done: int, total: int) -> None:
        nonlocal reported, began, first
        if first is None:
            # Neither what a killed run had done nor the time to start counts towards the speed.
            first, began = done, time.monotonic()
        speed = (done - first) / max(time.monotonic() - began, 1e-9)
        left = f", {speed:.3g}/s, {(total - done) / speed:.0f} s left" if speed else ""
        if terminal:
            terminal(f"{what}: {done} of {total}{left}")
        tenth = 10 * done // max(1, total)
        if tenth != reported:
            reported = tenth
            context.log.info(f"{what}: {done} of {total}{left}")

    return progress
