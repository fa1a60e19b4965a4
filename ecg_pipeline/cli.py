"""The `ecg-pipeline` command. Outputs are made in Dagster runs, which the UI shows."""

import os
import sys
import time
import webbrowser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ecg_pipeline.commands.audit import audit
from ecg_pipeline.commands.common import StudyOption, activate_study
from ecg_pipeline.commands.diff import diff
from ecg_pipeline.commands.export import export
from ecg_pipeline.commands.hold import hold
from ecg_pipeline.commands.plan import plan
from ecg_pipeline.commands.prune import prune
from ecg_pipeline.commands.reproduce import reproduce
from ecg_pipeline.commands.trace import trace_command
from ecg_pipeline.commands.verify import checkpoint, verify
from ecg_pipeline.commands.withdraw import withdraw_command
from ecg_pipeline.links import PORT
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.storage.files import write_json
from ecg_pipeline.study import (
    Study,
    StudyError,
    active_study,
    drop_folder,
    load_study,
    site_key,
    study_file,
    study_home,
)

if TYPE_CHECKING:
    import polars as pl

    from ecg_pipeline.orchestration.runs import Runner
    from ecg_pipeline.reporting.results import Report

PROVENANCE = "Provenance"
"""Panel of the commands on where outputs come from."""

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="From hospital XML to an evaluated ECG foundation model.",
)
study_app = typer.Typer(no_args_is_help=True, help="Check study files.")
app.add_typer(study_app, name="study")
app.command(rich_help_panel=PROVENANCE)(audit)
app.command("trace", rich_help_panel=PROVENANCE)(trace_command)
app.command(rich_help_panel=PROVENANCE)(diff)
app.command(rich_help_panel=PROVENANCE)(verify)
app.command(rich_help_panel=PROVENANCE)(checkpoint)
app.command(rich_help_panel=PROVENANCE)(plan)
app.command(rich_help_panel=PROVENANCE)(prune)
app.command(rich_help_panel=PROVENANCE)(hold)
app.command(rich_help_panel=PROVENANCE)(reproduce)
app.command("withdraw", rich_help_panel=PROVENANCE)(withdraw_command)
app.command(rich_help_panel=PROVENANCE)(export)
console = Console()
status = console.status("")


@app.command()
def demo() -> None:
    """Run the whole pipeline on a synthetic hospital system: MUSE XML to evaluation reports."""
    study = activate_study("demo")
    runner = _open(study)
    began = time.monotonic()
    made = _run_stale(runner)
    console.print(f"{made} runs in {time.monotonic() - began:.0f} s" if made else "Everything is up to date.")
    _print_results(study)


@app.command()
def materialize(
    assets: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ASSETS", help="Assets: a name, +name with everything upstream, or a Dagster selection."
        ),
    ] = None,
    partition: Annotated[
        list[str] | None,
        typer.Option(
            "--partition", metavar="PARTITION", help="A site, a fraction or a whole key; several may be given."
        ),
    ] = None,
    study: StudyOption = None,
    accept_fewer_files: Annotated[
        bool, typer.Option("--accept-fewer-files", help="Read drop folders even if most of their files are missing.")
    ] = False,
) -> None:
    """Materialise stale assets: all of them, or those named."""
    active = activate_study(study)
    config = {"resources": {"workspace": {"config": {"accept_fewer_files": True}}}} if accept_fewer_files else {}
    made = _run_stale(_open(active, config), assets or ["*"], partition or [])
    console.print(f"{made} runs" if made else "Everything is up to date.")
    _print_results(active)


@app.command()
def ui(
    study: StudyOption = None,
    port: Annotated[int, typer.Option(metavar="PORT", help="The first of three ports.")] = PORT,
) -> None:
    """Start the Dagster UI with its daemon, and servers for MLflow and reports."""
    activate_study(study)
    from ecg_pipeline.orchestration.servers.ui import UiError, serve

    try:
        serve(active_study(), port, lambda words: console.print(words, soft_wrap=True, highlight=False))
    except UiError as error:
        raise typer.Exit(_fail(str(error))) from None


@app.command()
def report(
    study: StudyOption = None, open_page: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False
) -> None:
    """Print the path of the newest benchmark report, or open it."""
    activate_study(study)
    made = _newest_report(active_study())
    if made is None:
        raise typer.Exit(_fail("There is no report yet: run `ecg-pipeline materialize`."))
    typer.echo(made.page)
    if open_page:
        webbrowser.open(made.page.as_uri())


@app.command()
def rejects(
    site: Annotated[str, typer.Argument(metavar="SITE", help="A site of the study.")], study: StudyOption = None
) -> None:
    """Print the names of a site's files that are not used, and why. Names may identify patients."""
    from ecg_pipeline.ingest.site import named_rejects
    from ecg_pipeline.ingest.store import WaveformStore

    active = activate_study(study)
    if site not in active.sites:
        raise typer.Exit(_fail(f"There is no site {site}; there are {', '.join(active.sites)}."))
    archive = _archive(active)
    record = archive.newest("waveform_store", site)
    if record is None:
        raise typer.Exit(_fail(f"{site} was not read yet: run `ecg-pipeline materialize waveform_store`."))
    try:
        named = named_rejects(drop_folder(active, site), site_key(active, site), WaveformStore(archive.folder(record)))
    except (StudyError, OSError, ValueError) as error:
        raise typer.Exit(_fail(str(error))) from None
    table = Table("file", "reason", "detail", "same as", title=f"{site}: {len(named)} files not used")
    for row in named.iter_rows():
        table.add_row(*(Text(_printable(cell or "")) for cell in row))
    console.print(table)


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAMES", help="Which benchmarks; by default all.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the rows to a file, not to the screen.")
    ] = None,
) -> None:
    """Run benchmarks: each stage compared with common libraries or with a limit."""
    from ecg_pipeline.bench.rows import ROWS

    if unknown := [name for name in names or () if name not in ROWS]:
        raise typer.Exit(_fail(f"There is no comparison {', '.join(unknown)}; there are {', '.join(ROWS)}."))
    rows = []
    for name in names or ROWS:
        with console.status(f"Timing {name}"):
            rows += ROWS[name]()
    if json_file:
        write_json(json_file, [asdict(row) for row in rows])
        return
    table = Table("name", "ratio", "least", "most", "target", "met", "against", "unit")
    for row in rows:
        numbers = (f"{number:,.{1 if number < 100 else 0}f}" for number in (row.ratio, row.low, row.high))
        table.add_row(row.name, *numbers, f"{row.target:,}", "yes" if row.met else "no", row.against, row.unit)
    console.print(table)


@study_app.command("check")
def study_check(file: Annotated[str, typer.Argument(metavar="STUDY", help="A built-in study or a file.")]) -> None:
    """Check a study file: its keys, its values, and that its sections are consistent."""
    try:
        checked = load_study(study_file(file))
    except StudyError as error:
        raise typer.Exit(_fail(str(error))) from None
    table = Table("task", "sites", "external", title=f"{checked.name}: {checked.title}")
    for name, task in checked.tasks.items():
        table.add_row(name, ", ".join(task.sites), ", ".join(task.external) or "-")
    console.print(table)
    console.print(f"models {', '.join(checked.models)}; fractions {', '.join(f'{f:g}' for f in checked.fractions)}")
    console.print(f"fingerprint {checked.fingerprint()}")


def _open(study: Study, config: dict[str, Any] | None = None) -> "Runner":
    """The study's runner. A missing folder of files ends the command, unless the study is synthetic."""
    missing = []
    for site in study.sites:
        try:
            folder = drop_folder(study, site)
        except StudyError as error:
            missing.append(str(error))
            continue
        if not folder.path.is_dir() and not study.synthetic:
            missing.append(f"sites.{site}.path: there is no folder {folder.path}")
    if missing:
        raise typer.Exit(_fail("\n".join(missing)))
    with status:
        status.update("Loading the asset graph")
        from ecg_pipeline.definitions import build_definitions, build_workspace
        from ecg_pipeline.orchestration.runs import Runner

        workspace = build_workspace(study).with_terminal_progress(status.update)
        return Runner(
            build_definitions(workspace),
            workspace,
            os.cpu_count() or 1,
            config or {},
            lambda line: console.print(_coloured(line)),
            status.update,
        )


def _coloured(line: str) -> Text:
    """A line about a run, coloured by how it ended."""
    return Text(line, "red" if line.startswith("✗") else "")


def _run_stale(runner: "Runner", assets: Sequence[str] = ("*",), partitions: Sequence[str] = ()) -> int:
    """Run what is stale and count the runs; a failure prints its message and ends the command."""
    from ecg_pipeline.orchestration.runs import RunsFailed

    try:
        with status:
            return len(runner.run_stale(assets, partitions))
    except RunsFailed as failure:
        raise typer.Exit(_fail(str(failure))) from None


def _print_results(study: Study) -> None:
    """Print the table of internal and external results, and where the report is."""
    from ecg_pipeline.metrics.table import METRICS
    from ecg_pipeline.models.start import START_WORDS
    from ecg_pipeline.training.recipes import OPTIMISTIC

    made = _newest_report(study)
    if made is None:
        return
    note = " (synthetic ECGs)" if study.is_synthetic else ""
    results = made.results()
    if results["optimistic"].any():
        note += f"\n{OPTIMISTIC}"
    metric = METRICS[0]
    columns = "task", "model", "fraction", f"internal {metric.label} (95 % CI)", f"external {metric.label}"
    table = Table(*columns, title=study.title + note)
    for (task, model, fraction), rows in results.group_by("task", "model", "fraction", maintain_order=True):
        internal, external = [], []
        for row in rows.iter_rows(named=True):
            (external if row["role"] == "external" else internal).append(_value(row, metric.name))
        table.add_row(str(task), str(model), f"{fraction:g}", "\n".join(internal), "\n".join(external) or "-")
    console.print(table)
    if set(START_WORDS) <= set(results.columns):  # a report of an earlier version does not say it
        console.print(_starts(results))
    console.print(f"Report   {made.page}", soft_wrap=True)
    _print_commands(study)


def _starts(results: "pl.DataFrame") -> Table:
    """A table of what the models of a report started from."""
    from ecg_pipeline.models.start import START_WORDS

    table = Table("model", *(name.replace("_", " ") for name in START_WORDS))
    for row in results.select("model", *START_WORDS).unique("model", maintain_order=True).iter_rows():
        table.add_row(*(Text(cell or "-") for cell in row))
    return table


def _value(row: dict[str, Any], metric: str) -> str:
    """A metric at one site with its interval, and the spread over seeds."""
    if row[metric] is None:
        return f"{row['site']} -"
    value = f"{row['site']} {row[metric]:.2f} ({row[f'{metric}_low']:.2f}-{row[f'{metric}_high']:.2f})"
    return value if row[f"{metric}_sd"] is None else f"{value} ± {row[f'{metric}_sd']:.3f} over {row['seeds']} seeds"


def _print_commands(study: Study) -> None:
    where = f"ECG_HOME={study_home(study).parent} " if os.environ.get("ECG_HOME") else ""
    program = Path(sys.argv[0]).parent / "ecg-pipeline"
    name = os.environ.get("ECG_STUDY") or study.name
    console.print(f"Dagster and MLflow   {where}{program} ui --study {name}", soft_wrap=True)


def _archive(study: Study) -> Archive:
    return Archive(study_home(study))


def _newest_report(study: Study) -> "Report | None":
    """The newest benchmark report of a study; None before any."""
    from ecg_pipeline.reporting.results import Report

    archive = _archive(study)
    record = archive.newest("benchmark_report", None)
    return Report(archive.folder(record)) if record else None


def _printable(name: str) -> str:
    """A file's name without what would move a terminal's cursor."""
    return "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in name)


def _fail(message: str) -> int:
    Console(stderr=True).print(message, style="red", soft_wrap=True, markup=False)
    return 2


if __name__ == "__main__":
    app()
