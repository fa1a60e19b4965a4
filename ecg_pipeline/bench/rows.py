"""The table of benchmarks: each name is a function that makes its data and returns its results."""

from collections.abc import Callable, Mapping
from importlib import import_module

from ecg_pipeline.bench.compare import Row


def _benchmark(module: str, function: str) -> Callable[[], list[Row]]:
    # Imported when it is run, so that memory is measured without the libraries of other benchmarks.
    return lambda: getattr(import_module(f"ecg_pipeline.bench.{module}"), function)()


ROWS: Mapping[str, Callable[[], list[Row]]] = {
    "ingest": _benchmark("reading", "ingest"),
    "ingest-peer": _benchmark("reading", "ingest_peer"),
    "damaged": _benchmark("reading", "damaged"),
    "filter": _benchmark("drawing", "filter_leads"),
    "render": _benchmark("drawing", "render_matplotlib"),
    "render-opencv": _benchmark("drawing", "render_opencv"),
    "windows": _benchmark("waveforms", "windows"),
    "shards": _benchmark("drawing", "shards"),
    "batches": _benchmark("drawing", "batches"),
    "batches-waveforms": _benchmark("waveforms", "batches"),
    "end-to-end": _benchmark("scale", "end_to_end"),
    "linearity": _benchmark("scale", "linearity"),
    "memory": _benchmark("scale", "memory"),
    "ecgs-query": _benchmark("scale", "ecgs_query"),
    "import": _benchmark("scale", "import_definitions"),
    "pretrain": _benchmark("pretraining", "pretrain"),
    "pretrain-ecg-fm": _benchmark("ecg_fm", "pretrain"),
    "pretrain-ecg-fm-tiny": _benchmark("ecg_fm", "pretrain_tiny"),
    "contrast": _benchmark("ecg_fm", "contrast"),
    "pretrain-d-beta": _benchmark("d_beta", "pretrain"),
    "train-ecgfounder": _benchmark("founder", "train_ecgfounder"),
    "bootstrap": _benchmark("evaluation", "bootstrap"),
    "image-distance": _benchmark("evaluation", "image_distance"),
    "audit": _benchmark("audit", "audit"),
}
"""Benchmarks by name, in the order of the pipeline. Speed is relative to common libraries."""
