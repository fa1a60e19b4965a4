"""`ecg-pipeline plan`: what would run again, before it is run."""

from collections.abc import Sequence
from dataclasses import asdict
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from ecg_pipeline.commands.common import JsonOption, activate_study, console, counted, fail, print_json
from ecg_pipeline.study import StudyError, study_home

if TYPE_CHECKING:
    from ecg_pipeline.orchestration.impact import Impact

NAMED = 4
"""How many upstream outputs or settings are named with a partition; JSON has all."""

StudyArgument = Annotated[
    str | None, typer.Argument(metavar="STUDY", help="A built-in study or a file; by default ECG_STUDY.")
]


def plan(study: StudyArgument = None, as_json: JsonOption = False) -> None:
    """Say what would run again for the study and files as they are now, why, and for how long. Runs nothing."""
    active = activate_study(study)
    try:
        with console.status("Loading the asset graph"):
            from ecg_pipeline.definitions import build_definitions, build_workspace
            from ecg_pipeline.orchestration import without_preview_warnings
            from ecg_pipeline.orchestration.impact import impact

            workspace = build_workspace(active)
            with without_preview_warnings():
                found = impact(workspace, build_definitions(workspace).resolve_asset_graph())
    except StudyError as error:
        fail(str(error))
    certain = [one for one in found if one.is_certain]
    possible = [one for one in found if not one.is_certain]
    if as_json:
        print_json({"study": active.name, "home": str(study_home(active))} | _content(certain, possible))
        return
    if not found:
        console.print("Everything is up to date.")
    _print("Will run", certain)
    _print("Run if the content of what they read changes", possible)


def _content(certain: Sequence["Impact"], possible: Sequence["Impact"]) -> dict[str, Any]:
    return {
        "runs": [asdict(one) for one in certain],
        "may_run": [asdict(one) for one in possible],
        "seconds": sum(one.seconds or 0 for one in certain),
        "seconds_at_most": sum(one.seconds or 0 for one in (*certain, *possible)),
    }


def _print(title: str, outputs: Sequence["Impact"]) -> None:
    """Print partitions with their reasons; those of one asset that share their reasons are one entry."""
    if not outputs:
        return
    console.print(Text(f"{title}: {counted(len(outputs), 'output')}, {_time(outputs)}", "bold"), soft_wrap=True)
    for (asset, reasons), group in groupby(outputs, lambda one: (one.asset, one.reasons)):
        rows = list(group)
        partitions = ", ".join(one.partition for one in rows if one.partition)
        console.print(Text(f"  {'  '.join(filter(None, (asset, partitions, _time(rows))))}"), soft_wrap=True)
        for cause, of_cause in groupby(reasons, lambda reason: reason.cause):
            console.print(Text(f"      {cause}{_listed([reason.what for reason in of_cause])}"), soft_wrap=True)


def _listed(words: Sequence[str]) -> str:
    """What a cause consists of, the first few by name."""
    named = [word for word in words if word]
    more = f", and {len(named) - NAMED} more" if len(named) > NAMED else ""
    return f": {', '.join(named[:NAMED])}{more}" if named else ""


def _time(outputs: Sequence["Impact"]) -> str:
    """Time that outputs take one after the other, by their last records; a `?` where some were never made."""
    known = [one.seconds for one in outputs if one.seconds is not None]
    if not known:
        return "time unknown"
    return duration(sum(known)) + ("" if len(known) == len(outputs) else " + ?")


def duration(seconds: float) -> str:
    """A duration in seconds, minutes or hours."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
