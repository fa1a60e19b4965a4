"""Execution settings, such as device and threads: stored in the record, but never part of a code version."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

CONFIG = {
    "device": dg.Field(str, is_required=False, description="Where networks run, such as cuda. By default ECG_DEVICE."),
    "workers": dg.Field(int, is_required=False, description="Processes of a data stage. By default ECG_WORKERS."),
    "threads": dg.Field(int, is_required=False, description="Threads of a training. By default ECG_THREADS, or 1."),
    "processes": dg.Field(int, is_required=False, description="Processes that share a pretraining: ECG_PROCESSES."),
    "accept_fewer_files": dg.Field(
        bool,
        is_required=False,
        description="Read a drop folder though most of its files are gone.",
    ),
    "micro_batch": dg.Field(int, is_required=False, description="ECGs at once in each of them: ECG_MICRO_BATCH."),
}
"""Execution settings of a Dagster run: config schema of the resource `workspace`."""


@dataclass(frozen=True)
class Execution:
    """Execution settings of a run. None leaves a setting to the trainer.

    workers: processes of a data stage. threads: of a training; affects rounding, so the default does not depend on the
    machine. processes, micro_batch: of a pretraining. accept_fewer_files: read a drop folder that has lost most of its
    files.
    """

    device: str = "cpu"
    workers: int = 1
    threads: int = 1
    processes: int | None = None
    micro_batch: int | None = None
    accept_fewer_files: bool = False

    def configured(self, config: Mapping[str, Any]) -> "Execution":
        """A copy with the settings of a run's config."""
        return replace(self, **config)


def from_environment() -> Execution:
    """Settings from `ECG_DEVICE`, `ECG_WORKERS`, `ECG_THREADS`, `ECG_PROCESSES` and `ECG_MICRO_BATCH`."""
    return Execution(
        device=os.environ.get("ECG_DEVICE") or "cpu",
        workers=int(os.environ.get("ECG_WORKERS") or os.cpu_count() or 1),
        threads=int(os.environ.get("ECG_THREADS") or 1),
        processes=int(os.environ.get("ECG_PROCESSES") or 0) or None,
        micro_batch=int(os.environ.get("ECG_MICRO_BATCH") or 0) or None,
    )


def limit_threads(threads: int) -> None:
    """Set the threads of networks in this process and those it starts; idle threads do not spin."""
    os.environ |= {"OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(threads)
