"""`ecg-pipeline diff`: what two outputs differ in."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from ecg_pipeline.commands.common import (
    OUTPUT,
    HomeOption,
    JsonOption,
    StudyOption,
    console,
    open_archive,
    output_named,
    print_json,
)
from ecg_pipeline.provenance.diff import Difference, compare
from ecg_pipeline.provenance.lineage import output_name
from ecg_pipeline.provenance.record import CUT

_DIGEST = re.compile(r"\b[0-9a-f]{64}\b")


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help=OUTPUT)],
    b: Annotated[str, typer.Argument(metavar="B", help="The output to compare it with, named in the same ways.")],
    *,
    study: StudyOption = None,
    home: HomeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Compare two outputs, or two builds of one: records, studies, patients, and where they first differ."""
    archive = open_archive(home, study)
    found = compare(archive, output_named(archive, a), output_named(archive, b))
    if as_json:
        print_json(_content(found))
        return
    for line in _lines(found):
        console.print(line, soft_wrap=True, highlight=False)


def _content(found: Difference) -> dict[str, Any]:
    return {
        "a": {"output": output_name(found.a), "record": found.a.digest, "build": found.a.build},
        "b": {"output": output_name(found.b), "record": found.b.digest, "build": found.b.build},
        "record": {name: [asdict(one) for one in fields] for name, fields in found.record.items()},
        "study": list(found.study),
        "patients": [asdict(one) for one in found.patients],
        "not_on_disk": list(found.unread),
        "upstream_of_a_only": list(found.only_a),
        "upstream_of_b_only": list(found.only_b),
        "first_differences": [asdict(one) for one in found.causes],
    }


def _lines(found: Difference) -> Iterator[Text | Table]:
    for side, record in (("A", found.a), ("B", found.b)):
        yield Text(f"{side}  {output_name(record)}  build {record.build[:CUT]}  {record.ended_at}")
    reasons = (line for of in found.causes for line in (of.output, *(f"    {why}" for why in of.reasons)))
    yield from _headed("Where they first differ", reasons)
    for section, fields in found.record.items():
        values = (f"{one.field}: {one.a} → {one.b}" for one in fields)
        yield from _headed(f"Record: {section}", values)
    yield from _headed("Study", found.study)
    yield from _headed("Upstream of A only", found.only_a)
    yield from _headed("Upstream of B only", found.only_b)
    yield from _headed("No longer on disk, so its patients are not counted", found.unread)
    yield from _patients(found)


def _headed(title: str, lines: Iterable[str]) -> Iterator[Text]:
    """A heading with lines below it, their digests cut; nothing if there are none."""
    listed = list(lines)
    if listed:
        yield Text(f"\n{title}", "bold")
        yield from (Text(f"  {_DIGEST.sub(lambda found: found[0][:CUT], line)}") for line in listed)


def _patients(found: Difference) -> Iterator[Text | Table]:
    differing = [one for one in found.patients if one.only_a or one.only_b]
    if differing:
        table = Table("output", "table", "split", "A only", "B only", "both", title="Patients", title_justify="left")
        for one in differing:
            numbers = (f"{count:,}" for count in (one.only_a, one.only_b, one.both))
            table.add_row(
                Text(one.output, overflow="fold"), Text(one.table, overflow="fold"), one.split or "", *numbers
            )
        yield Text("")
        yield table
    if same := len(found.patients) - len(differing):
        yield Text(f"\n{same} {'other ' if differing else ''}tables and splits have the same patients in A and in B.")
