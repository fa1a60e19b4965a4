"""Two models at three sites, and the report of their task."""

import polars as pl
import pytest

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import MeasurementRule
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.heartbeit.recipes import HeartBeitPretraining, HeartBeitRecipe
from ecg_pipeline.reporting.page import write_report
from ecg_pipeline.reporting.results import Background, TaskResults
from ecg_pipeline.reporting.words import outcome
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline_tests.reporting.two_models import HOSTILE, RECIPE, ROLES, SKILL, STARTS, evaluation, flow, predictions


@pytest.fixture(scope="session")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluations")
    places = [(model, fraction, site) for model in SKILL for fraction in (0.5, 1.0) for site in ROLES]
    return TaskResults(
        name="low_lvef",
        title=f"Low ejection fraction {HOSTILE}",
        outcome=outcome(MeasurementRule()),
        evaluations={
            place: evaluation(predictions(place[0], place[2], place[1]), folder / str(number), **STARTS[place[0]])
            for number, place in enumerate(places)
        },
        evaluation_counts={place: 3 if place == ("other", 1.0, "abroad") else 1 for place in places},
        flow={site: flow(60) for site in ROLES},
        rejects={site: {"empty_file": 71, "flat_signal": 72} for site in ROLES},
        roles=ROLES,
        titles={site: f"{site} {HOSTILE}" for site in ROLES},
    )


@pytest.fixture(scope="session")
def background():
    return Background(
        paper="heartbeit",
        synthetic=False,
        reference="heartbeit",
        sheet=SheetRecipe(),
        windows={},
        models={"heartbeit": HeartBeitRecipe(), "other": TimmRecipe()},
        tokenizer=TokenizerRecipe(),
        pretraining={"heartbeit": HeartBeitPretraining()},
        pretraining_traces={
            "heartbeit": pl.DataFrame(
                {
                    "step": [1, 2],
                    "loss": [9.0, 8.0],
                    "accuracy": [0.0, 0.1],
                    "accuracy_inked": [0.0, 0.2],
                    "accuracy_of_background": [0.1, 0.1],
                }
            )
        },
        pretrained_on={"heartbeit": {HOSTILE: {"ecgs": 1234, "patients": 567}}},
        split=SplitRecipe(),
        finetuning=FinetuneRecipe(seeds=(0, 1)),
        own_finetuning={},
        probes={},
        evaluation=RECIPE,
        distances={
            "ecg_ecg": 2.5,
            "natural_natural": 50.25,
            "ecg_natural": 120.75,
            "ecg_images": 20,
            "natural_images": 10,
            "natural_source": "three photographs",
        },
        recorded=("1990-01", "2001-12"),
    )


@pytest.fixture(scope="session")
def report(task, background, tmp_path_factory):
    out = tmp_path_factory.mktemp("report")
    return write_report(HOSTILE, [task], background, facts={"Study": HOSTILE}, out=out)
