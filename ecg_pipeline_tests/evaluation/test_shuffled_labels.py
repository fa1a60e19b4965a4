"""A figure is worth something only where labels that say nothing get none: simulated hearts, a small network of every
family, fine-tuned and probed, and evaluated."""

import numpy as np
import polars as pl
import pytest
import torch

from ecg_pipeline.evaluation.evaluate import evaluate
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.leads import derive
from ecg_pipeline.models import FAMILIES
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.models.load import build_classifier, classifier_facts
from ecg_pipeline.signals.filters import FilterRecipe, clean
from ecg_pipeline.signals.windows import WindowRecipe, cut_windows
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate
from ecg_pipeline.training.features import extract_features
from ecg_pipeline.training.finetune import finetune
from ecg_pipeline.training.probe import fit_probe
from ecg_pipeline.training.recipes import FinetuneRecipe, ProbeRecipe
from ecg_pipeline_tests.models.examples import ROWS, SAMPLES
from ecg_pipeline_tests.training.small import SIDE, write_view

TRAIN, VALIDATION, TEST = 160, 40, 400
RECORDED_HZ, SECONDS = 250, 2
SHEET = SheetRecipe(rows=4, columns=2, height_px=SIDE, width_px=SIDE, margin_px=0)
WINDOW = WindowRecipe(sampling_hz=SAMPLES // SECONDS, seconds=SECONDS, standardise="lead")


@pytest.fixture(scope="module")
def hearts(tmp_path_factory):
    """(view of images, view of windows, table): an ECG a person, half of them with the planted changes of a low
    ejection fraction."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(TRAIN + VALIDATION + TEST) % 2)
    x_mv = np.stack(
        [
            simulate(
                sample_heart(sample_person(rng), disease="low_ef" if label else "none", severity=1.0, rng=rng),
                seconds=SECONDS,
                sampling_hz=RECORDED_HZ,
                rng=rng,
            )[0]
            for label in labels
        ]
    )
    names, folder = [f"r{number:04d}" for number in range(len(labels))], tmp_path_factory.mktemp("hearts")
    sheets = render_many(clean(x_mv, FilterRecipe(sampling_hz=RECORDED_HZ, samples=x_mv.shape[-1])), SHEET)
    windows = cut_windows(derive(x_mv), RECORDED_HZ, WINDOW)[:, 0]
    table = pl.DataFrame(
        {"ecg_id": names, "site": "s", "patient": names, "label": labels.tolist(), "age_years": 60.0, "sex": "F"},
        schema_overrides={"label": pl.Int8},
    ).with_columns(device=pl.lit("cart"))
    return write_view(folder / "images", [sheets], names), write_view(folder / "windows", [windows], names), table


def tuned(model, *, view, people, out):
    """A network from random weights, fine-tuned."""
    return finetune(
        lambda seed: build_classifier(model, None, seed=seed),
        FinetuneRecipe(epochs=8, batch=16, max_learning_rate=3e-3),
        view={"s": view},
        **people,
        facts=classifier_facts(model, None),
        out=out,
    )


def probed(model, *, view, people, out):
    """The probe of a random encoder."""

    def build(seed=0):
        return build_classifier(model, None, seed=seed)

    features = extract_features(view, {"random": build}, out / "features").of("random")
    return fit_probe(
        build,
        ProbeRecipe(),
        features=lambda seed: {"s": features},
        **people,
        facts=classifier_facts(model, None),
        out=out / "probe",
    )


@pytest.mark.parametrize("fit", [tuned, probed])
@pytest.mark.parametrize("name", FAMILIES)
def test_planted_disease_is_found_and_shuffled_labels_are_not(hearts, tmp_path, name, fit):
    images, windows, table = hearts
    model = ROWS[name].recipe
    view = images if model.view == IMAGES else windows

    def interval(table, out):
        train, selection, tested = table[:TRAIN], table[TRAIN:-TEST], table[-TEST:]
        fitted = fit(model, view=view, people={"train": train, "selection": selection}, out=out / "model")
        made = evaluate(fitted, view, tested, recipe=EvaluationRecipe(bootstrap_draws=200), out=out / "evaluation")
        auroc = made.metrics()["auroc"]
        return auroc["low"], auroc["high"]

    low, _ = interval(table, tmp_path / "planted")
    assert low > 0.6
    low, high = interval(table.with_columns(pl.col("label").shuffle(seed=1)), tmp_path / "shuffled")
    # Twice as wide: one in twenty intervals of 95 % misses the truth, and there are many families.
    margin = (high - low) / 2
    assert low - margin < 0.5 < high + margin
