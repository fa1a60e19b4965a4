"""Files of every family: official weights come in and go out, and what MLflow serves is what is scored."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from ecg_pipeline.models.family import Family
from ecg_pipeline.models.load import classifier_facts
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.score import score
from ecg_pipeline.training.weights import save_checkpoint
from ecg_pipeline_tests.models.examples import (
    ECGS,
    of_families,
    perturbed,
    same,
)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Folder of one MLflow store for all families."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        yield tmp_path_factory.mktemp("home")


def exports(family: Family) -> bool:
    """Whether a family writes files for its authors' own scripts."""
    return type(family).export_weights is not Family.export_weights


def written(state: Mapping[str, Tensor], path: Path) -> Path:
    torch.save({"model": dict(state)}, path)
    return path


@of_families(lambda family: family.has_published_weights)
def test_official_weights_come_in_and_go_out(example, tmp_path):
    family, recipe, official = example.family, example.row.recipe, example.row.published()
    imported = family.import_weights(written(official, tmp_path / "official.pth"), recipe, tmp_path / "imported")
    assert same(imported.state(), official)
    assert "official.pth" in imported.config()["origin"]
    assert not same(example.classifier(0, imported).state_dict(), example.classifier(0).state_dict())
    if exports(family):
        file = family.export_weights(imported, tmp_path / "exported.pth")
        assert same(family.import_weights(file, recipe, tmp_path / "again").state(), imported.state())


def test_a_family_without_official_names_says_so(example, tmp_path):
    family, recipe = example.family, example.row.recipe
    if not family.has_published_weights:
        with pytest.raises(NotImplementedError, match="reads no published weights"):
            family.import_weights(tmp_path / "file.pth", recipe, tmp_path / "out")
    if not exports(family):
        with pytest.raises(NotImplementedError, match="writes no weights"):
            family.export_weights(save_checkpoint(tmp_path / "own", state={}, config={}), tmp_path / "file.pth")


@of_families(lambda family: family.pretraining is not None and exports(family))
def test_what_was_pretrained_here_goes_out_and_comes_in_the_same(example, pretrained, tmp_path):
    (checkpoint,) = pretrained.checkpoints()
    file = example.family.export_weights(checkpoint, tmp_path / "exported.pth")
    again = example.family.import_weights(file, example.row.recipe, tmp_path / "again")
    assert same(again.state(), checkpoint.state())


@of_families(lambda family: family.has_published_weights)
def test_a_file_of_weights_that_does_not_fit_is_refused_and_its_keys_are_named(example, tmp_path):
    state = dict(example.row.published())
    lost = next(name for name, tensor in state.items() if tensor.ndim > 1 and "head" not in name)
    del state[lost]
    file = written({**state, "stray.weight": torch.zeros(1)}, tmp_path / "wrong.pth")
    with pytest.raises(ValueError, match=rf"missing {lost}.*unexpected stray\.weight"):
        example.family.import_weights(file, example.row.recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_mlflow_serves_is_what_is_scored(example, home, tmp_path):
    import mlflow

    from ecg_pipeline.tracking import INPUT, log_classifier, training_run

    classifier = perturbed(example.classifier())
    facts = classifier_facts(example.row.recipe, None)
    checkpoint = save_checkpoint(tmp_path / "seed_0", state=classifier.state_dict(), config=facts)
    stored = example.stored
    with training_run(home, "study", {"asset": "task/model/finetuned_model", "partition": "1"}):
        logged = log_classifier("task-model", checkpoint, np.zeros_like(stored[:1]))
    served = mlflow.pyfunc.load_model(f"models:/{logged}").predict({INPUT: stored})
    scored = score(classifier, Batches(arrays={"view": example.view}, table=example.table), device="cpu")["score"]
    np.testing.assert_allclose(np.reshape(served, (ECGS, -1)).mean(axis=1), scored.to_numpy(), atol=1e-6)
