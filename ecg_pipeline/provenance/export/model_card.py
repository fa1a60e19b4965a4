"""A model card in Markdown, for people, from the facts that all exports state."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from ecg_pipeline.models.start import START_WORDS
from ecg_pipeline.provenance.export.facts import CountFact, Facts, OutputFact
from ecg_pipeline.storage.files import write_text


def write(facts: Facts, out: Path) -> list[Path]:
    """Write the card to the file `out`."""
    return [write_text(out, card(facts))]


def card(facts: Facts) -> str:
    """The card's text."""
    sections = (
        _head(facts),
        _weights(facts),
        _data(facts),
        _evaluations(facts),
        _settings(facts.output),
        _checks(facts),
        _made_of(facts),
        _environment(facts.output),
        _files(facts.output),
    )
    return "\n".join(line for section in sections for line in (*section, ""))


def _head(facts: Facts) -> list[str]:
    output, study = facts.output, facts.study
    family = f"a network of the family {output.model['family']}" if "family" in output.model else "an output"
    lines = [f"# {output.name}", "", f"{family[0].upper()}{family[1:]} in the study “{study.title or study.name}”."]
    if study.task:
        lines += ["", f"Task: {study.task}."]
    if study.is_synthetic:
        lines += ["", "**Every patient is synthetic: the figures say nothing about medicine.**"]
    return [
        *lines,
        "",
        "It is research software and not a medical device. No use is stated or approved here; whoever uses the model "
        "must show that it works for their patients.",
    ]


def _weights(facts: Facts) -> list[str]:
    rows = [(of.name, *(of.start.get(name, "–") for name in START_WORDS)) for of in facts.outputs if of.start]
    return ["## Weights", "", *_table(("model", "weights", "pretraining saw", "licence", "fitting"), rows)]


def _data(facts: Facts) -> list[str]:
    own = [count for count in facts.counts if count.output == facts.output.name]
    others = [count for count in facts.counts if count.output != facts.output.name]
    sites = [(site.name, site.title, site.role, site.patients) for site in facts.study.sites]
    left_out = [(reject.site, reject.reason.replace("_", " "), reject.files) for reject in facts.rejects]
    return [
        "## Patients",
        "",
        *_table(("site", "title", "role", "patients"), sites),
        "",
        f"In the tables of {facts.output.name} itself:",
        "",
        *_counts(own),
        "",
        "In the tables of what it was made of, and of its evaluations:",
        "",
        *_counts(others),
        "",
        "Files that were read and not used:",
        "",
        *_table(("site", "reason", "files"), left_out),
    ]


def _counts(counts: Sequence[CountFact]) -> list[str]:
    rows = [
        (count.output, count.table, count.site, _text(count.split), _text(count.label), count.ecgs, count.patients)
        for count in counts
    ]
    return _table(("output", "table", "site", "split", "label", "ECGs", "patients"), rows)


def _evaluations(facts: Facts) -> list[str]:
    if not facts.metrics:
        return ["## Figures", "", "No evaluation of this output has been made."]
    rows = [
        (
            metric.evaluation,
            metric.name.replace("_", " "),
            f"{metric.value:.3f}",
            "" if metric.low is None or metric.high is None else f"{metric.low:.3f} to {metric.high:.3f}",
            metric.ecgs,
            metric.patients,
            metric.positives,
        )
        for metric in facts.metrics
    ]
    columns = ("evaluation", "figure", "value", "95 % interval", "ECGs", "patients", "positives")
    return ["## Figures", "", *_table(columns, rows)]


def _settings(output: OutputFact) -> list[str]:
    seeds = ", ".join(f"{name} {seed}" for name, seed in output.seeds.items())
    text = json.dumps(output.settings, indent=2, ensure_ascii=False)
    return ["## Settings", "", f"Seeds: {seeds or 'none'}.", "", "```json", text, "```"]


def _checks(facts: Facts) -> list[str]:
    rows = [
        (
            output.name,
            check.name.replace("_", " "),
            "passed" if check.passed else "failed",
            "yes" if check.warns else "",
        )
        for output in facts.described
        for check in output.checks
    ]
    return ["## Checks", "", *_table(("output", "check", "outcome", "warns"), rows)]


def _made_of(facts: Facts) -> list[str]:
    rows = [
        (
            output.name,
            _cut(output.data_version),
            _cut(output.record),
            _cut(output.git_commit or ""),
            output.ended_at[:19],
        )
        for output in facts.outputs
    ]
    rows += [(source.name, _cut(source.data_version), "files as they came", "", "") for source in facts.sources]
    rows += [(entry.name, _cut(entry.data_version), "**gone**", "", "") for entry in facts.missing]
    lines = _table(("output", "data version", "record", "commit", "made (UTC)"), rows)
    return ["## Made of", "", f"Record of {facts.output.name}: SHA-256 `{facts.output.record}`.", "", *lines]


def _environment(output: OutputFact) -> list[str]:
    changed = " with uncommitted changes" if output.git_dirty else ""
    machine = ", ".join(f"{name} {value}" for name, value in output.hardware.items() if value is not None)
    lines = [
        "## Code and machine",
        "",
        f"- ecg-pipeline {output.version}, commit {output.git_commit or 'unknown'}{changed}, Python {output.python}",
        f"- {machine}; {output.seconds:,.0f} s",
    ]
    if output.peak_memory_bytes:
        lines.append(f"- {output.peak_memory_bytes / 2**20:,.0f} MiB of memory at most")
    if output.lock_sha256:
        lines.append(f"- requirements.lock: SHA-256 `{output.lock_sha256}`")
    return [*lines, f"- {len(output.packages)} packages; the formats slsa and cyclonedx list their versions"]


def _files(output: OutputFact) -> list[str]:
    rows = [
        (file.path, "" if file.size_bytes is None else file.size_bytes, f"`{file.sha256}`") for file in output.files
    ]
    return ["## Files", "", *_table(("file", "bytes", "SHA-256"), rows)]


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    lines = [" | ".join(str(cell).replace("|", "\\|") for cell in row) for row in rows]
    if not lines:
        return ["None."]
    return [f"| {' | '.join(columns)} |", f"|{' --- |' * len(columns)}", *(f"| {line} |" for line in lines)]


def _text(value: object) -> str:
    return "" if value is None else str(value)


def _cut(digest: str) -> str:
    return digest[:16]
