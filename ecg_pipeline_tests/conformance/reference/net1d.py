"""Net1D without modules: convolutions written as sums over taps, batch norm and gates written out."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ecg_pipeline_tests.conformance.reference import fill_rule
from ecg_pipeline_tests.conformance.reference.write import Files

State = dict[str, Tensor]


def layout(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Shapes by official name."""
    base, kernel, classes = config["base_filters"], config["kernel_size"], config["n_classes"]
    shapes = _conv("first_conv.conv", base, config["in_channels"], kernel) | _norm("first_bn", base)
    incoming = base
    for stage, (width, count) in enumerate(zip(config["filter_list"], config["m_blocks_list"], strict=True)):
        middle, groups = int(width * config["ratio"]), width // config["groups_width"]
        for place in range(count):
            name = f"stage_list.{stage}.block_list.{place}"
            shapes |= _norm(f"{name}.bn1", incoming) | _conv(f"{name}.conv1.conv", middle, incoming, 1)
            shapes |= _norm(f"{name}.bn2", middle)
            shapes |= _conv(f"{name}.conv2.conv", middle, middle // groups, kernel)
            shapes |= _norm(f"{name}.bn3", middle) | _conv(f"{name}.conv3.conv", width, middle, 1)
            shapes |= {f"{name}.se_fc1.weight": (width // 2, width), f"{name}.se_fc1.bias": (width // 2,)}
            shapes |= {f"{name}.se_fc2.weight": (width, width // 2), f"{name}.se_fc2.bias": (width,)}
            incoming = width
    return shapes | {"dense.weight": (classes, incoming), "dense.bias": (classes,)}


@dataclass
class Net:
    """A network on one batch. state: by official name; training batch norms replace their statistics in it."""

    config: dict[str, Any]
    state: State
    use_bn: bool
    is_training: bool = False

    def run(self, x: Tensor) -> tuple[list[Tensor], Tensor, Tensor]:
        """(B, C, T) -> outputs of the first convolution and of each stage; features; logits."""
        x = self._conv(x, "first_conv", stride=2)
        outputs = [x]
        x = swish(self._batch_norm(x, "first_bn"))
        for stage, count in enumerate(self.config["m_blocks_list"]):
            for place in range(count):
                x = self._block(x, stage, place)
            outputs.append(x)
        features = x.sum(dim=2) / x.shape[2]
        return outputs, features, features @ self.state["dense.weight"].T + self.state["dense.bias"]

    def _block(self, x: Tensor, stage: int, place: int) -> Tensor:
        name, width = f"stage_list.{stage}.block_list.{place}", self.config["filter_list"][stage]
        stride = 1 if place else self.config["stride"]
        groups = width // self.config["groups_width"]
        y = x
        if stage or place:
            y = swish(self._batch_norm(y, f"{name}.bn1"))
        y = self._conv(y, f"{name}.conv1")
        y = self._conv(swish(self._batch_norm(y, f"{name}.bn2")), f"{name}.conv2", stride=stride, groups=groups)
        y = self._conv(swish(self._batch_norm(y, f"{name}.bn3")), f"{name}.conv3")
        gate = y.sum(dim=2) / y.shape[2]
        gate = swish(gate @ self.state[f"{name}.se_fc1.weight"].T + self.state[f"{name}.se_fc1.bias"])
        gate = 1 / (1 + torch.exp(-(gate @ self.state[f"{name}.se_fc2.weight"].T + self.state[f"{name}.se_fc2.bias"])))
        y = y * gate.unsqueeze(2)
        if place == 0:
            x = pooled(x, stride)
        missing = width - x.shape[1]
        above = x.new_zeros(len(x), missing // 2, x.shape[2])
        below = x.new_zeros(len(x), missing - missing // 2, x.shape[2])
        return y + torch.cat([above, x, below], dim=1)

    def _conv(self, x: Tensor, name: str, *, stride: int = 1, groups: int = 1) -> Tensor:
        weight, bias = self.state[f"{name}.conv.weight"], self.state[f"{name}.conv.bias"]
        samples, kernel = x.shape[2], weight.shape[2]
        length = (samples + stride - 1) // stride
        zeros = max(0, (length - 1) * stride + kernel - samples)
        x = pad(x, (zeros // 2, zeros - zeros // 2))
        parts = []
        for x_of_group, weight_of_group in zip(x.chunk(groups, dim=1), weight.chunk(groups, dim=0), strict=True):
            taps = [
                torch.einsum(
                    "bit,oi->bot",
                    x_of_group[:, :, tap : tap + (length - 1) * stride + 1 : stride],
                    weight_of_group[:, :, tap],
                )
                for tap in range(kernel)
            ]
            parts.append(torch.stack(taps).sum(dim=0))
        return torch.cat(parts, dim=1) + bias[:, None]

    def _batch_norm(self, x: Tensor, name: str) -> Tensor:
        if not self.use_bn:
            return x
        mean, variance = self.state[f"{name}.running_mean"], self.state[f"{name}.running_var"]
        if self.is_training:
            count = x.shape[0] * x.shape[2]
            of_batch = x.sum(dim=(0, 2)) / count
            spread = (x - of_batch[:, None]).square().sum(dim=(0, 2))
            self.state[f"{name}.running_mean"] = 0.9 * mean + 0.1 * of_batch.detach()
            self.state[f"{name}.running_var"] = 0.9 * variance + 0.1 * spread.detach() / (count - 1)
            self.state[f"{name}.num_batches_tracked"] = self.state[f"{name}.num_batches_tracked"] + 1
            mean, variance = of_batch, spread / count
        x = (x - mean[:, None]) / (variance[:, None] + 1e-5).sqrt()
        return x * self.state[f"{name}.weight"][:, None] + self.state[f"{name}.bias"][:, None]


def swish(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-x))


def pooled(x: Tensor, stride: int) -> Tensor:
    """The maximum of every `stride` samples, after `stride - 1` zeros were added."""
    left = (stride - 1) // 2
    x = pad(x, (left, stride - 1 - left))
    whole = x.shape[2] // stride * stride
    return x[:, :, :whole].unflatten(2, (-1, stride)).amax(dim=3)


def cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean binary cross entropy."""
    return (target * (1 + torch.exp(-logits)).log() + (1 - target) * (1 + torch.exp(logits)).log()).mean()


def write_net1d(files: Files, kind: str, config: dict[str, Any], lengths: list[int], salt: int) -> None:
    """The kinds net1d_12lead and net1d_1lead."""
    shapes = layout(config)
    state = {name: torch.from_numpy(fill_rule.fill(name, shape, salt)) for name, shape in shapes.items()}
    target = torch.from_numpy(fill_rule.signal((3, config["n_classes"]), salt) > 0).float()
    tensors = {f"sd.{name}": tensor for name, tensor in state.items()} | {"target": target}
    cases = {}
    for length in lengths:
        tensors[f"x{length}"] = torch.from_numpy(fill_rule.signal((3, config["in_channels"], length), salt + length))
        for use_bn in (False, True):
            case = f"L{length}_bn{int(use_bn)}"
            cases[case], found = _case(config, state, tensors[f"x{length}"], target, use_bn=use_bn)
            tensors |= {f"{case}.{name}": tensor for name, tensor in found.items()}
    files.write(kind, {"constructor": config, "cases": cases}, tensors)


def _case(
    config: dict[str, Any], state: State, x: Tensor, target: Tensor, *, use_bn: bool
) -> tuple[dict[str, Any], State]:
    single = Net(config, state, use_bn)
    outputs, features, logits = single.run(x)
    own = {
        name: tensor.double().requires_grad_() if tensor.is_floating_point() and "running" not in name else tensor
        for name, tensor in state.items()
    }
    double = Net(config, own, use_bn)
    *_, exact = double.run(x.double())
    loss = cross_entropy(exact, target.double())
    loss.backward()
    gradients = {name: tensor.grad for name, tensor in own.items() if tensor.grad is not None}
    found = {f"stage{place}": output for place, output in enumerate(outputs)}
    found |= {"features": features, "logits": logits, "logits_f64": exact}
    found |= {f"grad.{name}": gradient.float() for name, gradient in gradients.items()}
    facts = {
        "bce_loss_f64": loss.item(),
        "stage_shapes": [list(output.shape) for output in outputs],
        "params_without_grad": [name for name in state if own[name].requires_grad and name not in gradients],
    }
    if use_bn:
        training = Net(config, dict(state), use_bn, is_training=True)
        *_, logits = training.run(x)
        names = ("running_mean", "running_var")
        found |= {"train_logits": logits}
        found |= {f"train_first_bn.{name}": training.state[f"first_bn.{name}"] for name in names}
        unused = training.state["stage_list.0.block_list.0.bn1.num_batches_tracked"]
        facts |= {
            "train_bce_loss": cross_entropy(logits, target).item(),
            "train_num_batches_tracked": int(training.state["first_bn.num_batches_tracked"]),
            "first_block_bn1_num_batches_tracked_after_train": int(unused),
        }
    return facts, found


def write_fullsize(files: Files, configs: dict[str, dict[str, Any]], *, salt: int, input_seed: int) -> None:
    """The kind net1d_fullsize. configs: by name of the model."""
    models, tensors = {}, {}
    for name, config in configs.items():
        shapes, leads = layout(config), config["in_channels"]
        state = {key: torch.from_numpy(fill_rule.fill(key, shape, salt)) for key, shape in shapes.items()}
        x = torch.from_numpy(fill_rule.signal((2, leads, 5000), input_seed + leads))
        outputs, features, logits = Net(config, state, use_bn=False).run(x)
        *_, with_bn = Net(config, state, use_bn=True).run(x)
        exact = {key: tensor.double() if tensor.is_floating_point() else tensor for key, tensor in state.items()}
        *_, logits_f64 = Net(config, exact, use_bn=False).run(x.double())
        norms = [key for key in state if re.search(r"bn\d?\.(weight|bias)$", key)]
        buffers = [key for key in state if "running" in key or key.endswith("tracked")]
        models[name] = {
            "constructor": config,
            "layout": shapes,
            "stage_shapes": [list(output.shape) for output in outputs],
            "state_dict_len": len(state),
            "param_count": sum(state[key].numel() for key in state if key not in buffers),
            "unused_batchnorm_param_count": sum(state[key].numel() for key in norms),
        }
        moments = [[output.double().mean().item(), output.double().std().item()] for output in outputs]
        found = {"stage_means": torch.tensor(moments, dtype=torch.float64), "features": features, "logits": logits}
        found |= {"logits_f64": logits_f64, "logits_with_bn": with_bn}
        tensors |= {f"{name}.{key}": tensor for key, tensor in found.items()}
    files.write("net1d_fullsize", {"salt": salt, "input_seed": input_seed, "models": models}, tensors)
    (files.folder / "fill_rule.py").write_text(Path(fill_rule.__file__).read_text())


def _conv(name: str, outputs: int, inputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, kernel), f"{name}.bias": (outputs,)}


def _norm(name: str, width: int) -> dict[str, tuple[int, ...]]:
    names = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{of}": (width,) for of in names} | {f"{name}.num_batches_tracked": ()}
