"""Zero-shot with networks whose answers are known: scores, controls, languages, and what cannot be scored."""

from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import ONE_LABEL, summarise
from ecg_pipeline.evaluation.zero_shot import ALL, PRETRAINED, SCHEMA, UNTRAINED, score_prompts, zero_shot
from ecg_pipeline.models.family import NoTextEncoder
from ecg_pipeline.models.small_cnn import SmallCnn
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.storage.files import write_json
from ecg_pipeline.storage.shards import ArrayShards, write_index, write_shard
from ecg_pipeline.texts.tokenizer import train_tokenizer
from ecg_pipeline.training.checkpoints import Checkpoint, PretrainedModel
from ecg_pipeline.training.recipes import PretrainRecipe

DRAWS = EvaluationRecipe(bootstrap_draws=50)
ECGS = 80
TEXTS = ["normal ecg sinus rhythm", "vorhofflimmern mit schneller überleitung", "atrial fibrillation", "sinusrhythmus"]
PROMPTS = {
    "af": {"en": "Atrial fibrillation", "de": "Vorhofflimmern"},
    "norm": {"en": "Normal ECG", "de": "Sinusrhythmus"},
}


@dataclass(frozen=True)
class Known:
    """Vectors (n, 2) of ECGs: what an example holds, times `skill`, beside noise of a random network. A text's first
    component is 1 if it is about the label, and 0 if not."""

    about: frozenset[tuple[int, ...]]
    skill: float
    seed: int

    def texts(self, token_ids):
        rng = np.random.default_rng(self.seed)
        return np.array([[tuple(ids) in self.about, 0.1 * rng.normal()] for ids in token_ids], np.float32)

    def ecgs(self, examples):
        noise = np.array([np.random.default_rng([self.seed, *row.tobytes()]).normal() for row in examples])
        return np.stack([self.skill * examples[:, 0, 0], noise], axis=1).astype(np.float32)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return train_tokenizer(TEXTS, vocabulary=60, longest=24, out=tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def family(monkeypatch, tokenizer):
    """Small CNNs as if they read texts: pretrained ones know the label, untrained ones do not."""
    encode = tokenizer.load()
    ids, lengths = encode(["atrial fibrillation", "vorhofflimmern"])
    about = frozenset(tuple(row[:length].tolist()) for row, length in zip(ids, lengths, strict=True))

    def vectors(self, recipe, start, *, vocabulary, seed, device="cpu"):
        assert vocabulary == tokenizer.facts()["vocabulary"]
        return Known(about, skill=1.0 if start else 0.0, seed=seed)

    monkeypatch.setattr(SmallCnn, "vectors", vectors)
    monkeypatch.setattr(SmallCnn, "pretraining", PretrainRecipe)


def ecgs(labels, folder, *, examples=1):
    """A view whose first sample is the label, and its table; patients have two ECGs."""
    rng = np.random.default_rng(1)
    rows = np.repeat(np.arange(len(labels)), examples)
    array = rng.normal(size=(len(rows), 2, 4)).astype(np.float32)
    array[:, 0, 0] = np.asarray(labels)[rows]
    write_shard(folder, 0, array)
    names = [f"e{number:03d}" for number in range(len(labels))]
    index = pl.DataFrame({"ecg_id": [names[row] for row in rows], "shard": 0, "row": range(len(rows))})
    write_index(folder, index.cast({"shard": pl.Int32, "row": pl.Int32}))
    table = {"ecg_id": names, "site": "s", "patient": [f"p{n // 2}" for n in range(len(labels))], "label": labels}
    return ArrayShards(folder), pl.DataFrame(table, schema_overrides={"label": pl.Int8})


def pretrained(folder, seeds=(0, 1)):
    names = [f"seed_{seed}" for seed in seeds]
    write_json(folder / "config.json", {"origin": "texts and ECGs", "sees": "ECGs, reports", "checkpoints": names})
    for seed, name in zip(seeds, names, strict=True):
        write_json(folder / name / "config.json", {"seed": seed})
    return PretrainedModel(folder)


def tried(folder, tokenizer, labels, *, prompts=PROMPTS, tested=None):
    view, table = ecgs(labels, folder / "view")
    model = SmallCnnRecipe(leads=2, widths=(4,))
    return zero_shot(
        pretrained(folder / "model"),
        view,
        table.head(len(labels) if tested is None else tested).with_columns(age_years=50.0),
        model=model,
        task="af",
        prompts=prompts,
        tokenizer=tokenizer,
        recipe=DRAWS,
        out=folder / "out",
    )


def alternating(ecgs=ECGS):
    return [number // 2 % 2 for number in range(ecgs)]


@pytest.mark.usefixtures("family")
def test_matching_vectors_tell_all_ecgs_apart_and_the_controls_none(tmp_path, tokenizer):
    made = tried(tmp_path, tokenizer, alternating())
    metrics = made.metrics()
    assert (metrics["ecgs"], metrics["patients"], metrics["positives"]) == (ECGS, ECGS // 2, ECGS // 2)
    by_turn = {(row["network"], row["prompts"], row["language"]): row for row in metrics["scores"]}
    assert by_turn.keys() == {
        (network, prompts, language)
        for network, prompts in ((PRETRAINED, "af"), (PRETRAINED, "norm"), (UNTRAINED, "af"))
        for language in ("en", "de", ALL)
    }
    for (network, prompts, _), row in by_turn.items():
        if (network, prompts) == (PRETRAINED, "af"):
            assert row["auroc"]["value"] == row["average_precision"]["value"] == 1
        else:
            assert 0.3 < row["auroc"]["value"] < 0.7
    assert metrics["auroc"] == by_turn[PRETRAINED, "af", ALL]["auroc"]
    assert not {"brier", "calibration", "operating_points"} & metrics.keys()
    assert metrics["prompts"]["af"]["en"]["words"] == "atrial fibrillation"
    assert metrics["prompts"]["norm"]["en"]["words"] == "normal ecg"
    assert metrics["model"]["seeds"] == [0, 1]
    assert metrics["model"]["pretraining_saw"] == "ECGs, reports"


@pytest.mark.usefixtures("family")
def test_metrics_and_intervals_are_those_of_an_evaluation_with_the_same_scores(tmp_path, tokenizer):
    made = tried(tmp_path, tokenizer, alternating())
    predictions = made.predictions()
    assert predictions.schema == SCHEMA
    for row in made.metrics()["scores"]:
        rows = predictions.filter(**{name: row[name] for name in ("network", "prompts", "language")})
        same = summarise(rows.drop("network", "prompts", "language"), DRAWS)
        for name, score in (("auroc", roc_auc_score), ("average_precision", average_precision_score)):
            assert row[name] == same[name]
            for seed, value in row[name]["by_seed"].items():
                one = rows.filter(seed=int(seed))
                assert value == pytest.approx(score(one["label"], one["score"]))


@pytest.mark.usefixtures("family")
def test_all_is_the_mean_over_languages_and_a_prompt_counts_by_its_words_alone(tmp_path, tokenizer):
    made = tried(tmp_path, tokenizer, alternating(20))
    wide = made.predictions().pivot("language", index=["network", "prompts", "seed", "ecg_id"], values="score")
    assert len(wide) == 3 * 2 * 20
    assert np.allclose(wide[ALL], (wide["en"] + wide["de"]) / 2)
    other = {**PROMPTS, "af": {"en": " ATRIAL fibrillation", "de": "* Vorhofflimmern *"}}
    again = tried(tmp_path / "again", tokenizer, alternating(20), prompts=other)
    assert again.predictions().equals(made.predictions())


def test_several_examples_of_an_ecg_give_their_mean(tmp_path):
    view, table = ecgs(alternating(6), tmp_path / "view", examples=3)
    vectors = Known(frozenset({(1, 2)}), skill=1.0, seed=4)
    found = score_prompts(vectors, view, table, token_ids={"af": {"en": [1, 2]}})
    products = vectors.ecgs(view.read(0)) @ vectors.texts([[1, 2]]).T
    assert found.filter(language="en")["ecg_id"].to_list() == table["ecg_id"].to_list()
    for language in ("en", ALL):
        np.testing.assert_allclose(found.filter(language=language)["score"], products.reshape(6, 3).mean(1), atol=1e-6)


@pytest.mark.usefixtures("family")
@pytest.mark.parametrize("count", [0, 6])
def test_one_label_alone_has_counts_and_a_reason(tmp_path, tokenizer, count):
    made = tried(tmp_path, tokenizer, [1] * 6, tested=count)
    metrics = made.metrics()
    assert metrics["reason"] == ONE_LABEL
    assert (metrics["ecgs"], metrics["positives"]) == (count, count)
    assert metrics["auroc"] is None
    assert metrics["scores"] == []
    assert len(made.predictions()) == count * 3 * 3 * 2


def test_weights_without_a_text_encoder_say_so(tmp_path, tokenizer, monkeypatch):
    def vectors(self, recipe, start: Checkpoint | None, **_):
        raise NoTextEncoder("the pretrained weights have no text encoder, so texts have no vectors")

    monkeypatch.setattr(SmallCnn, "vectors", vectors)
    made = tried(tmp_path, tokenizer, alternating(6))
    assert made.metrics()["reason"].startswith("zero-shot is not possible: the pretrained weights have no text encoder")
    assert made.metrics()["ecgs"] == 6
    assert made.predictions().equals(pl.DataFrame(schema=SCHEMA))
