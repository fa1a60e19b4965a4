"""ECG-FM in other shapes by a plain reference, that reference by the published numbers, and planted mistakes."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import gelu
from torch.nn.utils import parametrizations

from ecg_pipeline.explanation import attention_curve
from ecg_pipeline.models import wav2vec2
from ecg_pipeline.models.ecg_fm import contrast, masking, network, quantiser
from ecg_pipeline.models.ecg_fm.recipes import GumbelRecipe
from ecg_pipeline.signals import windows
from ecg_pipeline.training import schedules
from ecg_pipeline.training.batches import Batches
from ecg_pipeline_tests.conformance.fixtures import Fixture, find_fixtures
from ecg_pipeline_tests.conformance.kinds import ECG_FM, check
from ecg_pipeline_tests.conformance.reference import ecg_fm as reference
from ecg_pipeline_tests.conformance.reference import ecg_fm_data as data
from ecg_pipeline_tests.conformance.reference.ecg_fm_folder import write_ecg_fm
from ecg_pipeline_tests.conformance.reference.ecg_fm_states import double
from ecg_pipeline_tests.conformance.reference.write import Files
from ecg_pipeline_tests.conformance.test_mutations import rewritten
from ecg_pipeline_tests.conftest import SHARED

ONE_SIZE = ("fullsize", "checkpoint_layout")
"""Kinds of which there is one set of shapes."""
KINDS = [kind for kind in ECG_FM if kind not in ONE_SIZE]


@pytest.fixture(scope="module")
def of_kind(tmp_path_factory):
    """Fixtures that the reference made, by kind."""
    folder = tmp_path_factory.mktemp("other_shapes") / "ecg_fm"
    folder.mkdir()
    write_ecg_fm(Files(folder), seed=11)
    return {fixture.kind: fixture for fixture in find_fixtures(folder)}


@pytest.mark.parametrize("kind", KINDS)
def test_other_shapes(of_kind, kind):
    check(of_kind[kind])


def golden(kind):
    fixture = Fixture(SHARED / "golden" / "ecg_fm" / kind)
    if not fixture.path.with_suffix(".json").exists():
        pytest.skip(f"there is no folder {SHARED.name}/golden beside the project")
    return fixture


def close(found, fixture, name):
    expected = fixture.tensors[name]
    facts = fixture.facts
    torch.testing.assert_close(
        torch.as_tensor(found).detach().to(expected.dtype), expected, atol=facts["atol"], rtol=facts.get("rtol", 0.0)
    )


@pytest.mark.parametrize("name", ["core", "variant"])
def test_the_reference_gives_the_published_contexts(name):
    fixture = golden(f"encoder_{name}")
    config, state = fixture.facts["config"], double(fixture.named("param."))
    source, padded = (fixture.tensors[f"in.{key}"].double() for key in ("source", "source_padded"))
    for key, found in reference.encode(config, state, source).items():
        close(found, fixture, f"out.{key}")
    frames = reference.frame_padding(config, fixture.tensors["in.padding_mask"][:, 0])
    close(frames, fixture, "out.padded.frame_padding_mask")
    found = reference.encode(config, state, padded, frames)
    for key in ("x", "saliency", "pooled"):
        close(found[key], fixture, f"out.padded.{key}")


@pytest.mark.parametrize("kind", ["pretrain_eval_core", "pretrain_eval_variant", "pretrain_train_core"])
def test_the_reference_gives_the_published_losses_and_gradients(kind):
    fixture = golden(kind)
    facts, state = fixture.facts, {k: t.requires_grad_() for k, t in double(fixture.named("param.")).items()}
    given = {k: t.double() if t.is_floating_point() else t for k, t in fixture.named("in.").items()}
    outputs, terms = reference.pretrain(facts["config"], state, given, facts["quantizer_temp"])
    for key, found in outputs.items():
        close(found, fixture, f"out.{key}")
    assert [term.item() for term in terms] == pytest.approx(facts["loss_terms"], rel=1e-5)
    sum(terms).backward()
    for key in fixture.named("grad."):
        if not key.endswith("k_proj.bias"):
            close(state[key].grad, fixture, f"grad.{key}")


def test_the_reference_gives_the_published_parts():
    fixture = golden("quantizer")
    for place, case in enumerate(fixture.facts["cases"]):
        state, x = double(fixture.named(f"case{place}.param.")), fixture.tensors[f"case{place}.x"].double()
        found = reference.quantise(state, x, case["groups"])
        for key in ("out", "codes", "code_perplexity", "prob_perplexity"):
            close(found[key], fixture, f"case{place}.{key}")
    fixture = golden("cmsc")
    for place in range(len(fixture.facts["cases"])):
        tensors = fixture.named(f"case{place}.")
        features = tensors["features"].double().requires_grad_()
        loss = reference.cmsc(features, tensors["record_id"], tensors["segment"], fixture.facts["temp"])
        loss.backward()
        close(loss, fixture, f"case{place}.loss")
        close(features.grad, fixture, f"case{place}.grad")
    fixture = golden("optimizer")
    for name in fixture.named("in.step0.grad."):
        gradients = [fixture.tensors[f"in.step{step}.grad.{name}"].double() for step in range(3)]
        values = reference.adam(fixture.tensors[f"in.{name}"].double(), gradients, fixture.facts)
        for step, value in enumerate(values):
            close(value, fixture, f"out.step{step}.{name}")


def text(mask):
    return ["".join("01"[int(place)] for place in row) for row in mask]


def test_the_reference_draws_the_published_masks():
    for case in golden("span_mask").facts["examples"]:
        random, sizes = np.random.RandomState(case["numpy_seed"]), (case["batch"], case["T"])
        options = case["mask_prob"], case["mask_length"], case.get("padded_from")
        assert text(data.span_mask(random, *sizes, *options)) == case["mask"]
    for options, examples in golden("rlm").facts["examples"].items():
        probability, share, seed = (option.split("=")[1] for option in options.split(","))
        random = np.random.RandomState(int(seed))
        assert text(data.lead_mask(random, float(probability), float(share)) for _ in examples) == examples


def test_the_reference_gives_the_published_segments_curve_and_areas():
    fixture = golden("preprocess")
    for case in fixture.facts["cases"]:
        resampled = data.resample(fixture.tensors[f"{case['case']}.raw_leads"].double().numpy(), case["fs"])
        close(resampled, fixture, f"{case['case']}.resampled_leads")
        close(data.standardise(resampled), fixture, f"{case['case']}.standardised_leads")
    fixture = golden("saliency")
    sharpest, curves = data.curve(fixture.tensors["in.attention"][:, -1].numpy(), fixture.facts["n_samples"])
    close(sharpest, fixture, "out.attn_max")
    close(curves, fixture, "out.projected")
    facts = json.loads(golden("metrics").path.with_suffix(".json").read_text())
    labels, scores = np.array(facts["y_true"]), np.array(facts["scores"])
    areas = np.array([data.areas(labels[:, k], scores[:, k]) for k in range(labels.shape[1])])
    assert areas[:, 0] == pytest.approx(facts["per_label_auroc"], abs=1e-9)
    assert areas.mean(0)[:2] == pytest.approx([facts["macro_auroc"], facts["macro_auprc"]], abs=1e-9)


def norm_over_channels(patch):
    def forward(self, g, v):
        return g * v / v.norm(dim=(1, 2), keepdim=True)

    patch.setattr(parametrizations._WeightNorm, "forward", forward)


def tanh_gelu(patch):
    patch.setattr(wav2vec2, "gelu", partial(gelu, approximate="tanh"))


def tanh_gelu_of_convolutions(patch):
    patch.setattr(nn.GELU, "forward", lambda self, x: gelu(x, approximate="tanh"))


def convolutions_not_frozen(patch):
    patch.setattr(nn.Module, "requires_grad_", lambda self, wanted=True: self)


FORWARD, ENCODE = network.EcgFmModel.forward, wav2vec2.WaveformEncoder.encode
SPANS, LOGITS = masking.sample_span_masks, contrast.frame_logits
LOCATED, OF_LOCATED = "self.encoder(self.locate(masked))", "self.encoder(self.locate(self.project(frames)))"
EMBEDDED_LATE = "self.encoder(torch.where(mask[..., None], self.mask_emb, self.locate(self.project(frames))))"

MISTAKES = {
    "own_frame_a_negative/pretrain_eval_core": partial(
        rewritten, masking.sample_negatives, "others + (others >= np.arange(masked)[:, None])", "others"
    ),
    "equal_by_float/pretrain_eval_core": partial(
        rewritten, LOGITS, "codes[:, :, None] == codes[:, None, :]", "(targets[:, :, None] == targets[:, None]).all(-1)"
    ),
    "equal_negatives_kept/pretrain_eval_variant": partial(rewritten, LOGITS, 'is_same, float("-inf")', "is_same, 0.0"),
    "dot_products/pretrain_eval_core": partial(rewritten, LOGITS, "normalize(context, dim=-1, eps=EPS)", "context"),
    "norm_not_constant/cmsc": partial(rewritten, contrast.cmsc_loss, "segments.detach().norm", "segments.norm"),
    "norm_not_constant/pretrain_train_core": partial(
        rewritten, contrast.cmsc_loss, "segments.detach().norm", "segments.norm"
    ),
    "rows_only/cmsc": partial(rewritten, contrast.cmsc_loss, "rows.mean() + columns.mean()", "2 * rows.mean()"),
    "zeros_counted/encoder_core": partial(
        rewritten, contrast.mean_over_time, "(frames != 0).sum(dim=1).clamp(min=1)", "frames.shape[1]"
    ),
    "zeros_counted/finetune": partial(
        rewritten, contrast.mean_over_time, "(frames != 0).sum(dim=1).clamp(min=1)", "frames.shape[1]"
    ),
    "norm_over_channels/encoder_core": norm_over_channels,
    "norm_over_channels/pretrain_train_variant": norm_over_channels,
    "mask_not_embedded/pretrain_eval_core": partial(rewritten, FORWARD, LOCATED, OF_LOCATED),
    "mask_embedded_after_the_position/pretrain_eval_core": partial(rewritten, FORWARD, LOCATED, EMBEDDED_LATE),
    "penalty_before_the_multiplier/pretrain_train_core": partial(
        rewritten, FORWARD, "features.float().square()", "self.feature_extractor(x).square()"
    ),
    "targets_not_multiplied/pretrain_train_core": partial(
        rewritten, FORWARD, "if features.requires_grad:", "if not features.requires_grad:"
    ),
    "tanh_gelu/encoder_core": tanh_gelu,
    "tanh_gelu/encoder_variant": tanh_gelu,
    "tanh_gelu_of_convolutions/feature_extractor_core": tanh_gelu_of_convolutions,
    "norm_before_the_layers_missing/encoder_core": partial(
        rewritten, wav2vec2.Transformer._prepare, "x if self.pre_norm else self.layer_norm(x)", "x"
    ),
    "norm_after_the_layers_missing/encoder_variant": partial(
        rewritten, wav2vec2.Transformer.forward, "self.layer_norm(x) if self.pre_norm else x", "x"
    ),
    "last_frame_of_an_even_kernel_kept/encoder_core": partial(
        rewritten, wav2vec2.PositionalConvolution.forward, "[..., : x.shape[1]]", "[..., -x.shape[1] :]"
    ),
    "padding_zeroed_before_the_position/encoder_core": partial(
        rewritten,
        ENCODE,
        "self.project(self.frames(x))",
        "self.project(self.frames(x)) * (1 if padding is None else ~padding[..., None])",
    ),
    "padding_attended/encoder_variant": partial(
        rewritten, wav2vec2.Transformer._prepare, "~padding[:, None, None, :]", "(padding == padding)[:, None, None, :]"
    ),
    "frames_of_padding_rounded_up/encoder_core": partial(
        rewritten, wav2vec2.frame_padding, "shape.frames(samples)]", "-(-samples // shape.samples_per_frame)]"
    ),
    "probabilities_with_temperature/pretrain_train_core": partial(
        rewritten,
        quantiser.Quantiser.forward,
        "_perplexity(logits.softmax(dim=-1))",
        "_perplexity((logits / temperature).softmax(dim=-1))",
    ),
    "soft_codes/pretrain_train_core": partial(
        rewritten, quantiser.Quantiser.forward, "one_hot(codes, self.codes) + (soft - soft.detach())", "soft"
    ),
    "no_gradient_through_codes/pretrain_train_variant": partial(
        rewritten, quantiser.Quantiser.forward, "(soft - soft.detach())", "(soft - soft).detach()"
    ),
    "first_group_fastest/quantizer": partial(
        rewritten,
        quantiser.Quantiser.joint_codes,
        "torch.arange(self.codebooks - 1, -1, -1, device=codes.device)",
        "torch.arange(self.codebooks)",
    ),
    "temperature_of_the_next_step/quantizer": partial(
        rewritten, GumbelRecipe.temperature, "self.decay**step", "self.decay**(step + 1)"
    ),
    "convolutions_not_frozen/finetune": convolutions_not_frozen,
    "plain_eps/optimizer": partial(
        rewritten, schedules.corrected_eps, "/ (1 - beta2 ** (step + 1)) ** 0.5", "* 1 + 0 * step * beta2"
    ),
    "eps_of_the_step_before/optimizer": partial(rewritten, schedules.corrected_eps, "step + 1", "max(step, 1)"),
    "last_frame_masked/span_mask": partial(
        rewritten, SPANS, "(of - recipe.length)[:, None]", "(of - recipe.length + 1)[:, None]"
    ),
    "spans_of_a_fixed_number/span_mask": partial(rewritten, SPANS, "/ recipe.length + rounding", "/ recipe.length"),
    "not_cut_to_the_least/span_mask": partial(
        rewritten, SPANS, "_lowest(rng, mask, np.full(segments, mask.sum(axis=1).min()))", "mask"
    ),
    "first_frames_kept/span_mask": partial(
        rewritten,
        SPANS,
        "_lowest(rng, mask, np.full(segments, mask.sum(axis=1).min()))",
        "mask & (mask.cumsum(axis=1) <= mask.sum(axis=1).min())",
    ),
    "leads_masked_together/rlm": partial(
        rewritten, masking.sample_lead_masks, "rng.random((segments, leads))", "rng.random((segments, 1))"
    ),
    "every_segment_masked/rlm": partial(
        rewritten, masking.sample_lead_masks, "< recipe.probability", "< recipe.probability + 1"
    ),
    "sample_deviation/preprocess": partial(
        rewritten, windows._standardise, "return out", "return out * (1 - 1 / rows[1]) ** 0.5"
    ),
    "grid_of_whole_steps/preprocess": partial(
        rewritten, windows._resample, "np.linspace(0, samples - 1,", "np.linspace(0, samples,"
    ),
    "second_segment_first/manifest": partial(
        rewritten, Batches._shuffled, "np.arange(together)", "np.arange(together)[::-1]"
    ),
    "attention_received/saliency": partial(rewritten, attention_curve.attention_curve, "max(axis=2)", "max(axis=1)"),
}
"""By what is wrong and the kind that must notice it."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake, of_kind, monkeypatch):
    fixture = of_kind[mistake.split("/")[1]]
    MISTAKES[mistake](monkeypatch)
    with pytest.raises(AssertionError):
        check(fixture)
