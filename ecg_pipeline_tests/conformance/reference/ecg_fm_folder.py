"""Fixtures of ECG-FM of every kind but the full size, with other shapes, options and seeds than the published ones."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import softplus

from ecg_pipeline_tests.conformance.ecg_fm_options import conv_layers
from ecg_pipeline_tests.conformance.reference import ecg_fm as network
from ecg_pipeline_tests.conformance.reference import ecg_fm_data as data
from ecg_pipeline_tests.conformance.reference.ecg_fm_states import double, single, under
from ecg_pipeline_tests.conformance.reference.ecg_fm_tables import (
    write_data,
    write_masks,
    write_metrics,
    write_optimiser,
)
from ecg_pipeline_tests.conformance.reference.write import Files

CORE: dict[str, Any] = {
    "conv_feature_layers": "[(18, 2, 2)] * 3",
    "encoder_layers": 3,
    "encoder_embed_dim": 24,
    "encoder_ffn_embed_dim": 40,
    "encoder_attention_heads": 3,
    "conv_pos": 10,
    "conv_pos_groups": 2,
    "latent_vars": 5,
    "latent_groups": 3,
    "final_dim": 12,
    "num_negatives": 9,
    "in_d": 12,
    "mask_prob": 0.6,
    "mask_length": 3,
    "feature_grad_mult": 0.3,
    "dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "dropout_input": 0.0,
    "dropout_features": 0.0,
}
VARIANT = CORE | {
    "conv_feature_layers": "[(14, 4, 3)] + [(18, 3, 1)] * 2",
    "conv_bias": True,
    "conv_pos": 9,
    "layer_norm_first": True,
    "latent_dim": 9,
    "latent_vars": 7,
    "feature_grad_mult": 1.0,
}
LOOSE = {"atol": 2e-4, "rtol": 5e-4}
SAMPLES = 260


def write_ecg_fm(files: Files, seed: int) -> None:
    """All kinds but those of the full size: `fullsize` and `checkpoint_layout`."""
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    for name, config in (("core", CORE), ("variant", VARIANT)):
        write_extractor(files, f"feature_extractor_{name}", config, generator)
        write_encoder(files, f"encoder_{name}", config, generator)
        write_pretraining(files, f"pretrain_eval_{name}", config, generator, updates=0, train=False)
        write_pretraining(files, f"pretrain_train_{name}", config, generator, updates=70_000, train=True)
    write_finetuning(files, CORE, 5, generator)
    write_quantiser(files, generator)
    write_cmsc(files, generator)
    write_optimiser(files, generator)
    write_data(files, rng)
    write_masks(files, seed)
    write_metrics(files, rng)


def state_of(config: Mapping[str, Any], generator: torch.Generator, *, heads: bool = True) -> dict[str, Tensor]:
    """Random weights under the authors' names, none of them trivial. heads: with what only pretraining needs."""
    width, ffn, kernel = config["encoder_embed_dim"], config["encoder_ffn_embed_dim"], config["conv_pos"]
    state: dict[str, Tensor] = {}

    def drawn(name: str, *shape: int, gain: float = 1.0, around: float = 0.0) -> None:
        state[name] = around + gain * torch.randn(*shape, generator=generator)

    def linear(name: str, inputs: int, outputs: int, gain: float = 1.3) -> None:
        drawn(f"{name}.weight", outputs, inputs, gain=gain * inputs**-0.5)
        drawn(f"{name}.bias", outputs, gain=0.2)

    def norm(name: str, width: int) -> None:
        drawn(f"{name}.weight", width, gain=0.2, around=1.0)
        drawn(f"{name}.bias", width, gain=0.2)

    channels = config["in_d"]
    for number, (out, size, _) in enumerate(conv_layers(config["conv_feature_layers"])):
        name = f"feature_extractor.conv_layers.{number}"
        drawn(f"{name}.0.weight", out, channels, size, gain=1.5 * (channels * size) ** -0.5)
        if config.get("conv_bias"):
            drawn(f"{name}.0.bias", out, gain=0.2)
        if number == 0:
            norm(f"{name}.2", out)
        channels = out
    norm("layer_norm", channels)
    linear("post_extract_proj", channels, width)
    drawn("conv_pos.pos_conv.0.bias", width, gain=0.2)
    drawn("conv_pos.pos_conv.0.parametrizations.weight.original0", 1, 1, kernel, gain=0.6, around=2.0)
    drawn("conv_pos.pos_conv.0.parametrizations.weight.original1", width, width // config["conv_pos_groups"], kernel)
    norm("encoder.layer_norm", width)
    for layer in range(config["encoder_layers"]):
        name = f"encoder.layers.{layer}"
        for letter in ("k_proj", "v_proj", "q_proj", "out_proj"):
            linear(f"{name}.self_attn.{letter}", width, width)
        linear(f"{name}.fc1", width, ffn)
        linear(f"{name}.fc2", ffn, width)
        norm(f"{name}.self_attn_layer_norm", width)
        norm(f"{name}.final_layer_norm", width)
    if heads:
        groups, codes = config["latent_groups"], config["latent_vars"]
        quantised = config.get("latent_dim") or config["final_dim"]
        drawn("mask_emb", width)
        drawn("quantizer.vars", 1, groups * codes, quantised // groups)
        linear("quantizer.weight_proj", channels, groups * codes, gain=2.0)
        linear("project_q", quantised, config["final_dim"])
        linear("final_proj", width, config["final_dim"])
    return {name: tensor.float() for name, tensor in state.items()}


def source(segments: int, samples: int, generator: torch.Generator) -> Tensor:
    """(segments, 12, samples): slow waves with noise."""
    t, phase = torch.arange(samples) / 50, torch.rand(segments, 12, 1, generator=generator)
    return torch.sin(6.3 * (t * (1 + phase) + phase)) + 0.5 * torch.randn(segments, 12, samples, generator=generator)


def padding_of(segments: int, samples: int) -> Tensor:
    """(segments, 12, samples) uint8: the first is whole, the others end earlier and earlier."""
    ends = samples - torch.arange(segments) * (samples // (2 * segments))
    return (torch.arange(samples) >= ends[:, None])[:, None].expand(-1, 12, -1).to(torch.uint8)


def write_extractor(files: Files, kind: str, config: Mapping[str, Any], generator: torch.Generator) -> None:
    state = state_of(config, generator, heads=False)
    own = {k.removeprefix("feature_extractor."): t for k, t in state.items() if k.startswith("feature_extractor.")}
    x = source(2, SAMPLES, generator)
    outputs = network.extract(config, double(own), x.double(), prefix="")
    tensors = {"in.x": x} | under("param.", own)
    tensors |= {f"out.layer{number}": output for number, output in enumerate(outputs)}
    tensors |= {"out.final": outputs[-1], "out.features_pen": outputs[-1].square().mean()}
    options = {name: config.get(name) for name in ("conv_feature_layers", "conv_bias", "in_d")}
    lengths = {str(samples): network.frames_of(config, samples) for samples in (60, 61, 62, 63, 64, 250, 500, 1000)}
    facts = {"config": options, "output_length_by_input_length": lengths, "atol": 2e-5, "rtol": 1e-4}
    files.write(kind, facts, single(tensors))


def write_encoder(files: Files, kind: str, config: Mapping[str, Any], generator: torch.Generator) -> None:
    state = state_of(config, generator)
    x, padded, padding = source(3, SAMPLES, generator), source(3, SAMPLES, generator), padding_of(3, SAMPLES)
    frames = network.frame_padding(config, padding[:, 0])
    padded = padded * (1 - padding)
    found = network.encode(config, double(state), x.double())
    of_padded = network.encode(config, double(state), padded.double(), frames)
    tensors = {"in.source": x, "in.source_padded": padded, "in.padding_mask": padding} | under("param.", state)
    tensors |= under("out.", found) | {"out.padded.frame_padding_mask": frames.to(torch.uint8)}
    tensors |= {f"out.padded.{name}": of_padded[name] for name in ("x", "saliency", "pooled")}
    files.write(kind, {"config": config, "atol": 5e-5, "rtol": 2e-4}, single(tensors))


def write_pretraining(
    files: Files, kind: str, config: Mapping[str, Any], generator: torch.Generator, *, updates: int, train: bool
) -> None:
    state = state_of(config, generator)
    random = np.random.RandomState(int(torch.randint(10_000, (), generator=generator)))
    segments, frames = 6, network.frames_of(config, SAMPLES)
    mask = data.span_mask(random, segments, frames, config["mask_prob"], config["mask_length"])
    masked = int(mask[0].sum())
    others = random.randint(0, masked - 1, (segments, masked, config["num_negatives"]))
    flat = others + (others >= np.arange(masked)[:, None]) + masked * np.arange(segments)[:, None, None]
    given = {
        "source": source(segments, SAMPLES, generator),
        "mask_indices": torch.from_numpy(mask).to(torch.uint8),
        "negative_flat_indices": torch.from_numpy(flat.reshape(segments, -1)),
        "patient_id": torch.tensor([4, 4, 9, 9, 2, 2]),
        "segment": torch.tensor([0, 1, 1, 0, 0, 1]),
    }
    groups, codes = config["latent_groups"], config["latent_vars"]
    if train:
        uniform = torch.rand(segments * masked * groups, codes, generator=generator).clamp(1e-6, 1 - 1e-6)
        given["gumbel_noise"] = -torch.log(-torch.log(uniform))
    temperature = max(2 * 0.999995**updates, 0.5)
    wanted = {name: tensor.requires_grad_(train) for name, tensor in double(state).items()}
    inputs = {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in given.items()}
    outputs, terms = network.pretrain(config, wanted, inputs, temperature)
    logits = outputs["logits"].permute(1, 2, 0).reshape(segments * masked, -1)
    tensors = under("in.", given) | under("param.", state) | under("out.", outputs)
    facts: dict[str, Any] = {
        "config": config,
        "num_updates": updates,
        "quantizer_temp": temperature,
        "num_vars_total": groups * codes,
        "sample_size": segments * masked,
        "infonce_count": segments * masked,
        "infonce_correct": sum(int(row.argmax() == 0) for row in logits),
        "n_neg_equal_pos": int(logits.isneginf().sum()),
        "T_frames": frames,
        "masked_per_row": masked,
        "loss": sum(term.item() for term in terms),
        "loss_terms": [term.item() for term in terms],
    }
    assert facts["n_neg_equal_pos"] > 0, "no negative has the code of its target: take another seed"
    if train:
        sum(terms).backward()
        gradients = {name: tensor.grad for name, tensor in wanted.items()}
        facts["params_without_grad"] = [name for name, gradient in gradients.items() if gradient is None]
        facts["grad_global_norm"] = float(torch.stack([g.norm() for g in gradients.values() if g is not None]).norm())
        tensors |= under("grad.", gradients)  # type: ignore[arg-type]
    files.write(kind, facts | LOOSE, single(tensors))


def write_finetuning(files: Files, config: Mapping[str, Any], labels: int, generator: torch.Generator) -> None:
    """The kind finetune, whose convolutions are frozen."""
    kept = {name: value for name, value in config.items() if name not in ("num_negatives", "mask_prob", "mask_length")}
    state = state_of(config, generator, heads=False)
    width = config["encoder_embed_dim"]
    head = {
        "weight": torch.randn(labels, width, generator=generator) / 3,
        "bias": torch.randn(labels, generator=generator),
    }
    padding = padding_of(4, SAMPLES)
    x, padded = source(4, SAMPLES, generator), source(4, SAMPLES, generator) * (1 - padding)
    target = (torch.rand(4, labels, generator=generator) < 0.4).float()
    weight = 0.5 + 3 * torch.rand(labels, generator=generator)
    frozen = [name for name in state if name.startswith("feature_extractor.")]
    wanted = {name: tensor.requires_grad_(name not in frozen) for name, tensor in double(state).items()}
    last = {f"proj.{name}": tensor.double().requires_grad_() for name, tensor in head.items()}
    found = network.encode(config, wanted, x.double())
    logits = network.linear(found["pooled"], last, "proj")
    # log(1 + exp(-x)) of a positive, weighted, and of a negative
    loss = (weight * target * softplus(-logits) + (1 - target) * softplus(logits)).sum()
    loss.backward()
    frames = network.frame_padding(config, padding[:, 0])
    of_padded = network.encode(config, double(state), padded.double(), frames)["pooled"]
    probed = (target * softplus(-logits) + (1 - target) * softplus(logits)).mean()
    params = under("encoder.", state) | under("proj.", head)
    gradients = {f"encoder.{name}": t.grad for name, t in wanted.items() if t.grad is not None}
    gradients |= {name: t.grad for name, t in last.items() if t.grad is not None}
    tensors = {"in.source": x, "in.source_padded": padded, "in.padding_mask": padding, "in.target": target}
    tensors |= {"in.pos_weight": weight, "out.logits": logits, "out.encoder_out": found["x"], "out.loss_sum": loss}
    tensors |= {"out.pooled": found["pooled"], "out.padded.logits": network.linear(of_padded, last, "proj")}
    tensors |= {"out.padded.frame_padding_mask": frames.to(torch.uint8)}
    tensors |= under("param.", params) | under("grad.", gradients)
    facts = {
        "num_labels": labels,
        "feature_grad_mult": 0.0,
        "sample_size": target.numel(),
        "loss_per_element": loss.item() / target.numel(),
        "params_without_grad": [f"encoder.{name}" for name in frozen],
        "linear_probe_loss_mean_no_pos_weight": probed.item(),
    }
    files.write("finetune", facts | {"config": kept, "atol": 5e-5, "rtol": 3e-4}, single(tensors))


def write_quantiser(files: Files, generator: torch.Generator) -> None:
    cases, tensors = [], {}
    for place, (width, codes, groups, out) in enumerate([(9, 11, 1, 8), (12, 4, 4, 16)]):
        state = {"vars": torch.rand(1, groups * codes, out // groups, generator=generator)}
        state["weight_proj.weight"] = torch.randn(groups * codes, width, generator=generator)
        state["weight_proj.bias"] = torch.randn(groups * codes, generator=generator)
        x = torch.randn(3, 8, width, generator=generator)
        found = network.quantise(double(state), x.double(), groups)
        joint = sum(found["codes"][..., g] * codes ** (groups - 1 - g) for g in range(groups))
        outputs = {name: found[name] for name in ("out", "codes", "code_perplexity", "prob_perplexity")}
        tensors |= under(f"case{place}.", {"x": x, "codebook_index": joint} | outputs)
        tensors |= under(f"case{place}.param.", state)
        cases.append(
            {"dim": width, "num_vars": codes, "groups": groups, "vq_dim": out, "num_vars_total": groups * codes}
        )
    values = {str(n): max(3 * 0.9999**n, 0.2) for n in (0, 1, 500, 27_000, 27_080, 27_081, 90_000)}
    schedule = {"max": 3, "min": 0.2, "decay": 0.9999, "values": values}
    facts = {"cases": cases, "temperature_schedule": schedule, "atol": 1e-5, "rtol": 1e-5}
    files.write("quantizer", facts, single(tensors))


def write_cmsc(files: Files, generator: torch.Generator) -> None:
    cases, tensors = [], {}
    for place, ids in enumerate([[5, 7, 1], [3, 3, 8, 2], [0, 1, 2, 3, 4, 5]]):
        recordings, places = torch.tensor(ids).repeat(2), torch.arange(2).repeat_interleave(len(ids))
        order = torch.randperm(2 * len(ids), generator=generator)
        features = torch.randn(2 * len(ids), 7 + place, generator=generator)
        wanted = features.double().requires_grad_()
        loss = network.cmsc(wanted, recordings[order], places[order], 0.2)
        loss.backward()
        given = {"features": features, "record_id": recordings[order], "segment": places[order]}
        tensors |= under(f"case{place}.", given | {"loss": loss, "grad": wanted.grad})  # type: ignore[dict-item]
        cases.append({"pairs": len(ids), "shuffled": True, "duplicate_ids": place == 1, "loss": loss.item()})
    files.write("cmsc", {"temp": 0.2, "cases": cases, "atol": 2e-5, "rtol": 1e-4}, single(tensors))
