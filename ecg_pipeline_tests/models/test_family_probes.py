"""Probes of every family: classifiers of the family with the encoder as it was."""

from functools import partial

import numpy as np
import polars as pl
import torch

from ecg_pipeline.models.encoders import encoder_of
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.load import classifier_facts, load_classifier
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.features import extract_features
from ecg_pipeline.training.probe import fit_probe
from ecg_pipeline.training.recipes import ProbeRecipe
from ecg_pipeline.training.score import score
from ecg_pipeline_tests.models.examples import (
    of_pretrained_families,
    perturbed,
    same,
)


def probed(example, out, start=None):
    """The probe of seed 0, and the features that it was fitted to."""
    recipe, encoder = ProbeRecipe(c=(0.01, 1.0)), encoder_of(start, 0)
    build = partial(encoder.classifier, example.row.recipe)
    features = extract_features(example.view["s"], {encoder.name: build}, out / "features").of(encoder.name)
    model = fit_probe(
        lambda seed: build(),
        recipe,
        features=lambda seed: {"s": features},
        train=example.table[:16],
        selection=example.table[16:],
        facts=classifier_facts(example.row.recipe, start),
        out=out / "probe",
    )
    return model.checkpoints()[0], features


def test_the_output_layer_is_what_classify_ends_in(example):
    classifier = perturbed(example.classifier())
    with torch.inference_mode():
        features = classifier.features(torch.from_numpy(example.stored[:5]))
        assert torch.equal(classifier.output_layer()(features), classifier.classify(features))


def check_probe(example, checkpoint, features, encoder):
    """A probe loads and scores as any classifier does, on examples as on features, and its encoder is as it was."""
    loaded, examples = load_classifier(checkpoint), torch.from_numpy(example.stored)
    array = np.concatenate([features.read(shard) for shard in features.shards()])
    with torch.inference_mode():
        np.testing.assert_allclose(loaded.features(examples), array, atol=1e-5)
        log_odds = loaded.classify(torch.from_numpy(array))[:, 0]
    scored = score(loaded, Batches(arrays={"view": example.view}, table=example.table), device="cpu")
    # The examples of an ECG stand side by side, equally many of each.
    of_ecgs = log_odds.sigmoid().reshape(len(scored), -1).mean(dim=1)
    np.testing.assert_allclose(scored["score"], of_ecgs, atol=1e-5)
    assert scored["score"].n_unique() > 1
    held_out = pl.read_parquet(checkpoint.folder / "validation.parquet")
    both = held_out.join(scored.select("ecg_id", now="score"), on="ecg_id")
    np.testing.assert_allclose(both["score"], both["now"], atol=1e-5)
    head = {id(tensor) for tensor in loaded.output_layer().parameters()}
    frozen = [name for name, tensor in loaded.state_dict(keep_vars=True).items() if id(tensor) not in head]
    stored, before = checkpoint.state(), encoder.state_dict()
    assert same({name: stored[name] for name in frozen}, {name: before[name] for name in frozen})
    assert len(frozen) == len(stored) - 2


def test_a_probe_of_a_random_encoder_is_a_classifier_of_its_family(example, tmp_path):
    checkpoint, features = probed(example, tmp_path)
    assert checkpoint.config()["initialisation"] == RANDOM
    check_probe(example, checkpoint, features, example.classifier(0))


@of_pretrained_families
def test_a_probe_of_a_pretrained_encoder_is_a_classifier_of_its_family(example, pretrained, tmp_path):
    checkpoint, features = probed(example, tmp_path, pretrained)
    assert checkpoint.config()["initialisation"] == example.family.objective_name
    assert checkpoint.config()["started_from"] == {"0": "seed_0"}
    check_probe(example, checkpoint, features, example.classifier(0, pretrained.start(0)))
