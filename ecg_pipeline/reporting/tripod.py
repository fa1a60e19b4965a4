"""TRIPOD+AI (Collins et al., BMJ 2024): items filled in from the study's records, the rest left to the authors."""

from dataclasses import dataclass

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.metrics.decision import TARGET_RATE
from ecg_pipeline.metrics.table import METRICS
from ecg_pipeline.reporting.outline import HEADINGS, TABLE_NUMBERS, table_words
from ecg_pipeline.reporting.results import Background, StudyResults

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
    """One item of the checklist. where: the section of the page that answers it. text: what the study's records say.

    Both are empty where only an author can answer.
    """

    number: str
    subject: str
    where: str
    text: str


def tripod_items(study: StudyResults) -> list[Item]:
    """Every item, in order."""
    known = _known(study)
    return [Item(number, subject, *known.get(number, ("", ""))) for number, subject in ITEMS]


def _known(study: StudyResults) -> dict[str, tuple[str, str]]:
    """What the study's records say, by item: where on the page, and in words."""
    tasks, background = study.tasks, study.background
    titles = {site: title for task in tasks for site, title in task.titles.items()}
    roles = {site: role for task in tasks for site, role in task.roles.items()}
    split, tuning, evaluation = background.split, background.finetuning, background.evaluation
    sites = "; ".join(f"{title} ({roles[site]})" for site, title in titles.items())
    nets = "; ".join(
        f"{name}: {'linear probe of a frozen ' if name in background.probes else ''}{recipe.description}"
        for name, recipe in background.models.items()
    )
    flow = {site: steps for task in tasks for site, steps in task.flow.items()}
    without_id = sum(steps["without_patient_id"] for steps in flow.values())
    own = "".join(f", {name} {recipe.epochs}" for name, recipe in background.own_finetuning.items())
    threshold = (
        f"Three thresholds, fixed on validation patients: Youden's, sensitivity {100 * TARGET_RATE:g} %, "
        f"specificity {100 * TARGET_RATE:g} %."
        if not tuning.is_optimistic
        else "No thresholds: the protocol keeps no validation patients to fix them on."
    )
    invented = " The patients of at least one source are synthetic." if background.synthetic else ""
    views, leads = _views(background)
    first, last = min(TABLE_NUMBERS.metrics.values()), max(TABLE_NUMBERS.metrics.values())
    studied, by_fraction = table_words(TABLE_NUMBERS.studied), table_words(first, last)
    performance = table_words(first, TABLE_NUMBERS.subgroups)
    deviations = HEADINGS["deviations"] if background.paper else ""
    known = {
        "4": ("", "Development and evaluation of models on ECGs."),
        "5a": (studied, f"{sites}.{invented}"),
        "6a": (studied, f"{len(titles)} sources: {sites}."),
        "6b": (HEADINGS["flow"], "Files that hold a whole, readable ECG, of a patient with an id and a label."),
        "7": (
            HEADINGS["flow"],
            "Every file that was not used has one of a closed list of reasons. Filters and layout are the same for "
            "all patients.",
        ),
        "8a": (studied, " ".join(f"{task.title}: {task.outcome}" for task in tasks)),
        "9a": ("", f"The waveform of the leads {', '.join(leads)}; no other predictor."),
        "9b": ("", views),
        "10": (studied, "All usable ECGs; no calculation of a sample size."),
        "11": (HEADINGS["flow"], f"ECGs without a patient id ({without_id:,}) or a label were left out."),
        "12a": (
            studied,
            f"By patient: {100 * split.test:g} % for testing, {100 * split.validation:g} % for validation, the others "
            f"for training{', and by the folds of PTB-XL' if split.kind == 'ptb_xl_folds' else ''}. External sites are "
            "used for testing only.",
        ),
        "12b": ("", "As they are, normalised as each model's weights were trained."),
        "12c": (
            deviations,
            f"{nets}. {tuning.epochs} epochs{own}, protocol {tuning.protocol}, {len(tuning.seeds)} seed"
            f"{'s' if len(tuning.seeds) > 1 else ''}; no tuning of hyperparameters{_penalties(background)}.",
        ),
        "12d": (by_fraction, "Each site separately, and the internal sites together."),
        "12e": (
            performance,
            f"{', '.join(metric.label for metric in METRICS)}, calibration, decision curves, operating points; "
            f"intervals from {evaluation.bootstrap_draws} bootstrap draws over patients; paired comparisons, with "
            "DeLong's test.",
        ),
        "12f": ("", "None."),
        "12g": (
            "",
            "Sigmoid of the network's log-odds, at the chosen epoch"
            f"{', or the chosen C of a probe,' if background.probes else ''} of each seed.",
        ),
        "13": (studied, "Not corrected: binary cross entropy without weights, no resampling."),
        "14": (HEADINGS["subgroups"], "Not addressed in training; metrics are given by sex, age, site and device."),
        "15": (HEADINGS["points"], f"A probability. {threshold}"),
        "16": (studied, "External sites differ by hospital; the rule of the label is the same everywhere."),
        "18f": ("record.json", "ecg-pipeline, Apache-2.0. The record beside this page names its version and commit."),
        "20a": (HEADINGS["flow"], "See there."),
        "20b": (studied, "ECGs, patients and positives by split and site."),
        "21": (
            table_words(TABLE_NUMBERS.studied, last),
            f"{len(study.rows):,} analyses, each with its patients and positives.",
        ),
        "22": ("record.json", "Weights and recipe of every model are kept; the records name their folders."),
        "23a": (performance, "See there."),
        "23b": (by_fraction, "See there."),
        "24": ("", "None."),
        "27a": (HEADINGS["flow"], "Files that cannot be read whole are rejected, with a reason."),
    }
    if background.paper:
        known["26"] = (deviations, "Differences of protocol and their effects.")
    if background.recorded:
        known["5b"] = ("", f"ECGs recorded from {background.recorded[0]} to {background.recorded[1]}.")
    return known


def _penalties(background: Background) -> str:
    """How the penalties of linear probes are chosen, in words; nothing without probes."""
    if not background.probes:
        return ""
    probe = next(iter(background.probes.values()))
    return (
        f", except that of the logistic regression of linear probes on frozen features: C is one of "
        f"{', '.join(f'{c:g}' for c in probe.c)}, by AUROC on {probe.chosen_on} patients"
    )


def _views(background: Background) -> tuple[str, list[str]]:
    """What models read, in words, and all leads in it."""
    words, leads = [], set[str]()
    if (sheet := background.sheet) is not None:
        words.append(
            f"One image of {sheet.height_px} x {sheet.width_px} px per ECG, on a fixed scale of millivolts and time."
        )
        leads |= set(INDEPENDENT_LEADS)
    for name, window in background.windows.items():
        words.append(
            f"Waveforms `{name}`: {len(window.leads)} leads of {window.seconds:g} s at {window.sampling_hz} Hz, in "
            f"{window.units}."
        )
        leads |= set(window.leads)
    return " ".join(words), [lead for lead in LEADS if lead in leads]
