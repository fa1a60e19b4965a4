"""Pretraining in a process of its own, or in several: Dagster starts it through Pipes and hears how it goes.

Both ends of the pipe stand here. The far end is `python -m ecg_pipeline.orchestration.trainer ORDER`, under `torchrun`
when there are several devices; the one place where Pipes, MLflow and the training loop meet.
"""

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import polars as pl
import psutil
from dagster_pipes import open_dagster_pipes
from pydantic import TypeAdapter

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.files import write_text
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tracking import training_run
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline.training.tracker import Tracker

if TYPE_CHECKING:
    from ecg_pipeline.training.distributed import ProcessGroup


@dataclass(frozen=True)
class Order:
    """A pretraining to be carried out into `out` for the process `ordered_by`, and how MLflow is told of it.

    pool: the table of the ECGs that are pretrained on.
    """

    model: BeitRecipe
    recipe: PretrainRecipe
    image_shards: dict[str, ImageShards]
    patch_tokens: dict[str, TokenShards]
    pool: Path
    vocabulary: int
    out: Path
    home: Path
    experiment: str
    tags: dict[str, str]
    device: str
    micro_batch: int | None
    processes: int | None
    ordered_by: int


ORDERS = TypeAdapter(Order)


def order_training(context: dg.AssetExecutionContext, order: Order, progress: Progress) -> Mapping[str, Any]:
    """Have an order carried out and return the MLflow run it was told to. dg.Failure says why where that did not work.

    Processes: as many as the order says; else one on processors, and one a GPU on `cuda`.
    """
    path = order.out / ".order.json"
    write_text(path, ORDERS.dump_json(order).decode())
    listener = _Listener(progress)
    processes = order.processes or _devices(order.device)
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [sys.executable, *(torchrun if processes > 1 else []), "-m", __name__, str(path)]
    with dg.open_pipes_session(context, dg.PipesTempFileContextInjector(), listener) as pipes:
        ended = subprocess.run(command, env={**os.environ, **pipes.get_bootstrap_env_vars()}, check=False)  # noqa: S603
    if ended.returncode:
        why = listener.failure or f"the trainer was ended from outside, with exit status {ended.returncode}"
        raise dg.Failure(f"{why}\nTraining goes on from the state that was last kept.")
    path.unlink()
    return listener.told


def main(path: Path) -> None:
    """Carry out the order in a file, as one of the processes that were started for it."""
    from ecg_pipeline.training.distributed import init_process_group

    order = ORDERS.validate_json(path.read_bytes())
    process_group = init_process_group(order.device)
    if not process_group.is_main:
        _carry_out(order, process_group, None, _watching(order, no_progress))
        return
    with open_dagster_pipes() as pipes, training_run(order.home, order.experiment, order.tags) as run:
        pipes.report_custom_message({"mlflow_run_id": run.run_id, "page": run.page})
        tell = _watching(order, lambda done, total: pipes.report_custom_message({"done": done, "total": total}))
        _carry_out(order, process_group, run, tell)


def _carry_out(order: Order, process_group: "ProcessGroup", tracker: Tracker | None, progress: Progress) -> None:
    from ecg_pipeline.training.pretrain import pretrain

    pretrain(
        order.model,
        order.recipe,
        order.image_shards,
        order.patch_tokens,
        frozenset(pl.read_parquet(order.pool)["record"]),
        order.vocabulary,
        order.out,
        tracker,
        process_group,
        order.micro_batch,
        progress,
    )


def _devices(device: str) -> int:
    if device != "cuda":
        return 1
    import torch

    return torch.cuda.device_count()


def _watching(order: Order, progress: Progress) -> Progress:
    """Progress that ends this process when the one that ordered the training is gone: nobody would see it end."""
    client = psutil.Process(order.ordered_by)

    def told(done: int, total: int) -> None:
        if not client.is_running():
            raise SystemExit("the process that ordered this training has ended")
        progress(done, total)

    return told


class _Listener(dg.PipesMessageReader):
    """Reads the trainer's messages from a file as they come, and keeps what Pipes itself has no use for."""

    def __init__(self, progress: Progress):
        self.reader = dg.PipesTempFileMessageReader()
        self.progress = progress
        self.told: dict[str, Any] = {}
        self.failure: str | None = None

    @contextmanager
    def read_messages(self, handler: Any) -> Iterator[Any]:
        """Stand between the file and Dagster's own handler."""
        handle = handler.handle_message

        def hear(message: Mapping[str, Any]) -> None:
            params = message.get("params") or {}
            if message["method"] == "closed" and (error := params.get("exception")):
                self.failure = f"{error['name']}: {error['message'].strip()}"
            if message["method"] != "report_custom_message":
                handle(message)
            elif "done" in params["payload"]:
                self.progress(params["payload"]["done"], params["payload"]["total"])
            else:
                self.told |= params["payload"]

        handler.handle_message = hear
        with self.reader.read_messages(handler) as params:
            yield params

    @property
    def expected_writer_count(self) -> int:
        """One process speaks. Dagster's own answer is the same, with a warning that the question is in preview."""
        return 1

    def no_messages_debug_text(self) -> str:
        """What is said of a trainer that never spoke."""
        return "The trainer ended before it said anything; its log is that of this step."


if __name__ == "__main__":
    main(Path(sys.argv[1]))
