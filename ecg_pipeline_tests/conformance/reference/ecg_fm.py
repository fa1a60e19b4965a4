"""ECG-FM's network as functions of its weights, in double precision and without a thought of speed."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv1d

from ecg_pipeline_tests.conformance.ecg_fm_options import conv_layers

State = Mapping[str, Tensor]


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / sqrt(2))) / 2


def linear(x: Tensor, state: State, name: str) -> Tensor:
    return torch.einsum("...i,oi->...o", x, state[f"{name}.weight"]) + state[f"{name}.bias"]


def layer_norm(x: Tensor, state: State, name: str) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    deviation = (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return centred / deviation * state[f"{name}.weight"] + state[f"{name}.bias"]


def extract(config: Mapping[str, Any], state: State, x: Tensor, prefix: str = "feature_extractor.") -> list[Tensor]:
    """The output of every convolution: (B, C, T) each."""
    found = []
    for number, (_, _, stride) in enumerate(conv_layers(config["conv_feature_layers"])):
        name = f"{prefix}conv_layers.{number}"
        x = conv1d(x, state[f"{name}.0.weight"], state.get(f"{name}.0.bias"), stride=stride)
        if number == 0:  # each channel of each segment over time
            x = layer_norm(x, {"n.weight": torch.ones(1), "n.bias": torch.zeros(1)}, "n")
            x = x * state[f"{name}.2.weight"][:, None] + state[f"{name}.2.bias"][:, None]
        x = gelu(x)
        found.append(x)
    return found


def frames_of(config: Mapping[str, Any], samples: int) -> int:
    for _, kernel, stride in conv_layers(config["conv_feature_layers"]):
        samples = (samples - kernel) // stride + 1
    return samples


def frame_padding(config: Mapping[str, Any], padding: Tensor) -> Tensor:
    """(B, T) of samples -> (B, frames)."""
    frames = frames_of(config, padding.shape[1])
    rows = []
    for row in padding.bool():
        recorded = frames_of(config, int((~row).sum()))
        rows.append([frame >= recorded for frame in range(frames)])
    return torch.tensor(rows)


def positions(config: Mapping[str, Any], state: State, x: Tensor) -> Tensor:
    """What the positional convolution adds: (B, T, D)."""
    name = "conv_pos.pos_conv.0"
    g, v = (state[f"{name}.parametrizations.weight.original{k}"] for k in (0, 1))
    kernel = torch.stack(
        [g[0, 0, place] * v[:, :, place] / v[:, :, place].square().sum().sqrt() for place in range(v.shape[2])], dim=2
    )
    padding, groups = v.shape[2] // 2, config["conv_pos_groups"]
    y = conv1d(x.transpose(1, 2), kernel, state[f"{name}.bias"], padding=padding, groups=groups)
    return gelu(y[:, :, : x.shape[1]]).transpose(1, 2)


def attend(config: Mapping[str, Any], state: State, name: str, x: Tensor, padding: Tensor | None):
    """The attention branch (B, T, D) and the weights, the mean over heads (B, T, T)."""
    heads = config["encoder_attention_heads"]
    size = x.shape[2] // heads
    q, k, v = (linear(x, state, f"{name}.{letter}_proj") for letter in "qkv")
    outs, weights = [], []
    for head in range(heads):
        own = slice(head * size, (head + 1) * size)
        logits = q[..., own] @ k[..., own].transpose(1, 2) / sqrt(size)
        if padding is not None:
            logits = torch.where(padding[:, None, :], float("-inf"), logits)
        weights.append(torch.softmax(logits, dim=-1))
        outs.append(weights[-1] @ v[..., own])
    return linear(torch.cat(outs, dim=-1), state, f"{name}.out_proj"), torch.stack(weights).mean(0)


def transform(config: Mapping[str, Any], state: State, x: Tensor, padding: Tensor | None = None):
    """The output (B, T, D), that of every layer, and the attention weights of every layer."""
    first = config.get("layer_norm_first", False)
    if padding is not None:
        x = torch.where(padding[..., None], 0.0, x)
    if not first:
        x = layer_norm(x, state, "encoder.layer_norm")
    layers, attentions = [], []
    for number in range(config["encoder_layers"]):
        name = f"encoder.layers.{number}"
        attention, norms = f"{name}.self_attn", (f"{name}.self_attn_layer_norm", f"{name}.final_layer_norm")
        if first:
            branch, weights = attend(config, state, attention, layer_norm(x, state, norms[0]), padding)
            x = x + branch
            x = x + linear(gelu(linear(layer_norm(x, state, norms[1]), state, f"{name}.fc1")), state, f"{name}.fc2")
        else:
            branch, weights = attend(config, state, attention, x, padding)
            x = layer_norm(x + branch, state, norms[0])
            x = layer_norm(x + linear(gelu(linear(x, state, f"{name}.fc1")), state, f"{name}.fc2"), state, norms[1])
        layers.append(x)
        attentions.append(weights)
    return layer_norm(x, state, "encoder.layer_norm") if first else x, layers, attentions


def encode(config: Mapping[str, Any], state: State, x: Tensor, padding: Tensor | None = None) -> dict[str, Any]:
    """Everything on the way from segments (B, L, T) to their frames in context. padding: of frames."""
    frames = layer_norm(extract(config, state, x)[-1].transpose(1, 2), state, "layer_norm")
    projected = linear(frames, state, "post_extract_proj")
    added = positions(config, state, projected)
    out, layers, attentions = transform(config, state, projected + added, padding)
    kept = out if padding is None else torch.where(padding[..., None], 0.0, out)
    return {
        "x": out,
        "features_after_layer_norm": frames,
        "saliency": torch.stack(attentions, dim=1),
        "mid.post_extract_proj": projected,
        "mid.conv_pos": added,
        **{f"mid.layer{number}": layer for number, layer in enumerate(layers)},
        "pooled": pool(kept),
    }


def pool(frames: Tensor) -> Tensor:
    """The mean of what is not 0: (B, T, D) -> (B, D)."""
    return frames.sum(1) / (frames != 0).sum(1)


def perplexity(shares: Tensor) -> Tensor:
    """shares: (n, G, V)."""
    mean = shares.mean(0)
    return sum(torch.exp(-(of_group * torch.log(of_group + 1e-7)).sum()) for of_group in mean)  # type: ignore[return-value]


def quantise(state: State, x: Tensor, groups: int, noise: Tensor | None = None, temperature: float = 1.0):
    """Vectors, codes, both perplexities and logits of (..., width). noise: (n, G, V), or None of evaluation."""
    logits = linear(x, state, "weight_proj").reshape(-1, groups, state["vars"].shape[1] // groups)
    n, _, codes = logits.shape
    eye = torch.eye(codes, dtype=x.dtype)
    plain = logits.argmax(-1)
    chosen, shares = plain, eye[plain]
    if noise is not None:
        soft = torch.softmax((logits + noise) / temperature, dim=-1)
        chosen = soft.argmax(-1)
        shares = eye[chosen] - soft.detach() + soft
    vectors = [shares[:, g] @ state["vars"][0, g * codes : (g + 1) * codes] for g in range(groups)]
    return {
        "out": torch.cat(vectors, dim=-1).reshape(*x.shape[:-1], -1),
        "codes": chosen.reshape(*x.shape[:-1], groups),
        "code_perplexity": perplexity(eye[plain]),
        "prob_perplexity": perplexity(torch.softmax(logits, dim=-1)),
        "logits": logits.reshape(n * groups, codes),
    }


def cmsc(features: Tensor, recordings: Tensor, places: Tensor, temperature: float = 0.1) -> Tensor:
    """Rows that are each other's other segment are told from all others. features: (B, D)."""
    unit = [row / max(float(row.detach().square().sum().sqrt()), 1e-8) for row in features]
    first = [number for number, place in enumerate(places.tolist()) if place == 0]
    second = [number for number, place in enumerate(places.tolist()) if place == 1]
    similar = torch.stack([torch.stack([unit[i] @ unit[j] / temperature for j in second]) for i in first])
    rows, columns = [], []
    for a, i in enumerate(first):
        for b, j in enumerate(second):
            if recordings[i] == recordings[j]:
                rows.append(torch.logsumexp(similar[a], 0) - similar[a, b])
                columns.append(torch.logsumexp(similar[:, b], 0) - similar[a, b])
    return (torch.stack(rows).mean() + torch.stack(columns).mean()) / 2


def pretrain(config: Mapping[str, Any], state: State, given: Mapping[str, Tensor], temperature: float):
    """Outputs and loss terms of masked segments. given: the inputs of a fixture, `gumbel_noise` only in training."""
    mult, mask = config["feature_grad_mult"], given["mask_indices"].bool()
    raw = extract(config, state, given["source"])[-1]
    raw = mult * raw + (1 - mult) * raw.detach()
    frames = layer_norm(raw.transpose(1, 2), state, "layer_norm")
    x = torch.where(mask[..., None], state["mask_emb"], linear(frames, state, "post_extract_proj"))
    context, _, _ = transform(config, state, x + positions(config, state, x))
    segments, masked = len(mask), int(mask[0].sum())
    targets = frames[mask].reshape(segments, masked, -1)
    noise, groups = given.get("gumbel_noise"), config["latent_groups"]
    quantiser = {name.removeprefix("quantizer."): t for name, t in state.items() if name.startswith("quantizer.")}
    noise = None if noise is None else noise.reshape(segments * masked, groups, -1)
    quantised = quantise(quantiser, targets, groups, noise, temperature)
    projected = linear(quantised["out"], state, "project_q")
    predicted = linear(context[mask], state, "final_proj").reshape(segments, masked, -1)

    rows, codes = projected.reshape(segments * masked, -1), quantised["codes"].reshape(segments * masked, -1)
    flat = given["negative_flat_indices"].reshape(segments * masked, -1)
    candidates = torch.cat([rows[:, None], rows[flat]], dim=1)  # own, then negatives
    logits = torch.cosine_similarity(predicted.reshape(segments * masked, 1, -1), candidates, dim=-1) / 0.1
    is_own = (codes[flat] == codes[:, None]).all(-1)
    logits = torch.cat([logits[:, :1], torch.where(is_own, float("-inf"), logits[:, 1:])], dim=1)
    n, codes_of_all = segments * masked, quantiser["vars"].shape[1]
    penalty, pooled = raw.square().mean(), pool(context)
    terms = [
        (torch.logsumexp(logits, 1) - logits[:, 0]).sum(),
        0.1 * n * (codes_of_all - quantised["prob_perplexity"]) / codes_of_all,
        10 * n * penalty,
        n * cmsc(pooled, given["patient_id"], given["segment"]),
    ]
    outputs = {
        "quantizer_input": targets,
        "quantized": quantised["out"],
        "quantizer_codes": quantised["codes"],
        "target_proj": projected,
        "context_proj": predicted,
        "logits": logits.reshape(segments, masked, -1).permute(2, 0, 1),
        "encoder_x_masked": context,
        "pooled": pooled,
        "prob_perplexity": quantised["prob_perplexity"],
        "code_perplexity": quantised["code_perplexity"],
        "features_pen": penalty,
    }
    if noise is not None:
        outputs["quantizer_logits"] = quantised["logits"]
    return outputs, terms


def adam(values: Tensor, gradients: list[Tensor], facts: Mapping[str, Any]) -> list[Tensor]:
    """The values after each step of an Adam whose eps knows no bias correction, with decoupled weight decay."""
    (b1, b2), lr, found = facts["betas"], facts["lr"], []
    m, v = torch.zeros_like(values), torch.zeros_like(values)
    for t, gradient in enumerate(gradients, start=1):
        m, v = b1 * m + (1 - b1) * gradient, b2 * v + (1 - b2) * gradient.square()
        values = values - lr * facts["weight_decay"] * values
        values = values - lr * sqrt(1 - b2**t) / (1 - b1**t) * m / (v.sqrt() + facts["eps"])
        found.append(values)
    return found
