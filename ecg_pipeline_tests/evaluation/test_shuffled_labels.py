"""A figure is worth something only where labels that say nothing get none: drawn hearts, fine-tuned and evaluated."""

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.evaluation.evaluate import evaluate
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.load import build_classifier, classifier_facts
from ecg_pipeline.signals.filters import FilterRecipe, clean
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate
from ecg_pipeline.training.finetune import finetune
from ecg_pipeline.training.recipes import FinetuneRecipe

TRAIN, VALIDATION, TEST = 200, 60, 400
SHEET = SheetRecipe(height_px=112, width_px=112, margin_px=8)


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """(images, examples): one ECG a person, half of them with the planted changes of a low ejection fraction."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(TRAIN + VALIDATION + TEST) % 2)
    x_mv = np.stack(
        [
            simulate(
                sample_heart(sample_person(rng), disease="low_ef" if label else "none", severity=0.8, rng=rng),
                seconds=5,
                sampling_hz=250,
                rng=rng,
            )[0]
            for label in labels
        ]
    )
    sheets = render_many(clean(x_mv, FilterRecipe(sampling_hz=250, samples=1250)), SHEET)
    names = [f"r{number:04d}" for number in range(len(labels))]
    folder = tmp_path_factory.mktemp("hearts")
    write_shard(folder, 0, sheets)
    write_index(
        folder,
        pl.DataFrame({"ecg_id": names, "shard": 0, "row": range(len(names))}, schema_overrides={"shard": pl.Int32}),
    )
    examples = pl.DataFrame(
        {"ecg_id": names, "site": "s", "patient": names, "label": labels.tolist(), "age_years": 60.0, "sex": "F"},
        schema_overrides={"label": pl.Int8},
    ).with_columns(device=pl.lit("cart"))
    return ArrayShards(folder), examples


def auroc_on_test_people(images, examples, out):
    """AUROC on the test people of a classifier fine-tuned on the training people."""
    train, rest = examples.head(TRAIN), examples.tail(-TRAIN)
    recipe = FinetuneRecipe(epochs=6, batch=16)
    model = TimmRecipe(name="mobilenetv3_small_050")
    tuned = finetune(
        lambda seed: build_classifier(model, None, seed=seed),
        recipe,
        view={"s": images},
        train=train,
        selection=rest.head(VALIDATION),
        facts=classifier_facts(model, None),
        out=out / "model",
    )
    evaluated = EvaluationRecipe(bootstrap_draws=20)
    made = evaluate(tuned, images, rest.tail(-VALIDATION), recipe=evaluated, out=out / "evaluation")
    return made.metrics()["auroc"]["value"]


def test_planted_disease_is_found_and_shuffled_labels_are_not(hearts, tmp_path):
    images, examples = hearts
    shuffled = examples.with_columns(pl.col("label").shuffle(seed=1))
    assert auroc_on_test_people(images, examples, tmp_path / "planted") > 0.9
    # The AUROC of chance on 200 and 200 people has a standard deviation of 0.029.
    assert auroc_on_test_people(images, shuffled, tmp_path / "shuffled") == pytest.approx(0.5, abs=0.1)
