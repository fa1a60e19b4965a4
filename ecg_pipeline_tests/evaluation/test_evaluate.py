"""One model at one site over several seeds: the mean, the interval of the mean, and how far the seeds lie apart."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import roc_auc_score

from ecg_pipeline.evaluation.evaluate import evaluate
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import by_ecg, summarise
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.models.family import load_classifier
from ecg_pipeline.models.recipes import TimmRecipe
from ecg_pipeline.storage.shards import write_index, write_shard
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


def test_every_seed_scores_every_ecg(tmp_path):
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    names = [f"r{number:02d}" for number in range(24)]
    write_shard(tmp_path / "images", 0, rng.integers(0, 256, (24, 32, 32), dtype=np.uint8))
    index = {"ecg_id": names, "shard": 0, "row": range(24)}
    write_index(tmp_path / "images", pl.DataFrame(index, schema_overrides={"shard": pl.Int32, "row": pl.Int32}))
    images = ImageShards(tmp_path / "images")
    table = pl.DataFrame(
        {
            "ecg_id": names,
            "site": "s",
            "patient": names,
            "label": [0, 1] * 12,
            "age_years": 50.0,
            "sex": ["F", "M", None, "F"] * 6,
            "device": None,
        },
        schema_overrides={"label": pl.Int8, "device": pl.String},
    )
    recipe = FinetuneRecipe(epochs=1, batch=8, seeds=(1, 0))
    network = TimmRecipe(name="test_resnet", image_px=32)
    model = finetune(
        network,
        recipe,
        start=None,
        images={"s": images},
        train=table[:8],
        selection=table[8:12],
        out=tmp_path / "model",
    )
    made = evaluate(model, images, table[12:], recipe=DRAWS, out=tmp_path / "evaluation")
    predictions, metrics = made.predictions(), made.metrics()
    assert predictions.columns == [*table.columns, "seed", "score"]
    assert predictions.select("seed", "ecg_id").rows() == [(seed, name) for seed in (0, 1) for name in names[12:]]
    for seed, checkpoint in model.checkpoints().items():
        with torch.inference_mode():
            logits = load_classifier(checkpoint)(torch.from_numpy(images.read_ecgs(names[12:])))
        expected = logits.softmax(dim=1)[:, 1].numpy()
        np.testing.assert_allclose(predictions.filter(seed=seed)["score"], expected, atol=1e-6)
    assert metrics["model"]["seeds"] == [1, 0]
    assert not metrics["model"]["optimistic"]
    assert metrics["model"]["chosen_epochs"] == [1, 1]
    assert metrics["auroc"]["by_seed"].keys() == {"0", "1"}
