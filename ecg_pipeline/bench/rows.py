"""The table of benchmarks: each name is a function that makes its data and returns its results."""

from collections.abc import Callable, Mapping
from importlib import import_module

from ecg_pipeline.bench.compare import Row


def _of(module: str, function: str) -> Callable[[], list[Row]]:
    # Imported when it is run, so that memory is measured without the libraries of other benchmarks.
    return lambda: getattr(import_module(f"ecg_pipeline.bench.{module}"), function)()


ROWS: Mapping[str, Callable[[], list[Row]]] = {
    "ingest": _of("reading", "ingest"),
    "ingest-peer": _of("reading", "ingest_peer"),
    "damaged": _of("reading", "damaged"),
    "filter": _of("drawing", "filter_leads"),
    "render": _of("drawing", "render_matplotlib"),
    "render-opencv": _of("drawing", "render_opencv"),
    "shards": _of("drawing", "shards"),
    "batches": _of("drawing", "batches"),
    "end-to-end": _of("scale", "end_to_end"),
    "linearity": _of("scale", "linearity"),
    "memory": _of("scale", "memory"),
    "ecgs-query": _of("scale", "ecgs_query"),
    "import": _of("scale", "import_definitions"),
    "pretrain": _of("pretraining", "pretrain"),
    "bootstrap": _of("evaluation", "bootstrap"),
    "image-distance": _of("evaluation", "image_distance"),
}
"""Benchmarks by name, in the order of the pipeline. Speed is relative to the libraries that one would use otherwise."""
