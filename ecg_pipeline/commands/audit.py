"""`ecg-pipeline audit`: where an output comes from."""

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from ecg_pipeline.commands.common import (
    HomeOption,
    JsonOption,
    ModelArgument,
    StudyOption,
    console,
    counted,
    open_archive,
    output_named,
    print_json,
)
from ecg_pipeline.provenance.audit import Audit, Audited
from ecg_pipeline.provenance.lineage import output_name
from ecg_pipeline.provenance.record import CUT, Record, Upstream


def audit(
    model: ModelArgument,
    *,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write a page that needs no network.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
    study: StudyOption = None,
) -> None:
    """Say where an output comes from: files, patients, settings, code, checks, and how often test data were used."""
    from ecg_pipeline.provenance.audit import audit as collect

    archive = open_archive(home, study)
    found = collect(archive, output_named(archive, model))
    if html:
        from ecg_pipeline.provenance.audit_page import audit_page
        from ecg_pipeline.storage.files import write_text

        typer.echo(write_text(html, audit_page(found)))
    elif as_json:
        print_json(found.as_json())
    else:
        _print(found)


def _print(found: Audit) -> None:
    output = found.output
    console.print(f"[bold]{escape(output_name(output))}[/bold]", highlight=False)
    _print_facts(found)
    console.print("\n[bold]Made of[/bold]  (asset@partition, data version, record)")
    console.print(_tree(found))
    _print_starts(found.audited)
    _print_people(found.audited)
    _print_checks(found.audited)
    _print_looks(found)


def _print_facts(found: Audit) -> None:
    output = found.output
    study = found.studies[output.study]
    threads, device = output.hardware.get("threads"), output.hardware.get("device")
    environment = found.environments.get(output.environment or "", {})
    rows = {
        "record": output.digest,
        "data version": output.data_version,
        "build": output.build,
        "files": f"{len(output.files)}, {counted(output.size_bytes, 'byte')}",
        "made": f"{output.ended_at}, in {output.seconds:.1f} s, by {output.user or 'unknown'}",
        "study": f"{study['name']}: {study['title']} (fingerprint {output.study})",
        "code": _code(output),
        "packages": f"Python {environment.get('python', output.packages.get('python'))}, "
        f"{environment.get('packages', len(output.packages))} packages, "
        f"lock {(environment.get('lock_sha256') or 'none')[:CUT]}",
        "machine": f"{output.hardware.get('machine')}, device {device}, {counted(threads or 1, 'thread')}",
        "seeds": ", ".join(f"{name} {seed}" for name, seed in output.seeds.items()) or "none",
        "mlflow": " ".join(filter(None, (output.mlflow_run_id, output.mlflow_model_id))) or "no run",
        "upstream": f"{counted(len(found.audited) - 1, 'output')}, {counted(len(found.lineage.sources), 'source')}",
    }
    for name, value in rows.items():
        console.print(f"  {name:<13} {escape(str(value))}", highlight=False, soft_wrap=True)
    for entry in found.lineage.missing:
        console.print(f"[red]  the record of {escape(_entry(entry, entry.record))} is gone[/red]")


def _code(output: Record) -> str:
    commit = output.git_commit or "not from a git checkout"
    return f"{commit}{' with changes that are not committed' if output.git_dirty else ''}"


def _tree(found: Audit) -> Tree:
    """The lineage as a tree; what was already printed is not opened again."""
    printed = set[str]()

    def branch(tree: Tree, record: Record) -> None:
        for entry in record.upstream:
            upstream = found.lineage.record_of(entry)
            is_again = upstream is not None and (upstream.digest or "") in printed
            digest = upstream.digest if upstream else None
            line = tree.add(f"{escape(_entry(entry, digest))}{' (above)' if is_again else ''}", highlight=False)
            if upstream is not None and not is_again:
                printed.add(upstream.digest or "")
                branch(line, upstream)

    root = Tree(escape(output_name(found.output)), highlight=False)
    branch(root, found.output)
    return root


def _entry(entry: Upstream, record: str | None) -> str:
    name = output_name(entry)
    return f"{name}  {entry.data_version[:CUT]}  {(record or 'source')[:CUT]}"


def _print_starts(audited: tuple[Audited, ...]) -> None:
    models = [one for one in audited if one.start]
    if models:
        console.print("\n[bold]Weights[/bold]")
    for one in models:
        words = "; ".join(f"{name.replace('_', ' ')}: {text}" for name, text in one.start.items())
        console.print(escape(f"  {output_name(one.record)}  {words}"), highlight=False, soft_wrap=True)


def _print_people(audited: tuple[Audited, ...]) -> None:
    console.print("\n[bold]Patients[/bold]  (rows, patients, positive)")
    for one in audited:
        if one.people is None:
            console.print(f"  the build of {escape(output_name(one.record))} is not here: purged, or missing")
        for row in one.people or ():
            positives = "" if row.positives is None else f", {row.positives:,}"
            words = " ".join((output_name(one.record), row.table, *row.by.values()))
            line = f"  {words}: {row.ecgs:,}, {row.patients:,}{positives}"
            console.print(escape(line), highlight=False, soft_wrap=True)


def _print_checks(audited: tuple[Audited, ...]) -> None:
    console.print("\n[bold]Checks[/bold]")
    for one in audited:
        for check in one.record.checks:
            state = "passed" if check.passed else "failed"
            note = ", with a warning" if check.warns else ""
            console.print(f"  {escape(output_name(one.record))}  {check.name}: {state}{note}", highlight=False)


def _print_looks(found: Audit) -> None:
    console.print("\n[bold]Test data[/bold]")
    if not found.looks:
        console.print("  was not used with this output")
    for look in found.looks:
        times = f"once, {look.first}"
        if look.times > 1:
            times = f"{look.times} times, first {look.first}, last {look.last}"
        console.print(f"  {escape(look.output)}: {times}", highlight=False, soft_wrap=True)
