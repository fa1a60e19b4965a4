"""Metadata of outputs for the Dagster UI: counts, tables and curves, never identifiers or pictures of patients.

Metadata is stored in Dagster's database. Pictures stay in the build's folder; the metadata links to them.
"""

import base64
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import polars as pl

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.cohorts.statements import NOT_STATED, STATED, UNKNOWN, StatementCodes, StatementTargets
from ecg_pipeline.cohorts.test_set import TestSet
from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.evaluation.zero_shot import TURN, ZeroShot
from ecg_pipeline.explanation.results import Saliency
from ecg_pipeline.images.distance import ImageDistance
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.ingest.labels import ClinicalLabels
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.links import image_preview, report_page, saliency_preview
from ecg_pipeline.metrics.table import METRICS, WITH_INTERVAL
from ecg_pipeline.models.start import START_WORDS, start_words
from ecg_pipeline.reporting.figures import (
    calibration_figure,
    decision_figure,
    precision_recall_figure,
    roc_figure,
    training_figure,
)
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.signals.windows import WaveformWindows
from ecg_pipeline.storage.files import read_json
from ecg_pipeline.texts.encode import LENGTH, TEXT_ID, TextTokens
from ecg_pipeline.texts.negatives import NO_TEXT_ID, TextNegatives
from ecg_pipeline.texts.site_texts import ClinicalTexts
from ecg_pipeline.texts.tokenizer import TextTokenizer
from ecg_pipeline.tokens.shards import TokenShards
from ecg_pipeline.tokens.tokenizer import ImageTokenizer, id_counts, usage
from ecg_pipeline.training.checkpoints import FinetunedModel, PretrainedModel
from ecg_pipeline.training.features import Features
from ecg_pipeline.training.recipes import OPTIMISTIC


def hospital_system(folder: Path) -> dict[str, Any]:
    """ECGs and bad files written for each site."""
    sites = read_json(folder / "written.json")["sites"]
    rows = [
        {"site": site, "ecgs": counts["ecgs"], "bad files": sum(counts["rejects"].values())}
        for site, counts in sites.items()
    ]
    return {"dagster/row_count": sum(row["ecgs"] for row in rows), "sites": _table(pl.DataFrame(rows))}


def test_set(tested: TestSet) -> dict[str, Any]:
    """Counts of ECGs, patients and positives."""
    table = tested.table()
    return {
        "dagster/row_count": len(table),
        "patients": table["patient"].n_unique(),
        "positives": int(table["label"].sum()),
        **{f"not in {view}": ecgs for view, ecgs in tested.left_out().items() if ecgs},
    }


def waveform_store(store: WaveformStore) -> dict[str, Any]:
    """Counts of ECGs, patients and rejects by reason; shapes and rates that occur."""
    ecgs, rejects = store.scan(), store.rejects()
    # Patients are counted by 64-bit hashes: as text, those of millions of ECGs would take a gigabyte.
    patient = pl.col("patient")
    counts = ecgs.select(
        ecgs=pl.len(), patients=patient.drop_nulls().hash().n_unique(), unknown=patient.null_count()
    ).collect(engine="streaming")
    shapes = ecgs.group_by("sampling_hz", "samples").len("ecgs").collect(engine="streaming")
    return {
        "dagster/row_count": counts["ecgs"].item(),
        "patients": counts["patients"].item(),
        "without_patient_id": counts["unknown"].item(),
        "rejected": len(rejects),
        "rejects_by_reason": _table(rejects.group_by("reason").len("files").sort("reason")),
        "shapes": _table(shapes.sort("sampling_hz", "samples")),
    }


def clinical_labels(labels: ClinicalLabels) -> dict[str, Any]:
    """Counts by system and code."""
    table = labels.labels()
    counts = table.group_by("system", "code").agg(labels=pl.len(), mean=pl.col("value").mean().round(2))
    return {"dagster/row_count": len(table), "labels": _table(counts.sort("labels", "code", descending=True).head(30))}


def filtered_waveforms(filtered: FilteredWaveforms) -> dict[str, Any]:
    """Count, and the quality of the recordings before the filter."""
    quality = filtered.quality()
    measures = [name for name in quality.columns if name.endswith("_mv")]
    return {
        "dagster/row_count": len(quality),
        "with_a_flat_lead": int((quality["flat_leads"] > 0).sum()),
        **{f"median_{name}": round(float(np.median(quality[name])), 4) for name in measures if len(quality)},
    }


def waveform_windows(windows: WaveformWindows, seconds: float) -> dict[str, Any]:
    """Counts of windows and ECGs, of those padded and left out, and how they were cut. seconds: length of a window."""
    index, attributes = windows.index(), windows.attributes()
    is_padded = pl.col("recorded_s") < pl.lit(seconds, pl.Float32)
    return {
        "dagster/row_count": len(index),
        "ecgs": index["ecg_id"].n_unique(),
        "padded": index.filter(is_padded).height,
        "left_out": len(windows.left_out()),
        **{name: str(value) for name, value in attributes.items()},
    }


def image_shards(images: ImageShards, home: Path) -> dict[str, Any]:
    """Count, and a link to the first images."""
    link = {"first_sheets": dg.MetadataValue.url(image_preview(images.folder, home=home))} if len(images) else {}
    return {"dagster/row_count": len(images), **link}


def image_tokenizer(tokenizer: ImageTokenizer) -> dict[str, Any]:
    """Vocabulary and its usage on training images, over all patches and over inked ones."""
    config = tokenizer.config()
    shown = {"vocabulary": tokenizer.vocabulary, "kind": config["kind"]}
    for name in ("usage", "usage_inked"):
        shown |= _usage(name, config.get(name, {}))
    return shown


def patch_tokens(tokens: TokenShards, vocabulary: int) -> dict[str, Any]:
    """Count of images, and how this site's patches use the vocabulary."""
    counts = np.zeros(vocabulary, np.int64)
    for _, ids in tokens:
        counts += id_counts(ids, vocabulary)
    return {"dagster/row_count": len(tokens), **(_usage("usage", usage(counts)) if counts.any() else {})}


def statement_codes(codes: StatementCodes) -> dict[str, Any]:
    """The codes that are predicted, with the ECGs of the pretraining set that have them."""
    table = codes.table()
    return {"dagster/row_count": len(table), "codes": _table(table)}


def statement_targets(targets: StatementTargets, codes: StatementCodes) -> dict[str, Any]:
    """Count of ECGs, and how many have, lack, and do not tell each code."""
    counts = np.zeros((3, len(codes.table())), np.int64)
    for _, said in targets:
        counts += [(said == value).sum(axis=0) for value in (STATED, NOT_STATED, UNKNOWN)]
    of_each = dict(zip(("stated", "not stated", "unknown"), counts, strict=True))
    table = codes.table().select("system", "code").with_columns(**of_each)
    return {"dagster/row_count": len(targets), "codes": _table(table)}


def clinical_texts(texts: ClinicalTexts) -> dict[str, Any]:
    """Counts by language, and of files and rows without a text by reason."""
    table = texts.texts()
    languages = table.group_by("language").agg(texts=pl.len(), different=pl.col("text").n_unique())
    skipped = pl.DataFrame(list(texts.skipped().items()), {"reason": pl.String, "files": pl.Int64}, orient="row")
    return {
        "dagster/row_count": len(table),
        "languages": _table(languages.sort("language")),
        "without_a_text": _table(skipped),
    }


def text_tokenizer(tokenizer: TextTokenizer) -> dict[str, Any]:
    """Vocabulary, and how it cuts the training texts."""
    config = tokenizer.config()
    return {name: config[name] for name in ("kind", "vocabulary", "texts", "tokens_per_text", "unknown_share")}


def text_tokens(tokens: TextTokens) -> dict[str, Any]:
    """Count of ECGs with a text, their tokens on average, and how many texts no training patient has."""
    rows = np.concatenate([array[:, [TEXT_ID, LENGTH]] for _, array in tokens]) if len(tokens) else np.zeros((0, 2))
    return {
        "dagster/row_count": len(tokens),
        "tokens_per_text": round(float(rows[:, 1].mean()), 2) if len(rows) else 0.0,
        "not_among_the_training_texts": int((rows[:, 0] == NO_TEXT_ID).sum()),
    }


def text_negatives(negatives: TextNegatives) -> dict[str, Any]:
    """Counts by language, and the least number of negatives of a text."""
    table = negatives.table().with_columns(negatives=(negatives.arrays()["negatives"] != NO_TEXT_ID).sum(axis=1))
    languages = table.group_by("language").agg(different=pl.len(), ecgs=pl.col("ecgs").sum(), least=pl.min("negatives"))
    return {"dagster/row_count": len(table), "languages": _table(languages.sort("language"))}


def pretrained_checkpoint(model: PretrainedModel) -> dict[str, Any]:
    """By seed the metrics of the last epoch and the loss curve; of a published checkpoint, its source file."""
    config = model.config()
    if "imported" in config:
        return {name: config[name] for name in ("imported", "origin", "sha256")} | start_words(config)
    shown: dict[str, Any] = {name: config[name] for name in ("origin", "sees", "examples")}
    for checkpoint in model.checkpoints():
        name, made = checkpoint.folder.name, checkpoint.config()
        trace = pl.read_parquet(checkpoint.folder / "trace.parquet")
        shown |= {f"{name}_steps": made["steps"]}
        shown |= {f"{name}_last_{metric}": value for metric, value in made["last_epoch"].items()}
        shown[f"{name}_loss_curve"] = _svg(training_figure(trace, ["loss"], f"{config['origin']}, {name}"))
        if "mask_frequency" in made:
            shown[f"{name}_mask_frequency"] = _grid(made["mask_frequency"])
    return shown


def _grid(shares: list[list[float]]) -> dg.MarkdownMetadataValue:
    """How often each patch was masked, in per cent, as a table with the rows and columns of the image."""
    rows = ["| " + " | ".join(f"{share:.0%}" for share in row) + " |" for row in shares]
    return dg.MetadataValue.md("\n".join([rows[0], "|---" * len(shares[0]) + "|", *rows[1:]]))


def features(made: Features) -> dict[str, Any]:
    """Number of examples, and the encoders with the length of their features."""
    encoders = made.encoders()
    widths = {name: array.shape[-1] for name in encoders for _, array in islice(made.of(name), 1)}
    return {
        "dagster/row_count": len(made.of(encoders[0])),
        "encoders": ", ".join(encoders),
        "features": max(widths.values(), default=0),
    }


def finetuned_model(model: FinetunedModel) -> dict[str, Any]:
    """Where the weights came from, on whom they were trained, what was chosen and why; curves by seed."""
    config = model.config()
    plain = {name: value for name, value in config.items() if isinstance(value, (str, int, float))}
    curves = {}
    for seed, checkpoint in model.checkpoints().items():
        trace = pl.read_parquet(checkpoint.folder / "trace.parquet")
        losses = [name for name in trace.columns if name.endswith("_loss")]
        curves[f"curve_seed_{seed}"] = _svg(training_figure(trace, losses, f"Fine-tuning, seed {seed}"))
    chosen = {name: ", ".join(map(str, values)) for name, values in model.chosen().items()}
    return {**plain, **start_words(config), "protocol": config["finetuning"]["protocol"], **chosen, **curves}


def cohort(made: Cohort) -> dict[str, Any]:
    """The participant flow by site."""
    flow = pl.DataFrame([{"site": site, **steps} for site, steps in made.flow().items()])
    table = made.table()
    return {
        "dagster/row_count": len(table),
        "patients": table["patient"].n_unique(),
        "positives": int(table["label"].sum()),
        "flow": _table(flow.transpose(include_header=True, header_name="step", column_names="site")),
    }


def evaluation(made: Evaluation) -> dict[str, Any]:
    """Metrics with intervals, curves, and tables of operating points and subgroups."""
    computed = made.evaluation_metrics()
    metrics = computed.metrics
    shown: dict[str, Any] = {name: metrics[name] for name in ("ecgs", "patients", "positives")}
    shown |= {name: metrics["model"][name] for name in ("chosen_by", "optimistic")}
    if "reason" in metrics:
        return shown | {"no_metrics_because": metrics["reason"]}
    for metric in METRICS:
        value = metrics[metric.name]
        if not metric.interval:
            shown[metric.name] = value
            continue
        shown |= {metric.name: value["value"], f"{metric.name}_95": _range(value)}
        if value["sd"] is not None:
            shown[f"{metric.name}_seeds"] = f"± {value['sd']:.3f} over {len(value['by_seed'])} seeds"
    predictions = {"model": made.predictions()}
    note = f"\n{OPTIMISTIC}" if metrics["model"]["optimistic"] else ""
    points = metrics["operating_points"]["reason"] or _table(_rounded(computed.operating_points))
    return shown | {
        "operating_points": points,
        "subgroups": _table(_rounded(computed.subgroups)),
        "roc": _svg(roc_figure(predictions, f"ROC{note}")),
        "precision_recall": _svg(precision_recall_figure(predictions, f"Precision and recall{note}")),
        "calibration": _svg(calibration_figure({"model": computed.calibration}, f"Calibration{note}")),
        "decision": _svg(decision_figure({"model": computed.decision}, f"Decision curve{note}")),
    }


def zero_shot(made: ZeroShot) -> dict[str, Any]:
    """The prompts, AUROC and average precision by network, prompts and language, and what was pretrained."""
    metrics = made.metrics()
    shown: dict[str, Any] = {name: metrics[name] for name in ("ecgs", "patients", "positives")}
    said = [
        {"task": task, "language": language, **prompt}
        for task, by_language in metrics["prompts"].items()
        for language, prompt in by_language.items()
    ]
    shown |= {"prompts": _table(pl.DataFrame(said)), **metrics["model"], "seeds": len(metrics["model"]["seeds"])}
    if "reason" in metrics:
        return shown | {"no_metrics_because": metrics["reason"]}
    shown |= {metric.name: metrics[metric.name]["value"] for metric in WITH_INTERVAL}
    rows = [
        {name: row[name] for name in TURN}
        | {metric.name: row[metric.name]["value"] for metric in WITH_INTERVAL}
        | {f"{metric.name}_95": _range(row[metric.name]) for metric in WITH_INTERVAL}
        for row in metrics["scores"]
        if "reason" not in row
    ]
    return shown | {"scores": _table(_rounded(pl.DataFrame(rows)))}


def saliency(made: Saliency, home: Path) -> dict[str, Any]:
    """The shares by model and window, the errors that are explained, and where to see the pictures."""
    shown: dict[str, Any] = {
        "ecgs": made.shares()["ecg"].n_unique(),
        "shares": _table(made.summary().with_columns(pl.col("share", "area_share", "ink_share").round(3))),
    }
    if len(errors := made.errors()):
        shown["errors"] = _table(errors.group_by("model", "kind", "threshold", maintain_order=True).len("ecgs"))
    links = [
        f"- [{picture.title}]({saliency_preview(made.folder, number, home=home)})"
        for number, picture in enumerate(made.pictures(), start=1)
    ]
    return shown | ({"pictures": dg.MetadataValue.md("\n".join(links))} if links else {})


def image_distance(distance: ImageDistance) -> dict[str, Any]:
    """The three mean distances, in grey levels, and the natural-image files that were skipped."""
    distances = distance.distances()
    skipped = [{"file": name, "reason": reason} for name, reason in distances.pop("natural_skipped").items()]
    return {**distances, "natural_skipped": len(skipped), "skipped_files": _table(pl.DataFrame(skipped[:30]))}


def report(made: Report, home: Path) -> dict[str, Any]:
    """Where the page is, and its numbers."""
    names = [metric.name for metric in WITH_INTERVAL]
    counts = ["task", "model", *START_WORDS, "fraction", "site", "ecgs", "positives", "seeds", "optimistic"]
    values = [column for name in names for column in (name, f"{name}_sd")]
    compared = ["task", "site", "fraction", "model", "other"]
    differences = [column for name in names for column in (name, f"{name}_p")]
    return {
        "page": dg.MetadataValue.url(report_page(made.folder, home=home)),
        "results": _table(_rounded(made.results().select([*counts, *values]))),
        "comparisons": _table(_rounded(made.comparisons())),
        "differences": _table(_rounded(made.differences().select([*compared, *differences]))),
    }


def _range(interval: Mapping[str, float]) -> str:
    return f"{interval['low']:.3f} to {interval['high']:.3f}"


def _usage(name: str, measures: Mapping[str, float]) -> dict[str, float]:
    return {f"{name}_{measure}": round(value, 4) for measure, value in measures.items()}


def _table(table: pl.DataFrame) -> dg.TableMetadataValue | dg.MarkdownMetadataValue:
    if table.is_empty():
        return dg.MetadataValue.md("none")
    return dg.MetadataValue.table([dg.TableRecord(_plain(row)) for row in table.iter_rows(named=True)])


def _rounded(table: pl.DataFrame) -> pl.DataFrame:
    return table.with_columns(pl.col(pl.Float64).round(3))


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with nulls as a dash: the UI's tables have no empty cell."""
    return {name: "–" if value is None else value for name, value in row.items()}


def _svg(text: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![figure](data:image/svg+xml;base64,{base64.b64encode(text.encode()).decode()})")
