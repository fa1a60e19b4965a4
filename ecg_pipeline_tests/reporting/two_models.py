"""Results of two models at three sites, whose scores have a planted skill and whose names try to be markup."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import polars as pl

from ecg_pipeline.evaluation.evaluate import write_evaluation
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import compute_metrics
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.models.start import FROZEN
from ecg_pipeline.reporting.results import StudyResults
from ecg_pipeline.reporting.tables import compute_cells, result_rows
from ecg_pipeline.signals.windows import WindowRecipe

RECIPE = EvaluationRecipe(bootstrap_draws=40)
ROLES = {"north": "internal", "south": "internal", "abroad": "external"}
HOSTILE = '<script>alert("x")</script> & <img src=http://evil.example/x.png>'
SKILL = {"heartbeit": 1.5, "other": 0.5}


def predictions(model, site, fraction=1.0, ecgs=60, seeds=(0, 1)):
    """Scores of planted skill; patients have two ECGs. Labels depend on the site alone."""
    labels = np.random.default_rng(list(site.encode())).integers(0, 2, ecgs)
    tables = []
    for seed in seeds:
        rng = np.random.default_rng([seed, *model.encode(), *site.encode()])
        odds = SKILL[model] * fraction * (2 * labels - 1) + rng.normal(size=ecgs)
        tables.append(
            pl.DataFrame(
                {
                    "ecg_id": [f"{site}{number:03d}" for number in range(ecgs)],
                    "site": site,
                    "patient": [f"{site}{number // 2}" for number in range(ecgs)],
                    "label": labels,
                    "age_years": [30.0 + number % 60 for number in range(ecgs)],
                    "sex": ["F" if number % 2 else "M" for number in range(ecgs)],
                    "device": "MAC55",
                    "seed": seed,
                    "score": 1 / (1 + np.exp(-odds)),
                },
                schema_overrides={"label": pl.Int8, "seed": pl.Int64},
            )
        )
    return pl.concat(tables)


def evaluation(table, out, reason=None, **start):
    thresholds = {} if reason else {seed: {"youden": 0.5, "sensitivity_90": 0.3} for seed in (0, 1)}
    about = {
        "operating_points": {"by_seed": {str(seed): points for seed, points in thresholds.items()}, "reason": reason},
        "model": {
            "seeds": [0, 1],
            "initialisation": RANDOM,
            "chosen_by": "highest AUROC on validation patients",
            "optimistic": False,
            "chosen_epochs": [1, 2],
            "train_ecgs": 90,
            "train_patients": 45,
            "train_positives": 44,
            **start,
        },
    }
    return write_evaluation(table, compute_metrics(table, thresholds, RECIPE), about=about, out=out)


def flow(ecgs):
    steps = {"ecgs_in_store": ecgs + 9, "without_patient_id": 4, "a_step_to_come": 3, "without_label": 2}
    return steps | {
        f"{part}_{what}": ecgs if part == "test" else 0
        for part in ("train", "validation", "test", "external")
        for what in ("ecgs", "patients", "positives")
    }


STARTS = {
    "heartbeit": {
        "weights": f"published file a.pth {HOSTILE}",
        "pretraining_saw": "ECGs, 150 labels",
        "licence": "MIT",
    },
    "other": {"weights": RANDOM, "fitting": FROZEN},
}
"""What `start_words` says of the models."""


def printed(words):
    """Words as a page prints them: a number and its percent sign stay on one line."""
    return words.replace(" %", "\u00a0%")


WAVEFORMS = {"sheet": None, "tokenizer": None, "distances": None, "pretraining": {}, "pretraining_traces": {}}
"""What a study without images and without pretraining has not."""


def of_waveforms(background, **others):
    """The background of a study of two small CNNs."""
    two = {"heartbeit": SmallCnnRecipe(window="ten"), "other": SmallCnnRecipe(window="ten", widths=(8, 16))}
    windows = {"ten": WindowRecipe(leads=("V2", "I"), sampling_hz=100, seconds=2.5, standardise="lead")}
    return replace(background, models=two, windows=windows, **WAVEFORMS, **others)


def words(page):
    """The text of a page without its style, figures and tags, in lower case."""
    return unescape(re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page)).lower()


def study_results(task, background):
    return StudyResults([task], result_rows(task, compute_cells(task, RECIPE)), background)
