"""Checks against leakage from training into testing, one function per rule.

A docstring states the rule; the function returns a sentence for each way in which it is violated: what, how many, and
which, by pseudonym. An empty list is a pass. The functions compare tables and use none of the code that made them.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import isclose

import polars as pl

from ecg_pipeline.cohorts.splits import EXTERNAL, SPLITS, TRAIN
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule

MAX_LISTED = 5
"""Largest number of pseudonyms listed in a sentence."""

SYSTEM = re.compile(r"([a-z0-9_]+):")
"""Beginning of a label that names its system; names of MUSE statements may have a colon further on."""


def patients_crossing(table: pl.DataFrame) -> list[str]:
    """Every patient of a cohort is in one split only."""
    return _crossing(table, "patient", "patients are in more than one split")


def waveforms_crossing(table: pl.DataFrame) -> list[str]:
    """Every waveform of a cohort is in one split only, whatever its id, patient and site; every ECG occurs once."""
    crossing = _crossing(table, "waveform_sha256", "waveforms are in more than one split")
    repeated = table.filter(pl.col("ecg_id").is_duplicated())["ecg_id"]
    return crossing + _sentence(repeated, "ECGs are in the cohort more than once")


def external_seen_internally(table: pl.DataFrame, *, external: Iterable[str], internal: Iterable[str]) -> list[str]:
    """ECGs are in the external split if and only if their site is external, and no external patient is an internal one.

    external: sites. internal: patients, see `cohort.known_internally`.
    """
    is_site, is_external = pl.col("site").is_in(list(external)), pl.col("split") == EXTERNAL
    known = pl.col("patient").is_in(list(internal))
    return [
        *_sentence(table.filter(is_site & ~is_external)["ecg_id"], "ECGs of an external site are in an internal split"),
        *_sentence(table.filter(~is_site & is_external)["ecg_id"], "internal ECGs are in the external split"),
        *_sentence(
            table.filter(is_external & known)["patient"],
            "external patients are also internal or pretrained on",
        ),
    ]


def unnested(table: pl.DataFrame) -> list[str]:
    """Every training patient of a cohort has one place in the fraction order, the places of n patients are 1/n to n/n,
    and no other ECG has one.

    Fractions are then nested by patient, and a fraction f has ceil(f n) patients.
    """
    training = table.filter(pl.col("split") == TRAIN)
    places = training.group_by("patient").agg(place=pl.col("fraction_order").unique()).sort("patient")
    single = places.filter((pl.col("place").list.len() == 1) & pl.col("place").list.first().is_not_null())
    several = places.filter(~pl.col("patient").is_in(single["patient"].implode()))["patient"]
    found = _sentence(several, "training patients have no or several places: fractions are not nested by patient")
    order = single["place"].list.first().sort().to_list()
    even = all(isclose(place, (number + 1) / len(order)) for number, place in enumerate(order))
    if not found and not even:
        found.append(f"the places of {len(order)} training patients are not 1/n to n/n: fractions have other sizes")
    outside = table.filter((pl.col("split") != TRAIN) & pl.col("fraction_order").is_not_null())
    return found + _sentence(outside["ecg_id"], "ECGs outside the training split have a place in the fraction order")


def mislabelled(
    table: pl.DataFrame,
    labels: Mapping[str, pl.DataFrame],
    rule: MeasurementRule | DiagnosisRule | StatementRule,
) -> list[str]:
    """Every label of a cohort follows from the rule and the label tables, computed row by row, without `tasks.label`.

    labels: `ClinicalLabels.labels` by site.
    """
    wrong: list[str] = []
    for (site,), rows in table.group_by("site", maintain_order=True):
        facts = _facts(labels[str(site)], rule)
        labelled = rows.select("ecg_id", "patient", "acquired_at", "label")
        for ecg_id, patient, acquired_at, label in labelled.iter_rows():
            known = facts.get(ecg_id if isinstance(rule, StatementRule) else patient, [])
            if label != _label(known, acquired_at, rule):
                wrong.append(ecg_id)
    return _sentence(wrong, "ECGs have another label than the rule gives them")


def answers_pretrained_on(labels: Iterable[str], rule: MeasurementRule | DiagnosisRule | StatementRule) -> list[str]:
    """No statement that makes an ECG positive in a task is among the labels of a pretraining.

    labels: each as `system:code`, or a bare name of a published file, which is compared with the codes as it is.
    Measurements and diagnoses are not stated on an ECG, so no label is an answer of theirs.
    """
    if not isinstance(rule, StatementRule):
        return []
    answers = {*rule.positive, *(f"{rule.system}:{code}" for code in rule.positive)}
    found = [label for label in labels if label in answers]
    return _sentence(found, f"statements that make an ECG positive ({rule.system}) were labels of the pretraining")


def not_compared(labels: Iterable[str], rule: MeasurementRule | DiagnosisRule | StatementRule) -> list[str]:
    """The labels of a pretraining whose vocabulary is not the task's, so that they may mean one of its answers.

    Bare names of published files are statements as GE MUSE words them.
    """
    if not isinstance(rule, StatementRule):
        return []
    systems = {label: stated[1] if (stated := SYSTEM.match(label)) else "muse" for label in labels}
    return [label for label, system in systems.items() if system != rule.system]


def seen_before(held_out: pl.DataFrame, *, seen: pl.DataFrame, by: str) -> list[str]:
    """No ECG, patient or waveform of `held_out` was seen in a training.

    Both tables: columns ecg_id, patient, waveform_sha256; held_out: split, too. by: the training, in words.
    """
    found = []
    for column, name in (("ecg_id", "ECGs"), ("patient", "patients"), ("waveform_sha256", "waveforms")):
        for (split,), rows in held_out.group_by("split", maintain_order=True):
            leaked = rows.join(seen, on=column, how="semi")[column]
            found += _sentence(leaked, f"{name} of the {split} split were seen by {by}")
    return found


def wrongly_chosen(trace: pl.DataFrame, *, chosen: float, chosen_on: str) -> list[str]:
    """What was chosen is the first with the highest AUROC on the split `chosen_on`, and the trace has no other split.

    trace: first column what was tried in this order, an epoch or the C of a linear probe; and `{split}_auroc`. Without
    any AUROC it is the last row.
    """
    others = set(SPLITS) - {TRAIN, chosen_on}
    wrong = [name for name in trace.columns if name.split("_")[0] in others]
    found = []
    if wrong:
        found.append(f"the trace of a choice on {chosen_on} patients has the columns {', '.join(wrong)}")
    tried = trace.columns[0]
    scored = trace.filter(pl.col(f"{chosen_on}_auroc").is_not_null())
    if scored.is_empty():
        best = trace[tried][-1]
    else:
        best = scored.sort(f"{chosen_on}_auroc", descending=True, maintain_order=True)[tried][0]
    if chosen != best:
        found.append(f"{tried} {chosen:g} was chosen, but {tried} {best:g} is the best on {chosen_on} patients")
    return found


def _facts(labels: pl.DataFrame, rule: MeasurementRule | DiagnosisRule | StatementRule) -> dict[str, list[tuple]]:
    """The label rows that a rule uses, as (observed_at, code, value): by ECG for statements, else by patient."""
    if isinstance(rule, StatementRule):
        rows = labels.filter((pl.col("system") == rule.system) & pl.col("ecg_id").is_not_null())
    else:
        rows = labels.filter((pl.col("system") == rule.kind) & (pl.col("code") == rule.code))
    by = "ecg_id" if isinstance(rule, StatementRule) else "patient"
    facts: dict[str, list[tuple]] = {}
    for key, *fact in rows.select(by, "observed_at", "code", "value").iter_rows():
        facts.setdefault(key, []).append(tuple(fact))
    return facts


def _label(
    facts: list[tuple], acquired_at: datetime | None, rule: MeasurementRule | DiagnosisRule | StatementRule
) -> int | None:
    """The label of one ECG from its rows of `_facts`; None if it has no label."""
    match rule:
        case MeasurementRule():
            near = sorted(
                (abs(acquired_at - at), at, value)
                for at, _, value in facts
                if acquired_at is not None and at is not None
            )
            in_window = near and near[0][0] <= timedelta(days=rule.window_days)
            return int(near[0][2] <= rule.at_most) if in_window else None
        case DiagnosisRule():
            dated = sorted((at or datetime.min, value) for at, _, value in facts)
            return int(dated[-1][1] > 0) if dated else None
        case StatementRule():
            if not facts or any(code in rule.exclude for _, code, _ in facts):
                return None
            given = (
                code in rule.positive and (value == 0 or value >= rule.minimum_likelihood) for _, code, value in facts
            )
            return int(any(given))


def _crossing(table: pl.DataFrame, column: str, what: str) -> list[str]:
    splits = table.group_by(column).agg(pl.col("split").n_unique())
    return _sentence(splits.filter(pl.col("split") > 1)[column], what)


def _sentence(which: Iterable[str], what: str) -> list[str]:
    """A sentence that lists a set of pseudonyms; none if it is empty."""
    names = sorted(set(which))
    if not names:
        return []
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return [f"{len(names)} {what}: {', '.join(names[:MAX_LISTED])}{more}"]
