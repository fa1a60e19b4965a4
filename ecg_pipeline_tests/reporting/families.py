"""A table of model families from planted predictions: pretrained arms, arms from nothing, probes, and a baseline."""

import numpy as np
import polars as pl

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.evaluation.evaluate import write_evaluation
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import compute_metrics
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.heartbeit.recipes import HeartBeitPretraining, HeartBeitRecipe
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.models.start import FROZEN
from ecg_pipeline.reporting.recipes import ComparisonsRecipe, Pair
from ecg_pipeline.reporting.results import Background, PretrainingCost, TaskResults
from ecg_pipeline.signals.windows import WindowRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe

RECIPE = EvaluationRecipe(bootstrap_draws=40)
SEEDS = (0, 1, 2)
SITE = "ptb_xl"
SAW = {"beit": "ECGs", "fm": "ECGs", "founder": "ECGs, 44 labels", "dbeta": "ECGs, reports"}
"""What the pretraining of each family saw."""

SKILL = {
    "beit": 1.0,
    "beit_scratch": 0.4,
    "fm": 2.2,
    "fm_scratch": 1.0,
    "founder": 2.2,
    "founder_scratch": 0.9,
    "dbeta": 1.3,
    "dbeta_scratch": 1.2,
    "small_cnn": 1.3,
}
"""Distance of the labels' mean scores, in standard deviations of the noise."""

TRAINED_ON = {0.01: (12, 12, 0), 0.1: (112, 97, 32), 1.0: (1141, 980, 253)}
"""ECGs, patients and positive ECGs of each fraction."""

FRACTIONS = tuple(TRAINED_ON)


def predictions(model, *, skill, fraction, ecgs, task="", trained=True):
    """Scores whose noise is half of the patient, who is hard for every model, and half of the model and seed."""
    rng = np.random.default_rng([ecgs, *task.encode()])
    labels, shared = (rng.random(ecgs) < 0.25).astype(np.int8), rng.normal(size=ecgs)
    odds = skill * (0.7 + 0.3 * fraction) * labels + shared
    tables = []
    for seed in SEEDS:
        own = np.random.default_rng([seed, *model.encode(), *task.encode()]).normal(size=ecgs)
        scores = 1 / (1 + np.exp(-(odds + 0.5 * own)))
        columns = {
            "ecg_id": [f"{number:04d}" for number in range(ecgs)],
            "site": SITE,
            "patient": [f"p{number // 2 if number < 100 else number}" for number in range(ecgs)],
            "label": labels,
            "age_years": 60.0,
            "sex": "F",
            "device": "AT",
            "seed": seed,
            "score": scores if trained else [None] * ecgs,
        }
        types = {"label": pl.Int8, "seed": pl.Int64, "score": pl.Float64}
        tables.append(pl.DataFrame(columns, schema_overrides=types))
    return pl.concat(tables)


def start_of(model):
    family = model.split("_")[0]
    probe = {"fitting": FROZEN} if "probe" in model else {}
    if family not in SAW or "scratch" in model or "random" in model:
        return {"initialisation": RANDOM, "weights": RANDOM, **probe}
    weights = {"initialisation": f"{family}'s objective", "weights": f"{family}'s objective, seeds 0, 1, 2"}
    return {**weights, "pretraining_saw": SAW[family], **probe}


def evaluation(folder, model, *, skill, fraction, ecgs, task=""):
    trained_ecgs, patients, positives = TRAINED_ON[fraction]
    reason = None if positives else f"not trained: the {trained_ecgs} training ECGs of this fraction hold one label"
    table = predictions(model, skill=skill, fraction=fraction, ecgs=ecgs, task=task, trained=reason is None)
    thresholds = {} if reason else {seed: {"youden": 0.5} for seed in SEEDS}
    about = {
        "operating_points": {"by_seed": {str(seed): found for seed, found in thresholds.items()}, "reason": reason},
        "model": {
            "seeds": list(SEEDS),
            "chosen_by": "highest AUROC on validation patients",
            "optimistic": False,
            "train_ecgs": trained_ecgs,
            "train_patients": patients,
            "train_positives": positives,
            "parameters": 300_000 + 1000 * len(model),
            **({} if "probe" in model or reason else {"flops": 10**13 + 4 * 10**12 * ("beit" in model)}),
            **({"not_trained": reason} if reason else {}),
            **start_of(model),
        },
    }
    return write_evaluation(table, compute_metrics(table, thresholds, RECIPE, reason=reason), about=about, out=folder)


def task_of(folder, name, skills, pairs, *, title="Myocardial infarction", ecgs=300, fractions=FRACTIONS):
    """A task whose models have these skills."""
    places = [(model, fraction, SITE) for model in skills for fraction in fractions]
    steps = {"ecgs_in_store": ecgs, "without_patient_id": 0, "without_label": 0}
    steps |= {
        f"{split}_{what}": ecgs if split == "test" else 0
        for split in ("train", "validation", "test", "external")
        for what in ("ecgs", "patients", "positives")
    }
    return TaskResults(
        name=name,
        title=title,
        outcome="the ECG carries one of IMI, AMI (scp).",
        evaluations={
            (model, fraction, site): evaluation(
                folder / name / model / str(fraction),
                model,
                skill=skills[model],
                fraction=fraction,
                ecgs=ecgs,
                task=name,
            )
            for model, fraction, site in places
        },
        evaluation_counts=dict.fromkeys(places, 1),
        flow={SITE: steps},
        rejects={SITE: {}},
        roles={SITE: "transfer"},
        titles={SITE: "PTB-XL"},
        pairs=pairs,
        thread_seconds={(model, 1.0): 12.0 * (1 + number) for number, model in enumerate(skills)},
    )


def pairs_of(families=tuple(SAW), arm="", nothing="_scratch", baseline="small_cnn"):
    """Each family minus itself from nothing and, if there is one, minus the baseline."""
    return [
        pair
        for family in families
        for pair in (
            Pair(f"{family}{arm}", f"{family}{nothing}", "nothing"),
            *([Pair(f"{family}{arm}", baseline, "baseline")] if baseline else []),
        )
    ]


def probe_skills(shift=0.0):
    return {
        f"{family}{arm}": SKILL[family] * gain + shift
        for family in SAW
        for arm, gain in (("_probe", 0.7), ("_random_probe", 0.4))
    }


def background(**others):
    return Background(
        **{
            "paper": None,
            "synthetic": False,
            "reference": "beit",
            "sheet": None,
            "windows": {"ten": WindowRecipe(leads=("V2", "I"), sampling_hz=100, seconds=2.5, standardise="lead")},
            "models": {
                model: HeartBeitRecipe() if model.split("_")[0] in SAW else SmallCnnRecipe(window="ten")
                for model in SKILL
            },
            "tokenizer": None,
            "pretraining": dict.fromkeys(SAW, HeartBeitPretraining()),
            "pretraining_traces": {},
            "pretrained_on": {family: {"PTB-XL": {"ecgs": 1141, "patients": 980}} for family in SAW},
            "split": SplitRecipe(),
            "finetuning": FinetuneRecipe(seeds=SEEDS),
            "own_finetuning": {},
            "probes": {},
            "evaluation": RECIPE,
            "distances": None,
            "recorded": None,
            "comparisons": ComparisonsRecipe(baseline="small_cnn", fractions=(0.1, 1.0)),
            "pretraining_costs": {
                family: PretrainingCost(200_000, 4 * 10**14 + 10**14 * number, 3, 1000.0 + 100 * number)
                for number, family in enumerate(SAW)
            },
            **others,
        }
    )
