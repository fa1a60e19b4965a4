"""A view with several examples of an ECG: training counts examples, a score is the mean over those of an ECG."""

import numpy as np
import polars as pl
import pytest
import torch
from torch import nn

from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.training.batches import Batches, in_view
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.finetune import finetune
from ecg_pipeline.training.recipes import FinetuneRecipe
from ecg_pipeline.training.score import score
from ecg_pipeline_tests.training.small import table_of, write_view

ECG_IDS = ["a", "a", "b", "c", "c", "c", "d", "d", "e", "f", "f", "g"]
"""Of each example; in the second shard from the seventh on."""


class Mean(Classifier):
    """Waveforms (B, 2, T) -> log-odds, linear in the mean of each lead."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.head = nn.Linear(2, 1)

    def normalise(self, x):
        return x

    def encode(self, x):
        return x.mean(dim=-1)

    def classify(self, features):
        return self.head(features)

    def stages(self):
        return [list(self.head.parameters())]


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    x = np.random.default_rng(0).normal(0, 1, (12, 2, 20)).astype(np.float32)
    return write_view(tmp_path_factory.mktemp("view"), np.split(x, 2), ECG_IDS)


@pytest.fixture
def table():
    return table_of(sorted(set(ECG_IDS)), [0, 1, 0, 1, 0, 1, 0])


def all_examples(view):
    return np.concatenate([view.read(shard) for shard in view.shards()])


def test_an_epoch_has_every_example_once_with_its_ecgs_row(view, table):
    some = table.filter(pl.col("ecg_id") != "b")
    batches = Batches(arrays={"view": {"s": view}}, table=some)
    assert batches.examples == 11
    assert batches.steps(4) == 2
    of_example = {x.tobytes(): ecg_id for x, ecg_id in zip(all_examples(view), ECG_IDS, strict=True)}
    labels = dict(some.select("ecg_id", "label").iter_rows())
    seen = []
    for arrays, rows in batches.epoch(0, batch=3, seed=5):
        for x, ecg_id, label in zip(arrays["view"], rows["ecg_id"], rows["label"], strict=True):
            assert of_example[x.tobytes()] == ecg_id
            assert labels[ecg_id] == label
            seen.append(x.tobytes())
    assert len(seen) == len(set(seen)) == 9


def test_a_score_is_the_mean_probability_of_an_ecgs_examples(view, table):
    classifier = Mean(0)
    scored = score(classifier, Batches(arrays={"view": {"s": view}}, table=table.reverse()), device="cpu")
    assert scored.columns == [*table.columns, "score"]
    assert scored["score"].dtype == pl.Float32
    assert scored["ecg_id"].to_list() == table["ecg_id"].to_list()  # in stored order
    assert scored.drop("score").equals(table)
    with torch.inference_mode():
        each = classifier(torch.from_numpy(all_examples(view)))[:, 0].sigmoid().tolist()
    for ecg_id, found in scored.select("ecg_id", "score").iter_rows():
        own = [probability for probability, of in zip(each, ECG_IDS, strict=True) if of == ecg_id]
        assert found == pytest.approx(np.mean(own), abs=1e-6)


def test_examples_of_an_ecg_in_two_shards_are_one_score(tmp_path):
    x = np.random.default_rng(1).normal(0, 1, (4, 2, 20)).astype(np.float32)
    view = write_view(tmp_path, np.split(x, 2), ["a", "b", "b", "c"])
    scored = score(
        Mean(0), Batches(arrays={"view": {"s": view}}, table=table_of(["a", "b", "c"], [0, 1, 0])), device="cpu"
    )
    assert scored["ecg_id"].to_list() == ["a", "b", "c"]
    with torch.inference_mode():
        assert scored["score"][1] == pytest.approx(float(Mean(0)(torch.from_numpy(x[1:3])).sigmoid().mean()), abs=1e-6)


def test_nobody_is_scored_without_an_error(view, table):
    scored = score(Mean(0), Batches(arrays={"view": {"s": view}}, table=table.clear()), device="cpu")
    assert scored.columns == [*table.columns, "score"]
    assert scored.is_empty()


def test_the_same_ecg_id_at_two_sites_is_two_ecgs(tmp_path):
    rng = np.random.default_rng(2)
    views = {
        site: write_view(tmp_path / site, [rng.normal(0, 1, (3, 2, 20)).astype(np.float32)], ["a", "a", "b"])
        for site in ("s", "t")
    }
    table = pl.DataFrame({"ecg_id": ["a", "a", "b"], "site": ["s", "t", "t"], "label": [0, 1, 0]})
    scored = score(Mean(0), Batches(arrays={"view": views}, table=table), device="cpu")
    assert scored.select("ecg_id", "site", "label").rows() == table.rows()
    assert scored["score"].n_unique() == 3


def test_an_ecg_stays_in_a_table_once(view, table):
    assert in_view(table, {"s": view}).equals(table)


def test_fine_tuning_counts_examples_and_chooses_on_ecgs(view, table, tmp_path):
    made = finetune(
        Mean,
        FinetuneRecipe(epochs=2, batch=3),
        view={"s": view},
        train=table[:4],
        selection=table[4:],
        facts={},
        out=tmp_path,
    )
    config = made.config()
    assert (config["train_ecgs"], config["train_examples"], config["validation_ecgs"]) == (4, 8, 3)
    kept = pl.read_parquet(made.checkpoints()[0].folder / "validation.parquet")
    assert kept["ecg_id"].to_list() == ["e", "f", "g"]


def test_the_examples_of_an_ecg_that_is_read_alone_begin_with_the_first(view):
    read = ArrayShards(view.folder).read_ecgs(["c", "a", "c"])
    assert (read == all_examples(view)[[3, 0, 3]]).all()


def test_examples_that_are_compared_stand_side_by_side(view, table):
    batches = Batches(arrays={"view": {"s": view}}, table=table, per_ecg=2)
    first_two = {x.tobytes(): (ecg_id, place) for ecg_id, place, x in located(view) if place < 2}
    assert batches.examples == 8  # of a, c, d and f; the other ECGs have one example
    assert (batches.size(5), batches.steps(5)) == (4, 2)
    seen = []
    for arrays, rows in batches.epoch(0, batch=5, seed=1):
        found = [first_two[x.tobytes()] for x in arrays["view"]]
        assert [ecg_id for ecg_id, _ in found] == rows["ecg_id"].to_list()
        assert [place for _, place in found] == [0, 1] * 2
        seen += [ecg_id for ecg_id, _ in found[::2]]
    assert sorted(seen) == ["a", "c", "d", "f"]
    with pytest.raises(ValueError, match="a batch of 1 examples is smaller than the 2 examples of an ECG"):
        batches.size(1)


def test_a_target_has_a_row_an_ecg_or_a_row_an_example(view, table, tmp_path):
    ecg_ids = ["c", "b", "a", "g", "f", "e", "d", "of nobody here"]
    of_ecg = write_view(tmp_path / "ecgs", [np.arange(3), np.arange(3, 8)], ecg_ids)
    of_example = write_view(tmp_path / "examples", np.split(np.arange(12), 2), ECG_IDS)
    arrays = {"view": {"s": view}, "of_ecg": {"s": of_ecg}, "of_example": {"s": of_example}}
    place = {x.tobytes(): number for number, x in enumerate(all_examples(view))}
    for per_ecg in (None, 2):
        for found, rows in Batches(arrays=arrays, table=table, per_ecg=per_ecg).epoch(0, batch=4, seed=1):
            assert found["of_ecg"].tolist() == [ecg_ids.index(ecg_id) for ecg_id in rows["ecg_id"]]
            assert found["of_example"].tolist() == [place[x.tobytes()] for x in found["view"]]
    lacking = write_view(tmp_path / "lacking", [np.arange(2), np.arange(2, 7)], ["a", "c", *ecg_ids[3:]])
    batches = Batches(arrays={"view": {"s": view}, "t": {"s": lacking}}, table=table)
    with pytest.raises(KeyError, match="1 ECGs are in no shard, the first is b"):
        list(batches.in_order(4))


def located(view):
    """ECG, number of the example and example, of each example of a view."""
    for place, (ecg_id, x) in enumerate(zip(ECG_IDS, all_examples(view), strict=True)):
        yield ecg_id, ECG_IDS[:place].count(ecg_id), x
