"""Checks of ECG-FM in its own size: names and shapes of its weights, and its numbers with weights from a formula."""

from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ecg_pipeline.models.ecg_fm.classifier import EcgFmClassifier
from ecg_pipeline.models.ecg_fm.contrast import mean_over_time
from ecg_pipeline.models.ecg_fm.network import HEADS, EcgFmModel
from ecg_pipeline.models.ecg_fm.objective import loss_terms
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe
from ecg_pipeline_tests.conformance.ecg_fm import negatives_of
from ecg_pipeline_tests.conformance.ecg_fm_options import within
from ecg_pipeline_tests.conformance.fixtures import Fixture


def fullsize(fixture: Fixture) -> None:
    facts, tensors = fixture.facts, fixture.tensors
    recipe, salt = EcgFmRecipe(), facts["salt"]
    x = _signal(4, recipe.leads, 2500, salt)
    within(x[:, 0, :64], tensors["in.source_check_first_lead"], fixture, "input")
    model = EcgFmModel(recipe, EcgFmPretraining()).eval()
    assert sum(parameter.numel() for parameter in model.parameters()) == facts["n_params_pretraining"]
    _fill(model, salt)
    with torch.inference_mode():
        context = model.encode(x)
        within(context[0], tensors["out.encoder_x_first"], fixture, "context of the first segment")
        within(context[1:, ::13], tensors["out.encoder_x_others_every13"], fixture, "context of the others")
        within(context.std(), facts["encoder_x_std"], fixture, "spread of the context")
        within(mean_over_time(context), tensors["out.pooled"], fixture, "pooled")
        frames = model.frames(x)[:, ::13]
        within(frames, tensors["out.features_after_layer_norm_every13"], fixture, "normalised frames")
        mask = tensors["in.mask_indices"].bool()
        found = model(x, mask, negatives_of(tensors["in.negative_flat_indices"].long(), mask))
        within(found.logits.permute(2, 0, 1), tensors["out.logits"], fixture, "logits")
        ids = torch.tensor(facts["record_id"]), torch.tensor(facts["segment"])
        terms = loss_terms(found, EcgFmPretraining(), recordings=ids[0], places=ids[1])
        within(terms, torch.tensor(facts["loss_terms"]), fixture, "terms of the loss")
        within(terms.sum(), facts["loss"], fixture, "loss")
        assert found.logits[..., 0].numel() == facts["sample_size"]
        assert int(found.logits.isneginf().sum()) == facts["n_neg_equal_pos"]
        within(found.penalty, facts["features_pen"], fixture, "penalty")
        quantised = found.quantised
        within(quantised.probability_perplexity, facts["prob_perplexity"], fixture, "perplexity of the probabilities")
        within(quantised.code_perplexity, facts["code_perplexity"], fixture, "perplexity of the codes")
        expected = tensors["out.classifier_logits"]
        classifier = EcgFmClassifier(recipe, labels=expected.shape[1]).eval()
        assert sum(parameter.numel() for parameter in classifier.parameters()) == facts["n_params_classifier"]
        _fill(classifier, facts["classifier_salt"])
        within(classifier(x), expected, fixture, "log-odds")


def checkpoint_layout(fixture: Fixture) -> None:
    facts, recipe = fixture.facts, EcgFmRecipe()
    labels = facts["finetuned_17"]["keys"]["proj.weight"][0][0]
    with torch.device("meta"):
        pretrained, finetuned = EcgFmModel(recipe, EcgFmPretraining()), EcgFmClassifier(recipe, labels=labels)
    for module, name in ((pretrained, "pretrain"), (finetuned, "finetuned_17")):
        own = {key: [list(tensor.shape), str(tensor.dtype)[6:]] for key, tensor in module.state_dict().items()}
        assert own == facts[name]["keys"], f"names and shapes of {name}"
        assert sum(parameter.numel() for parameter in module.parameters()) == facts[name]["n_params"]
    prefix = facts["prefix_in_finetuned_model"]
    kept = {f"{prefix}{name}" for name in pretrained.state_dict() if not name.startswith(HEADS)}
    assert kept == {name for name in facts["finetuned_17"]["keys"] if not name.startswith("proj.")}
    dropped = " ".join(facts["dropped_when_used_as_encoder"])
    assert all(head in dropped for head in HEADS)


def _hashed(i: NDArray[np.uint64], j: int, salt: int) -> NDArray[np.float64]:
    """The documented integer hash of places i of tensor j: (n,) in [-1, 1]."""
    word = np.uint64(2**32 - 1)
    h = (i * np.uint64(0x9E3779B1) + np.uint64(((j + 1) * 0x85EBCA6B + salt) % 2**32)) & word
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        h = ((h ^ (h >> np.uint64(shift))) * np.uint64(factor)) & word
    return (h ^ (h >> np.uint64(16))) / 2.0**31 - 1


def _fill(module: nn.Module, salt: int) -> None:
    """Set every parameter by the documented hash."""
    named = dict(module.named_parameters())
    with torch.no_grad():
        for place, name in enumerate(sorted(named)):
            parameter = named[name]
            v = _hashed(np.arange(parameter.numel(), dtype=np.uint64), place, salt)
            if name.endswith(("layer_norm.weight", "conv_layers.0.2.weight")):
                v = 1 + 0.3 * v
            elif name.endswith("original0"):
                v = 1 + 0.4 * v
            elif not name.endswith(("quantizer.vars", "weight_proj.weight")):
                fan = parameter.numel() / parameter.shape[0]
                v = 0.2 * v if parameter.ndim <= 1 else 1.2 * 3**0.5 * v / fan**0.5
            parameter.copy_(torch.from_numpy(v.astype(np.float32)).reshape(parameter.shape))


def _signal(segments: int, leads: int, samples: int, salt: int) -> Tensor:
    """The documented input: (segments, leads, samples)."""
    t, x = np.arange(samples), np.empty((segments, leads, samples), np.float32)
    for b in range(segments):
        for c in range(leads):
            slow = np.sin(2 * pi * t * (1.1 + 0.07 * c + 0.31 * b) / 500 + 0.5 * c)
            fast = 0.6 * np.sin(2 * pi * t * (7 + c) / 500 + b)
            x[b, c] = slow + fast + 0.5 * _hashed(t.astype(np.uint64), 1000 + 12 * b + c, salt)
    return torch.from_numpy(x)
