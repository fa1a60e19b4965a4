"""Linear probes: the folded layer is scikit-learn's regression, C is chosen on held-out ECGs, features are reused."""

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from ecg_pipeline.cohorts.leaks import wrongly_chosen
from ecg_pipeline.ecg import RecipeError, no_progress
from ecg_pipeline.storage.files import sha256_file
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.classifier import Classifier
from ecg_pipeline.training.features import extract_features
from ecg_pipeline.training.probe import fit_layers, fit_probe
from ecg_pipeline.training.recipes import ProbeRecipe
from ecg_pipeline.training.score import score
from ecg_pipeline_tests.training.small import table_of, write_view

D, ECGS = 6, 80


class Frozen(Classifier):
    """Stored rows (B, D) -> log-odds: features are a random mixture of the row; the dropout must not matter."""

    def __init__(self, seed):
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.rotation = nn.Parameter(torch.randn(D, D, generator=generator))
        self.dropout, self.head = nn.Dropout(0.5), nn.Linear(D, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def normalise(self, x):
        return x

    def encode(self, x):
        return x @ self.rotation

    def classify(self, features):
        return self.head(self.dropout(features))

    def stages(self):
        return [[self.rotation], list(self.head.parameters())]


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def view(tmp_path_factory):
    """Two examples an ECG, in two shards; the label shifts two of the columns, which have unlike means and spreads."""
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (ECGS, 2, D))
    x[:, :, :2] += (np.arange(ECGS) % 2)[:, None, None]
    x = (x * [1, 30, 0.01, 5, 1, 1] + [0, 400, 1, -3, 0, 2]).astype(np.float32).reshape(-1, D)
    ecg_ids = [f"e{ecg:02}" for ecg in range(ECGS) for _ in range(2)]
    return write_view(tmp_path_factory.mktemp("view"), np.split(x, 2), ecg_ids)


@pytest.fixture(scope="module")
def table(view):
    ids = sorted(set(view.index()["ecg_id"]))
    return table_of(ids, [ecg % 2 for ecg in range(ECGS)])


def extracted(view, out, **options):
    encoders = {f"random/seed_{seed}": lambda seed=seed: Frozen(seed) for seed in (0, 1)}
    return extract_features(view, encoders, out, **options)


def probed(view, table, out, *, train=slice(0, 60), selection=slice(60, None), progress=no_progress, **recipe):
    features = extracted(view, out / "features")
    return fit_probe(
        lambda seed: Frozen(seed),
        ProbeRecipe(**recipe),
        features=lambda seed: {"s": features.of(f"random/seed_{seed}")},
        train=table[train],
        selection=table[selection],
        facts={"initialisation": "random"},
        out=out / "probe",
        progress=progress,
    )


def loaded(checkpoint):
    classifier = Frozen(7)
    classifier.load_state_dict(checkpoint.state())
    return classifier.eval()


def of_ecgs(view, ecg_ids):
    """All examples of some ECGs, (n, D)."""
    stored = np.concatenate([view.read(shard) for shard in view.shards()])
    return stored[view.index()["ecg_id"].is_in(ecg_ids.implode()).to_numpy()]


@pytest.mark.parametrize("c", [10.0, 0.1, 1e-4])
def test_the_folded_layer_gives_scikit_learns_probabilities(c):
    rng = np.random.default_rng(1)
    x = (rng.normal(0, 1, (200, D)) * [1, 100, 0.01, 1, 1, 1] + [0, 50, 3, 0, 0, 0]).astype(np.float32)
    labels = (x[:, 0] + rng.normal(0, 1, 200) > 0).astype(int)
    (layer,) = fit_layers(x, labels, ProbeRecipe(c=(c,)))
    classifier = Frozen(0).eval()
    layer.put(classifier)
    with torch.inference_mode():
        given = classifier.classify(torch.from_numpy(x)).sigmoid()[:, 0].numpy()
    fitted = make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000)).fit(x.astype(np.float64), labels)
    np.testing.assert_allclose(given, fitted.predict_proba(x.astype(np.float64))[:, 1], atol=1e-6)
    assert given.std() > 0.001


@pytest.mark.parametrize("constant", [0.0, 0.1, 1e6])
def test_a_constant_feature_has_no_weight_and_changes_nothing(constant):
    rng = np.random.default_rng(2)
    x = rng.normal(0, 1, (100, D)).astype(np.float32)
    labels = (x[:, 0] > 0).astype(int)
    (layer,) = fit_layers(np.column_stack([x, np.full(100, constant, np.float32)]), labels, ProbeRecipe(c=(1.0,)))
    (without,) = fit_layers(x, labels, ProbeRecipe(c=(1.0,)))
    assert layer.weight[-1] == 0
    np.testing.assert_allclose(layer.weight[:-1], without.weight, atol=1e-9)
    assert layer.bias == pytest.approx(without.bias, abs=1e-9)


def test_a_scale_or_an_offset_of_a_feature_changes_no_probability():
    rng = np.random.default_rng(3)
    x = rng.normal(0, 1, (100, D)).astype(np.float32)
    labels, by, offset = (x[:, 0] + x[:, 1] > 0).astype(int), 2.0 ** np.arange(D), 8.0
    (one,), (other,) = (fit_layers(part, labels, ProbeRecipe(c=(0.1,))) for part in (x, (x * by).astype(np.float32)))
    np.testing.assert_allclose(one.weight, other.weight * by, rtol=1e-6)
    (moved,) = fit_layers(x + np.float32(offset), labels, ProbeRecipe(c=(0.1,)))
    np.testing.assert_allclose(x @ one.weight + one.bias, (x + offset) @ moved.weight + moved.bias, atol=1e-4)


def test_a_probe_is_a_classifier_whose_c_is_the_best_of_its_trace(view, table, tmp_path):
    model = probed(view, table, tmp_path, seeds=(1, 0))
    config = model.config()
    assert config["chosen_by"].endswith("C of the logistic regression by highest AUROC on validation patients")
    assert (config["train_ecgs"], config["train_examples"], config["validation_ecgs"]) == (60, 120, 20)
    assert list(model.checkpoints()) == [1, 0]
    assert model.chosen() == {"chosen_cs": [made.config()["chosen_c"] for made in model.checkpoints().values()]}
    for seed, made in model.checkpoints().items():
        trace, chosen = pl.read_parquet(made.folder / "trace.parquet"), made.config()["chosen_c"]
        assert tuple(trace["c"]) == ProbeRecipe().c
        assert wrongly_chosen(trace, chosen=chosen, chosen_on="validation") == []
        assert torch.equal(made.state()["rotation"], Frozen(seed).rotation), "the encoder is frozen"

        # The ECGs' scores are means over their examples, and are those of the stored classifier on the view itself.
        scored = score(loaded(made), Batches(arrays={"view": {"s": view}}, table=table[60:]), device="cpu").sort(
            "ecg_id"
        )
        kept = pl.read_parquet(made.folder / "validation.parquet").sort("ecg_id")
        np.testing.assert_allclose(kept["score"], scored["score"], atol=1e-6)
        assert made.config()["validation_auroc"] == pytest.approx(
            roc_auc_score(kept["label"], kept["score"]), abs=1e-12
        )
        assert made.config()["validation_auroc"] > 0.8

        # Every example counts in the fit.
        x, labels = of_ecgs(view, table[:60]["ecg_id"]) @ Frozen(seed).rotation.detach().numpy(), table["label"][:60]
        fitted = make_pipeline(StandardScaler(), LogisticRegression(C=chosen, max_iter=1000))
        fitted.fit(x.astype(np.float64), np.repeat(labels.to_numpy(), 2))
        with torch.inference_mode():
            given = loaded(made).classify(torch.from_numpy(x)).sigmoid()[:, 0].numpy()
        np.testing.assert_allclose(given, fitted.predict_proba(x.astype(np.float64))[:, 1], atol=1e-4)


def weights(model):
    return [sha256_file(made.folder / "weights.safetensors") for made in model.checkpoints().values()]


def test_the_same_probe_has_the_same_bits_and_complete_seeds_are_not_fitted_again(view, table, tmp_path):
    seen = []

    def cut(done, total):
        if done > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        probed(view, table, tmp_path / "cut", progress=cut, seeds=(0, 1))
    resumed = probed(view, table, tmp_path / "cut", progress=lambda *step: seen.append(step), seeds=(0, 1))
    assert seen == [(6 + done, 12) for done in range(1, 7)]
    whole = weights(probed(view, table, tmp_path / "whole", seeds=(0, 1)))
    assert weights(resumed) == whole
    assert whole[0] != whole[1]


def test_the_official_protocol_chooses_c_on_test_ecgs_and_says_so(view, table, tmp_path):
    model = probed(view, table, tmp_path, protocol="official")
    config, (made,) = model.config(), model.checkpoints().values()
    assert config["optimistic"]
    assert config["chosen_by"].endswith("on test patients: optimistic")
    assert not (made.folder / "validation.parquet").exists()
    trace = pl.read_parquet(made.folder / "trace.parquet")
    assert trace.columns == ["c", "train_loss", "test_loss", "test_auroc", "iterations"]
    assert wrongly_chosen(trace, chosen=made.config()["chosen_c"], chosen_on="test") == []


@pytest.mark.parametrize("held_out", [slice(60, 60), slice(61, 62)], ids=["none", "of one label"])
def test_where_nothing_can_be_compared_the_weakest_penalty_is_taken(view, table, tmp_path, held_out):
    model = probed(view, table, tmp_path, selection=held_out)
    (made,) = model.checkpoints().values()
    assert made.config()["chosen_c"] == max(ProbeRecipe().c) == 1
    assert "the weakest penalty: the validation patients do not have both labels" in model.config()["chosen_by"]
    trace = pl.read_parquet(made.folder / "trace.parquet")
    assert wrongly_chosen(trace, chosen=made.config()["chosen_c"], chosen_on="validation") == []


def test_training_ecgs_of_one_label_give_an_output_that_says_so(view, table, tmp_path):
    model = probed(view, table.with_columns(label=pl.lit(1, pl.Int8)), tmp_path)
    assert model.not_trained == "not trained: the 60 training ECGs of this fraction hold one label"
    assert model.checkpoints() == {}
    assert model.config()["train_positives"] == 60


@pytest.mark.parametrize("c", [(), (1.0, 1.0), (1.0, 0.1), (0.0, 1.0)])
def test_a_grid_rises_and_is_positive(c):
    with pytest.raises(RecipeError, match="c must have at least one value, all positive, each larger"):
        ProbeRecipe(c=c)


def test_a_classifier_without_a_linear_head_is_refused(view, tmp_path):
    class Odd(Frozen):
        def __init__(self):
            super().__init__(0)
            self.head = nn.Sequential(nn.Linear(D, 1))

    with pytest.raises(NotImplementedError, match="Odd has no linear layer with a bias as `head`"):
        extract_features(view, {"random/seed_0": Odd}, tmp_path)


def test_features_are_those_of_every_example_in_the_views_order(view, tmp_path):
    features = extracted(view, tmp_path)
    assert features.encoders() == ["random/seed_0", "random/seed_1"]
    for seed in (0, 1):
        made = features.of(f"random/seed_{seed}")
        assert made.index().equals(view.index())
        for shard in view.shards():
            expected = view.read(shard) @ Frozen(seed).rotation.detach().numpy()
            np.testing.assert_allclose(made.read(shard), expected, rtol=1e-5, atol=1e-4)
            assert made.read(shard).dtype == np.float32


def test_a_killed_extraction_goes_on_and_unchanged_shards_are_reused(view, tmp_path, monkeypatch):
    done, honest = [], Frozen.features

    def counted(self, x):
        done.append(len(x))
        return honest(self, x)

    monkeypatch.setattr(Frozen, "features", counted)

    def cut(finished, total):
        if finished > total / 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        extracted(view, tmp_path / "a", progress=cut)
    assert sum(done) == 3 * 80, "three of four shards"
    first = extracted(view, tmp_path / "a")
    assert sum(done) == 4 * 80
    again = extracted(view, tmp_path / "b", previous=tmp_path / "a")
    assert sum(done) == 4 * 80
    for name in first.encoders():
        assert all(again.of(name).digest(shard) == first.of(name).digest(shard) for shard in view.shards())
    # Other weights under the same name: only their features are computed again.
    encoders = {"random/seed_0": lambda: Frozen(0), "random/seed_1": lambda: Frozen(2)}
    other = extract_features(view, encoders, tmp_path / "c", previous=tmp_path / "a")
    assert sum(done) == 6 * 80
    assert other.of("random/seed_0").digest(0) == first.of("random/seed_0").digest(0)
    assert other.of("random/seed_1").digest(0) != first.of("random/seed_1").digest(0)
