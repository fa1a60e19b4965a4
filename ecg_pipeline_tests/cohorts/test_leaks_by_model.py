"""Each model is checked against what its own pretraining saw: the pool of another model neither acquits nor accuses."""

import polars as pl
import pytest

from ecg_pipeline.cohorts.pretraining_set import (
    COLUMNS,
    NETWORK,
    copy_training_sets,
    pretraining_set,
    save_training_set,
)
from ecg_pipeline.cohorts.splits import SplitRecipe, assign_splits
from ecg_pipeline.orchestration.assets.training import pretraining_never_saw_it
from ecg_pipeline.orchestration.checks import blocks
from ecg_pipeline.storage.files import write_json
from ecg_pipeline.training.checkpoints import FinetunedModel
from ecg_pipeline_tests.cohorts.tables import ecgs

SPLIT = SplitRecipe(test=0.3, validation=0.2)
ECGS = ecgs("s", [f"{n % 50:032x}" for n in range(80)])
POOL = pretraining_set([ECGS], SPLIT)
HELD_OUT = ECGS.with_columns(split=assign_splits(ECGS, SPLIT)).filter(pl.col("split") != "train")
TESTED = HELD_OUT.filter(split="test").sort("ecg_id").head(1)
LEAKY = pl.concat([POOL, TESTED.select(COLUMNS)])
BY_PATIENT = pl.concat([POOL, TESTED.select(COLUMNS).with_columns(ecg_id=pl.lit("x"), waveform_sha256=pl.lit("y"))])
BY_WAVEFORM = pl.concat([POOL, TESTED.select(COLUMNS).with_columns(ecg_id=pl.lit("x"), patient=pl.lit("z"))])


def finetuned(folder, model, **sets):
    """A model fine-tuned from a pretrained one, each with the training sets of its own pretraining beside it."""
    start, tuned = folder / model / "pretrained", folder / model / "finetuned"
    for name, seen in sets.items():
        save_training_set(start, name, seen)
    if sets:
        copy_training_sets(start, to=tuned)
    write_json(tuned / "config.json", {"initialisation": "an objective" if sets else "random initialisation"})
    return FinetunedModel(tuned)


def found(model):
    """What the check of a model found, and whether it blocks the model."""
    result = pretraining_never_saw_it(model, HELD_OUT)
    return result.metadata["found"].value, blocks(result)


def test_a_leak_into_one_pool_is_found_in_its_model_and_in_no_other(tmp_path):
    tested, patient = TESTED["ecg_id"][0], TESTED["patient"][0]
    models = {
        "clean": finetuned(tmp_path, "clean", **{NETWORK: POOL, "image_tokenizer": POOL}),
        "leaky": finetuned(tmp_path, "leaky", **{NETWORK: LEAKY, "image_tokenizer": POOL}),
        "scratch": finetuned(tmp_path, "scratch"),
    }
    assert found(models["clean"]) == found(models["scratch"]) == (["nothing"], False)
    sentences, is_blocked = found(models["leaky"])
    assert is_blocked
    assert f"1 ECGs of the test split were seen by the pretraining: {tested}" in sentences
    assert f"1 patients of the test split were seen by the pretraining: {patient}" in sentences


@pytest.mark.parametrize(("planted", "what"), [(LEAKY, "ECGs"), (BY_PATIENT, "patients"), (BY_WAVEFORM, "waveforms")])
@pytest.mark.parametrize(
    ("name", "seen_by"), [(NETWORK, "the pretraining"), ("image_tokenizer", "the image tokenizer")]
)
def test_whatever_was_fitted_for_a_model_counts_by_ecg_patient_and_waveform(tmp_path, name, seen_by, planted, what):
    sets = {NETWORK: POOL, "image_tokenizer": POOL} | {name: planted}
    sentences, is_blocked = found(finetuned(tmp_path, "model", **sets))
    assert is_blocked
    assert any(said.startswith(f"1 {what} of the test split were seen by {seen_by}: ") for said in sentences)
    assert not [said for said in sentences if seen_by not in said]


def test_an_arm_without_pretrained_weights_has_no_pool_though_its_model_has_a_leaky_one(tmp_path):
    finetuned(tmp_path, "leaky", **{NETWORK: LEAKY})
    result = pretraining_never_saw_it(finetuned(tmp_path, "scratch"), HELD_OUT)
    assert result.passed
    assert "nothing was pretrained" in result.metadata["note"].value


def test_published_weights_whose_pool_is_unknown_are_a_warning_and_not_another_models_pool(tmp_path):
    finetuned(tmp_path, "clean", **{NETWORK: POOL})
    result = pretraining_never_saw_it(finetuned(tmp_path, "published", **{NETWORK: None}), HELD_OUT)
    assert (result.passed, result.severity.name) == (True, "WARN")
    assert "unknown" in result.metadata["note"].value
