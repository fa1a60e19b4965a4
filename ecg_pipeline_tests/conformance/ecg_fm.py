"""Checks of ECG-FM's network: extractor, encoder, pretraining, quantiser, classifier, attention."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from ecg_pipeline.explanation.attention_curve import attention_curve
from ecg_pipeline.models.ecg_fm.classifier import EcgFmClassifier
from ecg_pipeline.models.ecg_fm.contrast import cmsc_loss, frame_logits, mean_over_time
from ecg_pipeline.models.ecg_fm.masking import sample_negatives
from ecg_pipeline.models.ecg_fm.network import EcgFmModel, Predictions
from ecg_pipeline.models.ecg_fm.objective import correct, loss_terms
from ecg_pipeline.models.ecg_fm.quantiser import Quantiser
from ecg_pipeline.models.ecg_fm.recipes import EcgFmRecipe, GumbelRecipe
from ecg_pipeline.models.wav2vec2 import FeatureExtractor, frame_padding
from ecg_pipeline.training.weights import load_exactly
from ecg_pipeline_tests.conformance.ecg_fm_options import (
    gradients_within,
    network_of,
    pretraining_of,
    within,
)
from ecg_pipeline_tests.conformance.fixtures import Fixture


def feature_extractor(fixture: Fixture) -> None:
    shape = network_of(fixture.facts["config"]).shape
    extractor = FeatureExtractor(shape)
    load_exactly(extractor, fixture.named("param."))
    x = fixture.tensors["in.x"]
    for layer, module in enumerate(extractor.conv_layers):
        x = module(x)
        within(x, fixture.tensors[f"out.layer{layer}"], fixture, f"layer {layer}")
    features = extractor(fixture.tensors["in.x"])
    within(features, fixture.tensors["out.final"], fixture, "features")
    within(features.square().mean(), fixture.tensors["out.features_pen"], fixture, "penalty")
    for samples, frames in fixture.facts["output_length_by_input_length"].items():
        assert shape.frames(int(samples)) == frames, f"frames of {samples} samples"
        assert extractor(torch.zeros(1, shape.leads, int(samples))).shape[-1] == frames


def encoder(fixture: Fixture) -> None:
    tensors, model = fixture.tensors, _model(fixture).eval()
    between: dict[str, Tensor] = {}
    parts: dict[str, nn.Module] = {f"layer{place}": layer for place, layer in enumerate(model.encoder.layers)}
    parts |= {"post_extract_proj": model.post_extract_proj, "conv_pos": model.conv_pos}
    for name, module in parts.items():
        module.register_forward_hook(lambda _, inputs, output, name=name: between.__setitem__(name, output))
    source = tensors["in.source"]
    context = model.encode(source)
    for name, expected in fixture.named("out.mid.").items():
        within(between[name], expected, fixture, name)
    within(context, tensors["out.x"], fixture, "context")
    within(model.frames(source), tensors["out.features_after_layer_norm"], fixture, "normalised frames")
    within(torch.stack(model.attention(source), dim=1), tensors["out.saliency"], fixture, "attention")
    within(mean_over_time(context), tensors["out.pooled"], fixture, "pooled")

    padding = _padding(fixture, model)
    source = tensors["in.source_padded"]
    context = model.encode(source, padding)
    within(context, tensors["out.padded.x"], fixture, "context of padded segments")
    attention = torch.stack(model.attention(source, padding), dim=1)
    within(attention, tensors["out.padded.saliency"], fixture, "attention of padded segments")
    pooled = mean_over_time(context.masked_fill(padding[..., None], 0))
    within(pooled, tensors["out.padded.pooled"], fixture, "pooled padded segments")


def pretrain_eval(fixture: Fixture) -> None:
    model = _model(fixture).eval()
    with torch.inference_mode():
        _pretrained(fixture, model)
    _same_codes(fixture, model)
    segments, masked = fixture.tensors["in.mask_indices"].shape[0], fixture.facts["masked_per_row"]
    negatives = torch.from_numpy(
        sample_negatives(np.random.default_rng(0), segments=segments, masked=masked, negatives=100 * masked)
    )
    of_fixture = negatives_of(fixture.tensors["in.negative_flat_indices"], fixture.tensors["in.mask_indices"].bool())
    own = torch.arange(masked)[:, None]
    for found in (negatives, of_fixture):
        assert not (found == own).any(), "a frame is its own negative"
        assert (found >= 0).all(), "a negative is of another segment"
        assert (found < masked).all(), "a negative is of another segment"
    often = torch.stack([(negatives == place).sum(dim=(0, 2)) for place in range(masked)], dim=1)  # (own, other)
    expected = segments * 100 * masked / (masked - 1)
    off_diagonal = often[~torch.eye(masked, dtype=torch.bool)]
    assert ((off_diagonal - expected).abs() < 6 * expected**0.5).all(), "some frames are negatives more often"


def pretrain_train(fixture: Fixture) -> None:
    model = _model(fixture).train()
    _pretrained(fixture, model).backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    without = [name for name, gradient in gradients.items() if gradient is None]
    assert without == fixture.facts["params_without_grad"]
    gradients_within(gradients, fixture)
    norm = nn.utils.get_total_norm([gradient for gradient in gradients.values() if gradient is not None])
    within(norm, fixture.facts["grad_global_norm"], fixture, "norm of the gradient")


def quantiser(fixture: Fixture) -> None:
    for place, case in enumerate(fixture.facts["cases"]):
        tensors = fixture.named(f"case{place}.")
        made = Quantiser(case["dim"], codebooks=case["groups"], codes=case["num_vars"], out=case["vq_dim"]).eval()
        load_exactly(made, fixture.named(f"case{place}.param."))
        found = made(tensors["x"])
        assert found.size == case["num_vars_total"]
        assert torch.equal(found.codes, tensors["codes"]), "codes differ"
        assert torch.equal(made.joint_codes(found.codes), tensors["codebook_index"]), "joint codes differ"
        within(found.vectors, tensors["out"], fixture, "quantised")
        within(found.code_perplexity, tensors["code_perplexity"], fixture, "perplexity of the codes")
        within(found.probability_perplexity, tensors["prob_perplexity"], fixture, "perplexity of the probabilities")
    schedule = fixture.facts["temperature_schedule"]
    gumbel = GumbelRecipe(first=schedule["max"], last=schedule["min"], decay=schedule["decay"])
    for step, temperature in schedule["values"].items():
        assert abs(gumbel.temperature(int(step)) - temperature) < 1e-12, f"temperature of step {step}"


def cmsc(fixture: Fixture) -> None:
    for place, case in enumerate(fixture.facts["cases"]):
        tensors = fixture.named(f"case{place}.")
        features = tensors["features"].requires_grad_()
        loss = cmsc_loss(
            features,
            recordings=tensors["record_id"],
            places=tensors["segment"],
            temperature=fixture.facts["temp"],
        )
        within(loss, tensors["loss"], fixture, "loss")
        within(loss, case["loss"], fixture, "loss")
        loss.backward()
        assert features.grad is not None
        within(features.grad, tensors["grad"], fixture, "gradient")
        tensors["features"].requires_grad_(False)


def finetune(fixture: Fixture) -> None:
    facts, tensors = fixture.facts, fixture.tensors
    classifier = _classifier(fixture)
    source, target = tensors["in.source"], tensors["in.target"]
    frames, pooled = classifier.encoder.encode(source), classifier.encode(source)
    within(frames, tensors["out.encoder_out"], fixture, "context")
    within(pooled, tensors["out.pooled"], fixture, "features")
    logits = classifier(source)
    within(logits, tensors["out.logits"], fixture, "log-odds")
    loss = binary_cross_entropy_with_logits(logits, target, pos_weight=tensors["in.pos_weight"], reduction="sum")
    within(loss, tensors["out.loss_sum"], fixture, "loss")
    assert target.numel() == facts["sample_size"]
    within(loss / target.numel(), facts["loss_per_element"], fixture, "loss of an element")
    probed = binary_cross_entropy_with_logits(logits, target)
    within(probed, facts["linear_probe_loss_mean_no_pos_weight"], fixture, "loss of a linear probe")
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in classifier.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == facts["params_without_grad"]
    gradients_within(gradients, fixture)
    padding = _padding(fixture, classifier.encoder)
    padded = classifier.classify(classifier.encode(tensors["in.source_padded"], padding))
    within(padded, tensors["out.padded.logits"], fixture, "log-odds of padded segments")


def saliency(fixture: Fixture) -> None:
    tensors, samples = fixture.tensors, fixture.facts["n_samples"]
    attention = tensors["in.attention"][:, -1]
    within(attention.amax(dim=2), tensors["out.attn_max"], fixture, "largest weight")
    curve = torch.from_numpy(attention_curve(attention.numpy(), samples))
    within(curve, tensors["out.projected"], fixture, "curve")


def negatives_of(flat: Tensor, mask: Tensor) -> Tensor:
    """Places among the masked frames of a segment, (B, T, N), from rows of all masked frames, (B, T * N)."""
    masked = int(mask[0].sum())
    first = masked * torch.arange(len(mask))[:, None, None]
    return flat.unflatten(1, (masked, -1)) - first


def _model(fixture: Fixture) -> EcgFmModel:
    """The pretraining model of a fixture."""
    config = fixture.facts["config"]
    model = EcgFmModel(network_of(config), pretraining_of(config))
    load_exactly(model, fixture.named("param."))
    return model


def _classifier(fixture: Fixture) -> EcgFmClassifier:
    """The classifier of a fixture, in training without dropout."""
    facts = fixture.facts
    recipe = network_of(facts["config"] | {"feature_grad_mult": facts["feature_grad_mult"]})
    options = {"activation_dropout": 0.0, "train_convolutions": facts["feature_grad_mult"] > 0}
    classifier = EcgFmClassifier(EcgFmRecipe(**{**recipe.__dict__, **options}), labels=facts["num_labels"])
    load_exactly(classifier, fixture.named("param."))
    return classifier.train()


def _padding(fixture: Fixture, model: nn.Module) -> Tensor:
    """Frames of a fixture's padded segments that are padding, which are those of the fixture."""
    tensors = fixture.tensors
    padding = frame_padding(tensors["in.padding_mask"][:, 0].bool(), model.shape)  # type: ignore[arg-type]
    assert padding is not None
    assert torch.equal(padding, tensors["out.padded.frame_padding_mask"].bool()), "padded frames differ"
    assert frame_padding(torch.zeros(2, 100, dtype=torch.bool), model.shape) is None  # type: ignore[arg-type]
    return padding


def _pretrained(fixture: Fixture, model: EcgFmModel) -> Tensor:
    """The loss of a fixture, after everything on the way to it was compared."""
    facts, tensors, recipe = fixture.facts, fixture.tensors, model.pretraining
    mask = tensors["in.mask_indices"].bool()
    temperature = recipe.gumbel.temperature(facts["num_updates"])
    assert abs(temperature - facts["quantizer_temp"]) < 1e-12
    masked, codebooks = int(mask[0].sum()), model.quantizer.codebooks
    assert (mask.shape[1], masked) == (facts["T_frames"], facts["masked_per_row"])
    noise = tensors.get("in.gumbel_noise")
    found: Predictions = model(
        tensors["in.source"],
        mask,
        negatives_of(tensors["in.negative_flat_indices"], mask),
        gumbel_temperature=temperature,
        noise=None if noise is None else noise.unflatten(0, (len(mask), masked, codebooks)),
    )
    quantised = found.quantised
    assert torch.equal(quantised.codes, tensors["out.quantizer_codes"]), "codes differ"
    assert quantised.size == facts["num_vars_total"]
    targets = model.frames(tensors["in.source"])[mask].unflatten(0, (len(mask), -1))
    for expected, value in {
        "quantizer_input": targets,
        "quantized": quantised.vectors,
        "target_proj": found.projected,
        "context_proj": found.predicted,
        "logits": found.logits.permute(2, 0, 1),
        "encoder_x_masked": found.context,
        "pooled": mean_over_time(found.context),
        "prob_perplexity": quantised.probability_perplexity,
        "code_perplexity": quantised.code_perplexity,
        "features_pen": found.penalty,
    }.items():
        within(value, tensors[f"out.{expected}"], fixture, expected)
    if "out.quantizer_logits" in tensors:
        logits = model.quantizer.weight_proj(targets).reshape(-1, model.quantizer.codes)
        within(logits, tensors["out.quantizer_logits"], fixture, "logits of the codes")
    assert int(found.logits.isneginf().sum()) == facts["n_neg_equal_pos"]
    assert found.logits[..., 0].numel() == facts["infonce_count"] == facts["sample_size"]
    assert int(correct(found.logits)) == facts["infonce_correct"], "number of right frames"
    ids = {"recordings": tensors["in.patient_id"], "places": tensors["in.segment"]}
    terms = loss_terms(found, recipe, **ids)
    within(terms, torch.tensor(facts["loss_terms"]), fixture, "terms of the loss")
    within(terms.sum(), facts["loss"], fixture, "loss")
    return terms.sum()


def _same_codes(fixture: Fixture, model: EcgFmModel) -> None:
    """Whether a negative is its target is decided by their codes: rounding of the vectors changes nothing."""
    tensors, mask = fixture.tensors, fixture.tensors["in.mask_indices"].bool()
    rounding = 1 + 1e-6 * torch.randn(tensors["out.target_proj"].shape, generator=torch.Generator().manual_seed(0))
    logits = frame_logits(
        tensors["out.context_proj"],
        tensors["out.target_proj"] * rounding,
        codes=model.quantizer.joint_codes(tensors["out.quantizer_codes"]),
        negatives=negatives_of(tensors["in.negative_flat_indices"], mask),
        temperature=model.pretraining.temperature,
    )
    within(logits.permute(2, 0, 1), tensors["out.logits"], fixture, "logits of rounded targets")
