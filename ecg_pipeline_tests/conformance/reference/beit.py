"""BEiT without a network library: masked image modelling, classification, and how one becomes the other."""

from typing import Any

import numpy as np
import torch
from scipy.interpolate import make_interp_spline
from torch import Tensor
from torch.nn.functional import conv2d, cross_entropy, linear

from ecg_pipeline_tests.conformance.reference.write import Files

TABLE = "relative_position_bias_table"
SHARED = f"rel_pos_bias.{TABLE}"
State = dict[str, Tensor]


def write_beit(files: Files, config: dict[str, Any], windows: dict[str, int], generator: torch.Generator) -> None:
    """The kinds beit_pretrain, and by name of the kind beit_finetune for another window.

    Of the images the first has no masked patch, the second no other, the rest about half.
    """
    grid = config["img"] // config["patch"]
    state = random_state(config, grid, generator)
    images = torch.randn(config["batch"], 3, config["img"], config["img"], generator=generator)
    mask = torch.rand(config["batch"], grid**2, generator=generator) < 0.5
    mask[0], mask[1] = False, True
    ids = torch.randint(config["vocab"], mask.shape, generator=generator)

    own = _with_gradients(state)
    features = _norm(encode(images, mask, own, config), own, "norm")
    logits = linear(features[:, 1:][mask], own["lm_head.weight"], own["lm_head.bias"])
    loss = cross_entropy(logits, ids[mask])
    loss.backward()
    tensors = {"input.images": images, "input.bool_masked_pos": mask, "input.token_ids": ids}
    tensors |= {"output.features": features, "output.logits_masked": logits, "output.loss": loss.reshape(1)}
    files.write(
        "beit_pretrain",
        {"config": config, "loss": loss.item(), "param_names": list(state)},
        tensors | _prefixed("state.", state) | _gradients(own),
    )
    for kind, window in windows.items():
        _write_classifier(files, kind, config | {"img": window * config["patch"]}, state, generator)


def _write_classifier(
    files: Files, kind: str, config: dict[str, Any], state: State, generator: torch.Generator
) -> None:
    grid, classes = config["img"] // config["patch"], config["num_classes"]
    copied = [name for name in state if name.startswith(("cls_token", "patch_embed.", "blocks."))]
    expanded = {f"blocks.{block}.attn.{TABLE}": resize(state[SHARED], grid) for block in range(config["depth"])}
    fresh = {
        "fc_norm.weight": 1 + 0.2 * torch.randn(config["dim"], generator=generator),
        "fc_norm.bias": 0.2 * torch.randn(config["dim"], generator=generator),
        "head.weight": torch.randn(classes, config["dim"], generator=generator) / config["dim"] ** 0.5,
        "head.bias": torch.randn(classes, generator=generator),
    }
    made = {name: state[name] for name in copied} | expanded | fresh
    images = torch.randn(config["batch"], 3, config["img"], config["img"], generator=generator)
    labels = torch.randint(classes, (config["batch"],), generator=generator)
    own = _with_gradients(made)
    pooled = _norm(encode(images, None, own, config)[:, 1:].mean(dim=1), own, "fc_norm")
    logits = linear(pooled, own["head.weight"], own["head.bias"])
    loss = cross_entropy(logits, labels)
    loss.backward()
    tensors = {"input.images": images, "input.labels": labels, f"ckpt.{SHARED}": state[SHARED]}
    tensors |= {"output.pooled": pooled, "output.logits": logits, "output.loss": loss.reshape(1)}
    facts = {
        "config": config,
        "loss": loss.item(),
        "keys_copied_unchanged": copied,
        "keys_from_shared_table": list(expanded),
        "keys_left_at_init_by_loader": list(fresh),
        "keys_in_checkpoint_not_used": [name for name in state if name not in copied and name != SHARED],
    }
    files.write(kind, facts, tensors | _prefixed("state.", made) | _gradients(own))


def random_state(config: dict[str, Any], grid: int, generator: torch.Generator) -> State:
    """Weights of the pretraining network, every one of which matters."""
    dim, hidden = config["dim"], int(config["dim"] * config["mlp_ratio"])

    def normal(*shape: int, around: float = 0.0, deviation: float = 0.3) -> Tensor:
        return around + deviation * torch.randn(shape, generator=generator)

    def matrix(outputs: int, *inputs: int) -> Tensor:
        return normal(outputs, *inputs, deviation=float(np.prod(inputs)) ** -0.5)

    def norm(name: str) -> State:
        return {f"{name}.weight": normal(dim, around=1.0), f"{name}.bias": normal(dim)}

    state = {"cls_token": normal(1, 1, dim, deviation=1), "mask_token": normal(1, 1, dim, deviation=1)}
    state["patch_embed.proj.weight"] = matrix(dim, 3, config["patch"], config["patch"])
    state["patch_embed.proj.bias"] = normal(dim)
    state[SHARED] = normal((2 * grid - 1) ** 2 + 3, config["heads"], deviation=1)
    for block in range(config["depth"]):
        name = f"blocks.{block}"
        if config["layer_scale"]:
            state |= {f"{name}.gamma_1": normal(dim, around=0.5), f"{name}.gamma_2": normal(dim, around=0.5)}
        state |= norm(f"{name}.norm1") | {f"{name}.attn.qkv.weight": matrix(3 * dim, dim)}
        state |= {f"{name}.attn.q_bias": normal(dim, deviation=1), f"{name}.attn.v_bias": normal(dim)}
        state |= {f"{name}.attn.proj.weight": matrix(dim, dim), f"{name}.attn.proj.bias": normal(dim)}
        state |= norm(f"{name}.norm2")
        state |= {f"{name}.mlp.fc1.weight": matrix(hidden, dim), f"{name}.mlp.fc1.bias": normal(hidden)}
        state |= {f"{name}.mlp.fc2.weight": matrix(dim, hidden), f"{name}.mlp.fc2.bias": normal(dim)}
    state |= norm("norm")
    return state | {"lm_head.weight": matrix(config["vocab"], dim), "lm_head.bias": normal(config["vocab"])}


def encode(images: Tensor, mask: Tensor | None, state: State, config: dict[str, Any]) -> Tensor:
    """(B, 3, S, S), (B, P) bool -> (B, P + 1, D), before any final norm."""
    patch, depth, heads = config["patch"], config["depth"], config["heads"]
    x = conv2d(images, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"], stride=patch)
    rows, columns = x.shape[2:]
    x = x.flatten(2).transpose(1, 2)
    if mask is not None:
        hidden = mask[:, :, None].float()
        x = (1 - hidden) * x + hidden * state["mask_token"]
    x = torch.cat([state["cls_token"].expand(len(x), 1, -1), x], dim=1)
    index = torch.tensor(bias_rows(rows, columns))
    for block in range(depth):
        name = f"blocks.{block}"
        table = state.get(f"{name}.attn.{TABLE}", state.get(SHARED))
        assert table is not None
        bias = table[index].permute(2, 0, 1)  # (heads, P + 1, P + 1)
        branch = _attention(_norm(x, state, f"{name}.norm1"), bias, state, f"{name}.attn", heads)
        x = x + state.get(f"{name}.gamma_1", 1) * branch
        inner = linear(_norm(x, state, f"{name}.norm2"), *_weights(state, f"{name}.mlp.fc1"))
        inner = 0.5 * inner * (1 + torch.erf(inner / 2**0.5))
        x = x + state.get(f"{name}.gamma_2", 1) * linear(inner, *_weights(state, f"{name}.mlp.fc2"))
    return x


def bias_rows(rows: int, columns: int) -> list[list[int]]:
    """The row of the table that a query (first index) and a key (second) share; the class slot comes first."""
    cells = [(row, column) for row in range(rows) for column in range(columns)]
    patches = (2 * rows - 1) * (2 * columns - 1)
    index = [[patches + 2] + [patches] * len(cells)]
    for row, column in cells:
        offsets = [(row - r + rows - 1) * (2 * columns - 1) + column - c + columns - 1 for r, c in cells]
        index.append([patches + 1, *offsets])
    return index


def resize(table: Tensor, window: int) -> Tensor:
    """A table for another square window: bicubic between offsets that lie on a geometric progression."""
    size = round((len(table) - 3) ** 0.5)
    if size == 2 * window - 1:
        return table
    steps, reach = size // 2, window - 1
    low, high = 1.01, 1.5
    while True:
        ratio = (low + high) / 2
        low, high = (low, ratio) if (1 - ratio**steps) / (1 - ratio) > reach else (ratio, high)
        if high - low <= 1e-6:
            break
    positive = [(1 - ratio**n) / (1 - ratio) for n in range(1, steps + 1)]
    known = np.array([-offset for offset in reversed(positive)] + [0.0] + positive)
    wanted = np.clip(np.arange(-reach, reach + 1), known[0], known[-1])
    sheet = table[:-3].double().reshape(size, size, -1).numpy()
    for axis in (0, 1):
        sheet = make_interp_spline(known, sheet, k=3, axis=axis)(wanted)
    return torch.cat([torch.from_numpy(sheet).float().flatten(0, 1), table[-3:]])


def _attention(x: Tensor, bias: Tensor, state: State, name: str, heads: int) -> Tensor:
    q, k, v = linear(x, state[f"{name}.qkv.weight"]).chunk(3, dim=-1)
    q, v = q + state[f"{name}.q_bias"], v + state[f"{name}.v_bias"]
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in (q, k, v))
    share = torch.softmax(q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5 + bias, dim=-1)
    return linear((share @ v).transpose(1, 2).flatten(2), *_weights(state, f"{name}.proj"))


def _norm(x: Tensor, state: State, name: str) -> Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    scaled = centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()
    return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]


def _weights(state: State, name: str) -> tuple[Tensor, Tensor]:
    return state[f"{name}.weight"], state[f"{name}.bias"]


def _with_gradients(state: State) -> State:
    return {name: tensor.clone().requires_grad_() for name, tensor in state.items()}


def _gradients(state: State) -> State:
    return {f"grad.{name}": tensor.grad for name, tensor in state.items() if tensor.grad is not None}


def _prefixed(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}
