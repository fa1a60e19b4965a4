"""What is measured: each name makes its own data, and gives one row or more."""

from collections.abc import Callable, Mapping
from importlib import import_module

from ecg_pipeline.bench.compare import Row


def _of(module: str, function: str) -> Callable[[], list[Row]]:
    # Imported when it is run, so that no measurement carries the memory of another's libraries.
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
    "records-query": _of("scale", "records_query"),
    "import": _of("scale", "import_definitions"),
    "pretrain": _of("pretraining", "pretrain"),
    "bootstrap": _of("evaluation", "bootstrap"),
    "image-distance": _of("evaluation", "image_distance"),
}
"""In the order of the pipeline. Speed is a ratio to what one would do otherwise, both timed in turn in one run."""
