"""What surrounds the network: resized tables, initial weights, which weights decay, schedules."""

from math import cos, pi
from typing import Any

import torch
from torch.nn.init import trunc_normal_

from ecg_pipeline_tests.conformance.reference.beit import SHARED, random_state, resize
from ecg_pipeline_tests.conformance.reference.write import Files


def write_tables(files: Files, pairs: list[tuple[int, int]], heads: int, generator: torch.Generator) -> None:
    """The kind relpos_resize."""
    tensors = {}
    for source, target in pairs:
        table = torch.randn((2 * source - 1) ** 2 + 3, heads, generator=generator)
        tensors |= {f"src_{source}_{target}": table, f"dst_{source}_{target}": resize(table, target)}
    files.write("relpos_resize", {"pairs_window_src_dst": pairs}, tensors)


def write_initialisation(files: Files, config: dict[str, Any], generator: torch.Generator) -> None:
    """The kind init_stats: weights truncated at one deviation, second matrices of block l divided by sqrt(2 l)."""
    state = random_state(config, config["img"] // config["patch"], generator)
    for name, tensor in state.items():
        if name.endswith(("norm1.weight", "norm2.weight", "norm.weight")):
            tensor.fill_(1)
        elif "gamma" in name:
            tensor.fill_(config["init_values"])
        elif tensor.ndim > 1 and name != SHARED:
            trunc_normal_(tensor, std=0.02, a=-0.02, b=0.02, generator=generator)
        else:
            tensor.zero_()
        if name.endswith(("attn.proj.weight", "mlp.fc2.weight")):
            tensor /= (2 * (int(name.split(".")[1]) + 1)) ** 0.5
    everything = sum(tensor.numel() for tensor in state.values())
    head = sum(state[f"lm_head.{name}"].numel() for name in ("weight", "bias"))
    stats = {
        name: {"mean": float(t.mean()), "std": float(t.std()), "absmax": float(t.abs().max())}
        for name, t in ((name, tensor.double()) for name, tensor in state.items())
    }
    facts = {"config": config, "n_params": everything, "n_params_without_head": everything - head, "stats": stats}
    files.write("init_stats", facts)


def write_decay(files: Files, config: dict[str, Any], weight_decay: float, generator: torch.Generator) -> None:
    """The kind param_groups: vectors, biases and the class token do not decay."""
    state = random_state(config, config["img"] // config["patch"], generator)
    kept = [name for name, tensor in state.items() if tensor.ndim == 1 or name == "cls_token"]
    groups = [
        {"weight_decay": 0.0, "names": kept},
        {"weight_decay": weight_decay, "names": [name for name in state if name not in kept]},
    ]
    files.write("param_groups", {"config": config, "groups": groups})


def write_schedules(files: Files, cosines: list[dict[str, Any]], cycle: dict[str, Any]) -> None:
    """The kind schedules. cycle: max_lr, epochs, steps_per_epoch."""
    total = cycle["epochs"] * cycle["steps_per_epoch"]
    first, top, turn, end = cycle["max_lr"] / 25, cycle["max_lr"], 0.3 * total - 1, total - 1
    rates, momenta = [], []
    for step in range(total):
        if step <= turn:
            share = step / turn
            rates.append(_between(first, top, share))
            momenta.append(_between(0.95, 0.85, share))
        else:
            share = (step - turn) / (end - turn)
            rates.append(_between(top, first / 1e4, share))
            momenta.append(_between(0.85, 0.95, share))
    onecycle = cycle | {"optimizer_lr_argument": 3e-4, "lr": rates, "beta1": momenta}
    cosine = [{"args": arguments, "values": _cosine(**arguments)} for arguments in cosines]
    files.write("schedules", {"cosine": cosine, "onecycle": onecycle})


def _cosine(
    base_value: float, final_value: float, epochs: int, niter_per_ep: int, warmup_epochs: int, warmup_steps: int
) -> list[float]:
    warmup = warmup_steps if warmup_steps > 0 else warmup_epochs * niter_per_ep
    rising = [base_value * step / (warmup - 1) for step in range(warmup)]
    left = epochs * niter_per_ep - warmup
    return rising + [_between(base_value, final_value, step / left) for step in range(left)]


def _between(start: float, end: float, share: float) -> float:
    """From start to end along half a cosine."""
    return end + (start - end) * (1 + cos(pi * share)) / 2
