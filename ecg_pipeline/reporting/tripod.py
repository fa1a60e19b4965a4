"""TRIPOD+AI (Collins et al., BMJ 2024), item by item: what the records know is filled in, the rest left to authors."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from ecg_pipeline.models.recipes import TimmRecipe
from ecg_pipeline.reporting.results import Background, TaskResults

ITEMS = (
    ("1", "Title: development or evaluation, target population, outcome"),
    ("2", "Abstract (by the checklist for abstracts)"),
    ("3a", "Background: health care context and rationale"),
    ("3b", "Background: target population, purpose and users of the model"),
    ("3c", "Background: known inequalities between groups"),
    ("4", "Objectives: development, evaluation or both"),
    ("5a", "Sources of data, and how representative they are"),
    ("5b", "Dates of the data"),
    ("6a", "Setting: number and place of centres"),
    ("6b", "Eligibility"),
    ("6c", "Treatments received"),
    ("7", "Preparation and quality control of the data"),
    ("8a", "Outcome: definition, time horizon, assessment"),
    ("8b", "Outcome: who assessed it, where judgement was needed"),
    ("8c", "Outcome: blinding"),
    ("9a", "Predictors: choice"),
    ("9b", "Predictors: definition and measurement"),
    ("9c", "Predictors: who assessed them, where judgement was needed"),
    ("10", "Sample size and its justification"),
    ("11", "Missing data"),
    ("12a", "Analysis: how data were split between development and evaluation"),
    ("12b", "Analysis: how predictors were handled"),
    ("12c", "Analysis: type of model, building, tuning, internal validation"),
    ("12d", "Analysis: differences between centres"),
    ("12e", "Analysis: measures and plots of performance, comparison of models"),
    ("12f", "Analysis: updating of the model"),
    ("12g", "Analysis: how predictions were calculated"),
    ("13", "Class imbalance"),
    ("14", "Fairness"),
    ("15", "Output of the model, and thresholds"),
    ("16", "Differences between data for development and for evaluation"),
    ("17", "Ethical approval"),
    ("18a", "Funding"),
    ("18b", "Conflicts of interest"),
    ("18c", "Protocol"),
    ("18d", "Registration"),
    ("18e", "Sharing of data"),
    ("18f", "Sharing of code"),
    ("19", "Involvement of patients and public"),
    ("20a", "Results: flow of participants, with and without the outcome"),
    ("20b", "Results: characteristics by data source"),
    ("20c", "Results: evaluation data compared with development data"),
    ("21", "Results: participants and outcomes in each analysis"),
    ("22", "Results: full model, so that others can use it"),
    ("23a", "Results: performance with intervals, and in subgroups"),
    ("23b", "Results: differences between centres"),
    ("24", "Results: updating"),
    ("25", "Discussion: interpretation, fairness"),
    ("26", "Discussion: limitations"),
    ("27a", "Usability: poor or missing input"),
    ("27b", "Usability: interaction and expertise of users"),
    ("27c", "Usability: next steps"),
)
"""Number and subject of every item, in short words."""


@dataclass(frozen=True)
class Item:
    """One item: its number and subject, the part of the page that answers it, and what the records say; both are empty
    where only an author can answer."""

    number: str
    subject: str
    where: str
    text: str


def tripod_items(tasks: Sequence[TaskResults], results: pl.DataFrame, background: Background) -> list[Item]:
    """Every item, in order."""
    known = _known(tasks, results, background)
    return [Item(number, subject, *known.get(number, ("", ""))) for number, subject in ITEMS]


def _known(tasks: Sequence[TaskResults], results: pl.DataFrame, background: Background) -> dict[str, tuple[str, str]]:
    """What the records say, by item: where on the page, and in words."""
    titles = {site: title for task in tasks for site, title in task.titles.items()}
    roles = {site: role for task in tasks for site, role in task.roles.items()}
    split, tuning, evaluation = background.split, background.finetuning, background.evaluation
    sites = "; ".join(f"{title} ({roles[site]})" for site, title in titles.items())
    nets = "; ".join(
        f"{name}: {recipe.name if isinstance(recipe, TimmRecipe) else f'BEiT, {recipe.depth} layers of {recipe.width}'}"
        for name, recipe in background.models.items()
    )
    flow = {site: steps for task in tasks for site, steps in task.flow.items()}
    without_id = sum(steps["without_patient_id"] for steps in flow.values())
    threshold = (
        "Three thresholds, fixed on validation patients: Youden's, sensitivity 90 %, specificity 90 %."
        if not tuning.is_optimistic
        else "No thresholds: no validation patients were kept to fix them on."
    )
    invented = " The patients of at least one source are invented." if background.synthetic else ""
    known = {
        "4": ("", "Development and evaluation of models on ECGs drawn as images."),
        "5a": ("Table 1", f"{sites}.{invented}"),
        "6a": ("Table 1", f"{len(titles)} sources: {sites}."),
        "6b": ("From files to ECGs", "Files that hold a whole, readable ECG, of a patient with an id and a label."),
        "7": (
            "From files to ECGs",
            "Every file that was not used has one of a closed list of reasons. Filters and layout are the same for "
            "all patients.",
        ),
        "8a": ("Table 1", " ".join(f"{task.title}: {task.outcome}" for task in tasks)),
        "9a": ("", "The waveform of eight leads (I, II, V1 to V6); no other predictor."),
        "9b": ("", "One image of 224 x 224 pixels an ECG, on a fixed scale of millivolts and time."),
        "10": ("Table 1", "All usable ECGs; no calculation of a sample size."),
        "11": ("From files to ECGs", f"ECGs without a patient id ({without_id:,}) or a label were left out."),
        "12a": (
            "Table 1",
            f"By patient: {100 * split.test:g} % test, {100 * split.validation:g} % validate, the others train"
            f"{', and by the folds of PTB-XL' if split.kind == 'ptb_xl_folds' else ''}. External sites only test.",
        ),
        "12b": ("", "Sheets as they are, normalised as each model's weights were trained."),
        "12c": (
            "Where this differs from the paper",
            f"{nets}. {tuning.epochs} epochs, protocol {tuning.protocol}, {len(tuning.seeds)} seed"
            f"{'s' if len(tuning.seeds) > 1 else ''}; no tuning of hyperparameters.",
        ),
        "12d": ("Tables 2 and 3", "Each site by itself, and those inside together."),
        "12e": (
            "Tables 2 to 6",
            "AUROC, average precision, Brier score, calibration, decision curves, operating points; intervals from "
            f"{evaluation.bootstrap_draws} bootstrap draws over patients; paired comparisons, with DeLong's test.",
        ),
        "12f": ("", "None."),
        "12g": ("", "Softmax of two logits, from the network of the chosen epoch of each seed."),
        "13": ("Table 1", "Nothing was done about it: cross entropy without weights, no resampling."),
        "14": ("Subgroups", "Nothing was done in training; performance is given by sex, age, site and device."),
        "15": ("Operating points", f"A probability. {threshold}"),
        "16": ("Table 1", "External sites differ by hospital; the rule of the label is the same everywhere."),
        "18f": ("record.json", "ecg-pipeline, Apache-2.0. The record beside this page names its version and commit."),
        "20a": ("From files to ECGs", "See there."),
        "20b": ("Table 1", "ECGs, patients and positives by part and site."),
        "21": ("Tables 1 to 3", f"{len(results):,} analyses, each with its patients and positives."),
        "22": ("record.json", "Weights and recipe of every model are kept; the records name their folders."),
        "23a": ("Tables 2 to 6", "See there."),
        "23b": ("Tables 2 and 3", "See there."),
        "24": ("", "None."),
        "26": ("Where this differs from the paper", "Differences of protocol and their effects."),
        "27a": ("From files to ECGs", "Files that cannot be read whole are rejected, with a reason."),
    }
    if background.recorded:
        known["5b"] = ("", f"ECGs recorded from {background.recorded[0]} to {background.recorded[1]}.")
    return known
