"""The laws that keep what is tested apart from what was learned from, one function a law.

Each gives a sentence for every way in which its law is broken: what, how many, and which, by pseudonym. None is how it
must be. They hold tables against each other as they stand, and trust no rule that made them.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from math import isclose

import polars as pl

from ecg_pipeline.cohorts.splits import EXTERNAL, TRAIN
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule

NAMED = 5
"""Of more than this many, the first are named."""


def patients_crossing(table: pl.DataFrame) -> list[str]:
    """A patient of a cohort is in one part alone."""
    return _crossing(table, "patient", "patients are in more than one part")


def waveforms_crossing(table: pl.DataFrame) -> list[str]:
    """A waveform of a cohort stands in one part alone, under whatever record, patient and site; a record once."""
    crossing = _crossing(table, "waveform_sha256", "waveforms are in more than one part")
    repeated = table.filter(pl.col("record").is_duplicated())["record"]
    return crossing + _told(repeated, "ECGs are in the cohort more than once")


def external_inside(table: pl.DataFrame, external: Iterable[str], inside: Iterable[str]) -> list[str]:
    """ECGs of external sites are external and no others are; no external patient is among the patients `inside`."""
    is_site, is_part = pl.col("site").is_in(list(external)), pl.col("part") == EXTERNAL
    known = pl.col("patient").is_in(list(inside))
    return [
        *_told(table.filter(is_site & ~is_part)["record"], "ECGs of an external site are used inside"),
        *_told(table.filter(~is_site & is_part)["record"], "ECGs from inside are taken for external"),
        *_told(table.filter(is_part & known)["patient"], "external patients are also known inside"),
    ]


def unnested(table: pl.DataFrame) -> list[str]:
    """Each training patient of a cohort has one rank, the ranks of n of them are 1/n to n/n, and nobody else has one.

    Whoever is in a fraction is then in every larger one, with all ECGs, and a fraction f holds ceil(f n) patients.
    """
    training = table.filter(pl.col("part") == TRAIN)
    ranks = training.group_by("patient").agg(pl.col("rank").unique()).sort("patient")
    single = ranks.filter((pl.col("rank").list.len() == 1) & pl.col("rank").list.first().is_not_null())
    several = ranks.filter(~pl.col("patient").is_in(single["patient"].implode()))["patient"]
    found = _told(several, "training patients have no rank or several: fractions are not nested by patient")
    places = single["rank"].list.first().sort().to_list()
    even = all(isclose(rank, (place + 1) / len(places)) for place, rank in enumerate(places))
    if not found and not even:
        found.append(f"the ranks of {len(places)} training patients are not 1/n to n/n: fractions have other sizes")
    outside = table.filter((pl.col("part") != TRAIN) & pl.col("rank").is_not_null())
    return found + _told(outside["record"], "ECGs outside the training part have a rank in the fractions")


def mislabelled(
    table: pl.DataFrame,
    labels: Mapping[str, pl.DataFrame],
    rule: MeasurementRule | DiagnosisRule | StatementRule,
) -> list[str]:
    """Each label of a cohort is what the rule says of the sites' label tables, found row by row without `tasks.label`.

    labels: `ClinicalLabels.labels` by site.
    """
    wrong: list[str] = []
    for (site,), rows in table.group_by("site", maintain_order=True):
        facts = _facts(labels[str(site)], rule)
        for record, patient, acquired_at, label in rows.select("record", "patient", "acquired_at", "label").iter_rows():
            known = facts.get(record if isinstance(rule, StatementRule) else patient, [])
            if label != _label(known, acquired_at, rule):
                wrong.append(record)
    return _told(wrong, "ECGs have another label than the rule gives them")


def seen_before(seen: pl.DataFrame, kept: pl.DataFrame, by: str) -> list[str]:
    """No ECG, patient or waveform of `kept` is among those `seen` by a training.

    Both have the columns record, patient and waveform_sha256. by: what saw them, in words.
    """
    found = []
    for column, name in (("record", "ECGs"), ("patient", "patients"), ("waveform_sha256", "waveforms")):
        for (part,), rows in kept.group_by("part", maintain_order=True):
            met = rows.join(seen, on=column, how="semi")[column]
            found += _told(met, f"{name} of the {part} part were seen by {by}")
    return found


def wrongly_chosen(trace: pl.DataFrame, chosen_epoch: int, chosen_on: str) -> list[str]:
    """The chosen epoch is the first with the highest AUROC on the patients of `chosen_on`, of whom alone a trace tells.

    trace: a row an epoch, columns epoch and `{part}_auroc`. Without any AUROC the last epoch counts.
    """
    others = {"validation", "test", "external"} - {chosen_on}
    told = [name for name in trace.columns if name.split("_")[0] in others]
    found = [f"the trace of an epoch chosen on {chosen_on} patients has the columns {', '.join(told)}"] if told else []
    scored = trace.filter(pl.col(f"{chosen_on}_auroc").is_not_null())
    if scored.is_empty():
        best = trace["epoch"].max()
    else:
        best = scored.sort(f"{chosen_on}_auroc", "epoch", descending=[True, False])["epoch"][0]
    if chosen_epoch != best:
        found.append(f"epoch {chosen_epoch} was chosen, but epoch {best:g} is the best on {chosen_on} patients")
    return found


def _facts(labels: pl.DataFrame, rule: MeasurementRule | DiagnosisRule | StatementRule) -> dict[str, list[tuple]]:
    """Rows that a rule reads, as (observed_at, code, value), by record for statements and else by patient."""
    if isinstance(rule, StatementRule):
        rows = labels.filter((pl.col("system") == rule.system) & pl.col("record").is_not_null())
    else:
        rows = labels.filter((pl.col("system") == rule.kind) & (pl.col("code") == rule.code))
    whose = "record" if isinstance(rule, StatementRule) else "patient"
    facts: dict[str, list[tuple]] = {}
    for of, *fact in rows.select(whose, "observed_at", "code", "value").iter_rows():
        facts.setdefault(of, []).append(tuple(fact))
    return facts


def _label(
    facts: list[tuple], acquired_at: datetime | None, rule: MeasurementRule | DiagnosisRule | StatementRule
) -> int | None:
    """The label of one ECG from the facts about it, or None."""
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
            words = sorted((at or datetime.min, value) for at, _, value in facts)
            return int(words[-1][1] > 0) if words else None
        case StatementRule():
            if not facts or any(code in rule.exclude for _, code, _ in facts):
                return None
            given = (
                code in rule.positive and (value == 0 or value >= rule.minimum_likelihood) for _, code, value in facts
            )
            return int(any(given))


def _crossing(table: pl.DataFrame, column: str, what: str) -> list[str]:
    parts = table.group_by(column).agg(pl.col("part").n_unique())
    return _told(parts.filter(pl.col("part") > 1)[column], what)


def _told(which: Iterable[str], what: str) -> list[str]:
    """One sentence on a set of pseudonyms, or none where it is empty."""
    names = sorted(set(which))
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{len(names)} {what}: {', '.join(names[:NAMED])}{more}"]
