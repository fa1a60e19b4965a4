"""One model at one site over several seeds: the mean, the interval of the mean, and how far the seeds lie apart."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecg_pipeline.evaluation.evaluate import evaluate
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import by_ecg, summarise
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.models.load import build_classifier, classifier_facts, load_classifier
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard
from ecg_pipeline.training.finetune import finetune
from ecg_pipeline.training.recipes import FinetuneRecipe

DRAWS = EvaluationRecipe(bootstrap_draws=50)


def predicted(seeds, ecgs=60, labels=None):
    """Predictions of several seeds, each wrong in its own way; patients have three ECGs."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, ecgs) if labels is None else labels
    tables = [
        pl.DataFrame(
            {
                "ecg_id": [f"r{number:03d}" for number in range(ecgs)],
                "site": "s",
                "patient": [f"p{number // 3}" for number in range(ecgs)],
                "label": labels,
                "seed": seed,
                "score": labels * 0.3 + rng.random(ecgs),
            },
            schema_overrides={"label": pl.Int8, "seed": pl.Int64},
        )
        for seed in seeds
    ]
    return pl.concat(tables)


def test_a_figure_is_the_mean_over_seeds_beside_the_figures_of_the_seeds():
    table = predicted([4, 0, 2])
    made = summarise(table, DRAWS)["auroc"]
    by_seed = {
        str(seed): roc_auc_score(rows["label"], rows["score"])
        for (seed,), rows in table.group_by("seed", maintain_order=True)
    }
    assert made["by_seed"] == pytest.approx(by_seed)
    assert made["value"] == pytest.approx(np.mean(list(by_seed.values())))
    assert made["sd"] == pytest.approx(np.std(list(by_seed.values()), ddof=1))
    assert made["low"] < made["value"] < made["high"]


def test_one_seed_has_no_spread_and_the_interval_of_any_of_its_copies():
    one = summarise(predicted([0]), DRAWS)
    copies = pl.concat([predicted([0]), predicted([0]).with_columns(seed=pl.lit(1, pl.Int64))])
    two = summarise(copies, DRAWS)
    assert one["auroc"]["sd"] is None
    assert two["auroc"]["sd"] == 0
    assert {k: v for k, v in one["auroc"].items() if k not in ("sd", "by_seed")} == {
        k: v for k, v in two["auroc"].items() if k not in ("sd", "by_seed")
    }
    assert (one["ecgs"], one["patients"]) == (two["ecgs"], two["patients"]) == (60, 20)
    assert one["brier"] == pytest.approx(two["brier"])


def test_scores_stand_by_seed_and_ecg():
    table = predicted([7, 3], ecgs=5, labels=np.array([0, 1, 0, 1, 1]))
    ecgs, scores = by_ecg(table)
    assert ecgs["ecg_id"].to_list() == [f"r{number:03d}" for number in range(5)]
    assert scores.tolist() == [table.filter(seed=seed)["score"].to_list() for seed in (7, 3)]


@pytest.mark.parametrize("ecgs", [0, 6])
def test_one_class_alone_has_no_auroc_and_says_so(ecgs):
    summary = summarise(predicted([0, 1], ecgs=ecgs, labels=np.ones(ecgs, np.int8)), DRAWS)
    assert summary["auroc"] is None
    assert "one label" in summary["reason"]
    assert summary["ecgs"] == ecgs


NAMES = [f"r{number:02d}" for number in range(24)]
NETWORKS = {
    "images": (TimmRecipe(name="test_resnet", image_px=32), (32, 32), np.uint8),
    "waveforms": (SmallCnnRecipe(leads=2, widths=(4, 8)), (2, 100), np.float32),
}


def view(folder, names, shape, dtype):
    """A view of noise, with one example for each name in its order."""
    noise = np.random.default_rng(0).integers(0, 256, (len(names), *shape)).astype(dtype)
    write_shard(folder, 0, noise if dtype == np.uint8 else noise / np.float32(128) - 1)
    index = {"ecg_id": names, "shard": 0, "row": range(len(names))}
    write_index(folder, pl.DataFrame(index, schema_overrides={"shard": pl.Int32, "row": pl.Int32}))
    return ArrayShards(folder)


def labelled():
    """A table of the ECGs with labels and attributes."""
    return pl.DataFrame(
        {
            "ecg_id": NAMES,
            "site": "s",
            "patient": NAMES,
            "label": [0, 1] * 12,
            "age_years": 50.0,
            "sex": ["F", "M", None, "F"] * 6,
            "device": None,
        },
        schema_overrides={"label": pl.Int8, "device": pl.String},
    )


def tuned(network, read, table, out):
    """A model of two seeds, fine-tuned for an epoch on the first third of the ECGs."""
    return finetune(
        lambda seed: build_classifier(network, None, seed=seed),
        FinetuneRecipe(epochs=1, batch=8, seeds=(1, 0)),
        view={"s": read},
        train=table[:8],
        selection=table[8:12],
        facts=classifier_facts(network, None),
        out=out,
    )


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_seed_scores_every_ecg(tmp_path, kind):
    torch.set_num_threads(1)
    network, shape, dtype = NETWORKS[kind]
    read, table = view(tmp_path / "view", NAMES, shape, dtype), labelled()
    model = tuned(network, read, table, tmp_path / "model")
    made = evaluate(model, read, table[12:], recipe=DRAWS, out=tmp_path / "evaluation")
    predictions, metrics = made.predictions(), made.metrics()
    assert predictions.columns == [*table.columns, "seed", "score"]
    assert predictions.select("seed", "ecg_id").rows() == [(seed, name) for seed in (0, 1) for name in NAMES[12:]]
    for seed, checkpoint in model.checkpoints().items():
        with torch.inference_mode():
            log_odds = load_classifier(checkpoint)(torch.from_numpy(read.read_ecgs(NAMES[12:])))
        expected = 1 / (1 + np.exp(-log_odds[:, 0].numpy()))
        np.testing.assert_allclose(predictions.filter(seed=seed)["score"], expected, atol=1e-6)
    assert metrics["model"]["seeds"] == [1, 0]
    assert not metrics["model"]["optimistic"]
    assert metrics["model"]["chosen_epochs"] == [1, 1]
    assert metrics["auroc"]["by_seed"].keys() == {"0", "1"}


def test_an_ecg_of_several_examples_has_one_row_with_their_mean_probability(tmp_path):
    torch.set_num_threads(1)
    network, shape, dtype = NETWORKS["waveforms"]
    several = [name for place, name in enumerate(NAMES) for _ in range(1 + place % 3)]
    read, table = view(tmp_path / "view", several, shape, dtype), labelled()
    model = tuned(network, read, table, tmp_path / "model")
    made = evaluate(model, read, table[12:], recipe=DRAWS, out=tmp_path / "evaluation")
    predictions = made.predictions()
    assert predictions.select("seed", "ecg_id").rows() == [(seed, name) for seed in (0, 1) for name in NAMES[12:]]
    assert made.metrics()["ecgs"] == 12
    for seed, checkpoint in model.checkpoints().items():
        with torch.inference_mode():
            scores = load_classifier(checkpoint)(torch.from_numpy(read.read(0)))[:, 0].sigmoid().numpy()
        expected = [scores[[one == name for one in several]].mean() for name in NAMES[12:]]
        np.testing.assert_allclose(predictions.filter(seed=seed)["score"], expected, atol=1e-6)


def test_a_model_that_was_not_trained_is_evaluated_to_its_reason(tmp_path):
    """Counts are those of the tested ECGs; there are no scores, curves, thresholds or metrics."""
    network, shape, dtype = NETWORKS["waveforms"]
    read, table = view(tmp_path / "view", NAMES, shape, dtype), labelled()
    one_label = table.with_columns(
        label=pl.when(pl.col("ecg_id").is_in(NAMES[:8])).then(0).otherwise("label").cast(pl.Int8)
    )
    model = tuned(network, read, one_label, tmp_path / "model")
    reason = "not trained: the 8 training ECGs of this fraction hold one label"
    made = evaluate(model, read, one_label[12:], recipe=DRAWS, out=tmp_path / "evaluation")
    metrics, predictions = made.metrics(), made.predictions()
    assert made.not_trained == metrics["reason"] == metrics["operating_points"]["reason"] == reason
    assert (metrics["ecgs"], metrics["patients"], metrics["positives"]) == (12, 12, 6)
    assert metrics["auroc"] is None
    assert made.thresholds() == {}
    assert predictions["score"].null_count() == len(predictions) == 24
    computed = made.evaluation_metrics()
    assert computed.calibration.is_empty()
    assert computed.subgroups["ecgs"].sum() == 4 * 12
    assert computed.subgroups["auroc"].null_count() == len(computed.subgroups)
