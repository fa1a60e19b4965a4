"""Pretraining in processes of its own: Dagster starts a training job through Pipes and reads its messages.

Both sides are in this module. The trainer is `python -m ecg_pipeline.orchestration.trainer JOB`, under `torchrun` when
there are several devices: the one place where Pipes, MLflow and the training loop meet.
"""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import psutil
from dagster_pipes import open_dagster_pipes
from pydantic import TypeAdapter

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.orchestration.messages import MessageReader
from ecg_pipeline.storage.files import write_text
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.tracking import training_run
from ecg_pipeline.training.tracker import Tracker

if TYPE_CHECKING:
    from ecg_pipeline.training.distributed import ProcessGroup


@dataclass(frozen=True)
class TrainingJob:
    """A pretraining to run into the folder `out`, written by Dagster's step and read by the trainer's processes.

    model, pretraining: recipes as JSON; the model's names its family. arrays: the view, then the targets, by name and
    site. fitted: the folders of what was fitted for the targets, by name. training_set: table of the pretraining ECGs.
    experiment, tags: of its MLflow run. parent_pid: the process that started it.
    """

    model: dict[str, Any]
    pretraining: dict[str, Any]
    arrays: dict[str, dict[str, ArrayShards]]
    fitted: dict[str, Path]
    training_set: Path
    out: Path
    home: Path
    experiment: str
    tags: dict[str, str]
    device: str
    micro_batch: int | None
    processes: int | None
    parent_pid: int


TRAINING_JOB = TypeAdapter(TrainingJob)


def run_training_job(context: dg.AssetExecutionContext, job: TrainingJob, progress: Progress) -> Mapping[str, Any]:
    """Run a training job and return what the trainer reported: `mlflow_run_id` and `page`. dg.Failure if it fails.

    Number of processes: `job.processes`; by default one on the CPU, and one a GPU on `cuda`.
    """
    path = job.out / ".job.json"
    write_text(path, TRAINING_JOB.dump_json(job).decode())
    reader = MessageReader(progress)
    processes = job.processes or _devices(job.device)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", __name__, str(path)]
    with dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), reader) as pipes:
        ended = subprocess.run(command, env={**os.environ, **pipes.get_bootstrap_env_vars()}, check=False)  # noqa: S603
    if ended.returncode:
        why = reader.failure or f"the trainer was killed, with exit status {ended.returncode}"
        raise dg.Failure(f"{why}\nRun it again to continue from the last saved state.")
    path.unlink()
    return reader.result


def main(path: Path) -> None:
    """Run the training job in a file, as one of the processes that were started for it."""
    from ecg_pipeline.training.distributed import init_process_group

    job = TRAINING_JOB.validate_json(path.read_bytes())
    process_group = init_process_group(job.device)
    if not process_group.is_main:
        _run_job(job, process_group=process_group, tracker=None, progress=_exit_if_parent_died(job, no_progress))
        return
    with open_dagster_pipes() as pipes, training_run(job.home, job.experiment, job.tags) as run:
        pipes.report_custom_message({"mlflow_run_id": run.run_id, "page": run.page})

        def report(done: int, total: int) -> None:
            pipes.report_custom_message({"done": done, "total": total})

        _run_job(job, process_group=process_group, tracker=run, progress=_exit_if_parent_died(job, report))


def _run_job(job: TrainingJob, *, process_group: "ProcessGroup", tracker: Tracker | None, progress: Progress) -> None:
    from ecg_pipeline.training.batches import Batches, in_view
    from ecg_pipeline.training.pretrain import pretrain

    family = FAMILIES[job.model["family"]]
    assert family.pretraining is not None  # the study checks it
    recipe = TypeAdapter(family.recipe).validate_python(job.model)
    pretraining = TypeAdapter(family.pretraining).validate_python(job.pretraining)
    view, *targets = job.arrays.values()
    seen = table = in_view(pl.read_parquet(job.training_set).select("ecg_id", "site"), view)
    for by_site in targets:
        table = in_view(table, by_site)
    facts = {"model": job.model, "origin": family.objective_name, "sees": family.sees}
    if without := len(seen) - len(table):
        facts["ecgs_without_targets"] = without
    groups = {"per_ecg": family.examples_per_ecg, "fixed_group": pretraining.fixed_group}
    batches = Batches(arrays=job.arrays, table=table, **groups)
    if not batches.examples:
        raise ValueError("none of the pretraining sites has an ECG of a training patient with all that the model reads")
    pretrain(
        lambda seed: family.objective(
            recipe, pretraining, arrays=job.arrays, fitted=job.fitted, table=table, seed=seed
        ),
        pretraining,
        batches=batches,
        facts=facts,
        out=job.out,
        tracker=tracker,
        process_group=process_group,
        micro_batch_size=job.micro_batch,
        progress=progress,
    )


def _devices(device: str) -> int:
    if device != "cuda":
        return 1
    import torch

    return torch.cuda.device_count()


def _exit_if_parent_died(job: TrainingJob, progress: Progress) -> Progress:
    """Wrap a progress callback so that it exits this process when the job's parent process has died."""
    parent = psutil.Process(job.parent_pid)

    def checked(done: int, total: int) -> None:
        if not parent.is_running():
            raise SystemExit("the process that started this training has ended")
        progress(done, total)

    return checked


if __name__ == "__main__":
    main(Path(sys.argv[1]))
