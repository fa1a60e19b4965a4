"""The page of an audit: self-contained, with a graph of assets that can be folded, searched and printed."""

from dataclasses import dataclass
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ecg_pipeline.provenance.audit import Audit, Audited
from ecg_pipeline.provenance.lineage import output_name
from ecg_pipeline.provenance.record import CUT

BOX_PX, ROW_PX, COLUMN_PX, MARGIN_PX = (230, 40), 62, 290, 12
"""Sizes of the graph: an asset's box, and the distances between rows and columns of boxes."""


@dataclass(frozen=True)
class Box:
    """An asset in the graph. partitions: how many of its outputs are upstream. x_px, y_px: upper left corner."""

    asset: str
    partitions: int
    x_px: float
    y_px: float
    anchor: str
    is_output: bool


@dataclass(frozen=True)
class Edge:
    """An asset that another one was made of, as a curve from box to box."""

    source: str
    target: str
    path: str


@dataclass(frozen=True)
class Graph:
    """The assets upstream of an output, in columns from sources to the output."""

    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    width_px: float
    height_px: float


def audit_page(found: Audit) -> str:
    """The page of an audit as HTML."""
    return (
        _environment()
        .get_template("audit.html.j2")
        .render(
            audit=found,
            graph=lay_out(found),
            records=[_shown(one) for one in reversed(found.audited)],
            name=output_name,
            cut=CUT,
            style=_report_style(),
            script=script(),
        )
    )


def script() -> str:
    """The page's script, which a server's content security policy allows by its digest."""
    return _source(_environment(), "audit.js")


def lay_out(found: Audit) -> Graph:
    """Place the assets: each one column to the right of the last one that it was made of."""
    outputs: dict[str, set[str | None]] = {}
    made_of: dict[str, set[str]] = {}
    for one in found.audited:
        record = one.record
        outputs.setdefault(record.asset, set()).add(record.partition)
        made_of.setdefault(record.asset, set()).update(entry.asset for entry in record.upstream)
        for entry in record.upstream:
            outputs.setdefault(entry.asset, set()).add(entry.partition)
    columns: dict[str, int] = {}

    @cache
    def column(asset: str) -> int:
        return 1 + max((column(of) for of in made_of.get(asset, ()) if of != asset), default=-1)

    for asset in outputs:
        columns[asset] = column(asset)
    places: dict[str, tuple[float, float]] = {}
    tallest = 0
    for number in range(max(columns.values()) + 1):
        here = [asset for asset in outputs if columns[asset] == number]
        # Beside what they were made of, so that few lines cross.
        here.sort(key=lambda asset: (_mean([places[of][1] for of in made_of.get(asset, ()) if of in places]), asset))
        for row, asset in enumerate(here):
            places[asset] = MARGIN_PX + number * COLUMN_PX, MARGIN_PX + row * ROW_PX
        tallest = max(tallest, len(here))
    last = {one.record.asset: _anchor(one) for one in found.audited}
    boxes = tuple(
        Box(asset, len(outputs[asset]), *places[asset], last.get(asset, ""), asset == found.output.asset)
        for asset in outputs
    )
    edges = tuple(
        Edge(of, asset, _curve(places[of], places[asset]))
        for asset, upstream in made_of.items()
        for of in sorted(upstream)
    )
    width = 2 * MARGIN_PX + max(columns.values()) * COLUMN_PX + BOX_PX[0]
    return Graph(boxes, edges, width, 2 * MARGIN_PX + tallest * ROW_PX)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _curve(source: tuple[float, float], target: tuple[float, float]) -> str:
    x, y = source[0] + BOX_PX[0], source[1] + BOX_PX[1] / 2
    to_x, to_y = target[0], target[1] + BOX_PX[1] / 2
    middle = (x + to_x) / 2
    return f"M{x:g},{y:g} C{middle:g},{y:g} {middle:g},{to_y:g} {to_x:g},{to_y:g}"


def _anchor(one: Audited) -> str:
    return f"record-{(one.record.digest or '')[:CUT]}"


def _shown(one: Audited) -> dict[str, Any]:
    return {"record": one.record, "people": one.people, "start": one.start, "anchor": _anchor(one)}


def _report_style() -> str:
    from ecg_pipeline.reporting.environment import environment

    return _source(environment(), "style.css")


def _source(environment: Environment, name: str) -> str:
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("ecg_pipeline.provenance"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
