"""Attribution maps by FullGrad (Srinivas and Fleuret 2019), for every family in the same way.

FullGrad is input x gradient plus the contribution of every bias, at the place where the bias acts. For a piecewise
linear network all contributions sum to the output. Other networks are linearised at the given example, as in Ali et al.
2022: the gate g(x) of an activation x g(x), squeeze-and-excitation gates, attention weights and the standard deviation
of a layer norm or group norm are constants, and only what they multiply is differentiated. ReLU networks get FullGrad
itself, and in every family the contributions sum to the output up to rounding. A network in which they do not, because
it has an operation that is not linearised here, is refused.

The contributions of a blank example are subtracted, so that a map explains why an ECG is scored differently from blank
paper or a flat line: sum of the map + elsewhere = margin = log-odds(ECG) - log-odds(blank).

A bias inside a network on waveforms acts at a time and on all leads, so its contribution is spread evenly over them.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from ecg_pipeline.explanation.places import GridMode, prefix_tokens, spread
from ecg_pipeline.training.classifier import Classifier

ACTIVATIONS = frozenset({"gelu", "silu", "mish", "elu", "hardswish", "tanh"})
GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
CONVOLUTIONS = frozenset({"conv1d", "conv2d"})

COMPLETE = 1e-6
"""Greatest difference of the contributions' sum from the log-odds, relative to the contributions' magnitude: far above
rounding in double precision, and above that of a network that computes some layers in single precision."""


@dataclass(frozen=True, eq=False)
class Attribution:
    """Contributions to the margin of each example.

    maps (B, H, W) of images, (B, L, T) of waveforms; elsewhere (B,): the sum of those without a place in the example,
    such as a class token's; margin (B,): log-odds of the label minus those of a blank example.
    """

    maps: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    margin: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """(B,) distance of the contributions' sum from the margin: rounding."""
        return np.abs(self.maps.sum((1, 2)) + self.elsewhere - self.margin)


def full_gradient(classifier: Classifier, examples: NDArray) -> Attribution:
    """FullGrad of a classifier with one label on stored examples (B, ...), minus that of a blank example.

    A copy of the classifier runs in double precision on the same device, from the normalised examples on, so that
    rounding does not hide errors. Memory is that of one training step. Leads that the network does not read have zeros.
    An input to the network that is neither (B, C, H, W) nor (B, L, T) is a ValueError; a network with an operation that
    is not linearised, so that contributions are missing, an ArithmeticError.
    """
    copied = deepcopy(classifier).eval().requires_grad_(False)
    device = next(copied.parameters()).device
    stored = torch.from_numpy(examples).to(device)
    # Normalised as in scoring, in single precision.
    inputs = [copied.normalise(some) for some in (stored, torch.full_like(stored[:1], copied.blank))]
    here, blank = (_contributions(copied.double(), x.double()) for x in inputs)
    maps, *others = (value - of_blank for value, of_blank in zip(here, blank, strict=True))
    return Attribution(_at_stored_leads(maps, copied.rows, examples), *others)


def _at_stored_leads(maps: NDArray, rows: Sequence[int] | None, examples: NDArray) -> NDArray:
    """Maps of a network's input as maps of the stored examples. rows: as in `Classifier`."""
    if rows is not None:
        placed = np.zeros((len(maps), examples.shape[1], maps.shape[2]))
        placed[:, list(rows)] = maps
        maps = placed
    if maps.shape != examples.shape:
        raise ValueError(f"the network reads {maps.shape[1:]} of examples {examples.shape[1:]}: `rows` must say which")
    return maps


class _LocallyLinear(GridMode):
    """Linearises a forward pass at its input; the backward pass collects the contribution of each bias by place.

    placed: (B, H, W) or (B, T), the contributions of biases. elsewhere: (B,), those of biases without a place.
    passed: names of the operations that were taken to be linear in what depends on the example.
    """

    def __init__(self, batch: int, size: Sequence[int], device: torch.device) -> None:
        super().__init__(axes=len(size))
        self.placed = torch.zeros(batch, *size, dtype=torch.float64, device=device)
        self.elsewhere = torch.zeros(batch, dtype=torch.float64, device=device)
        self.passed: set[str] = set()

    def intercept(self, name: str, func: Callable, *, args: Any, kwargs: Any) -> Any:
        if name in ACTIVATIONS:
            x = args[0]
            out = func(x.detach().clone(), *args[1:], **kwargs)
            # At x = 0 the activation is 0 whatever its gate; out / x would be NaN.
            return x * torch.where(x == 0, 0, out / x).detach()
        if name in GATES:
            return func(*args, **kwargs).detach()
        if name == "scaled_dot_product_attention":
            query, key, *others = args
            return func(query.detach(), key.detach(), *others, **kwargs)
        if name in CONVOLUTIONS:
            return self._convolution(func, *args, **kwargs)
        if name in ("linear", "batch_norm", "layer_norm", "group_norm"):
            return getattr(self, f"_{name}")(*args, **kwargs)
        if name == "add":
            return self._add(func(*args, **kwargs), args)
        if name == "cat" and any(tensor.requires_grad for tensor in args[0]):
            tensors = [tensor if tensor.requires_grad else self._constant(tensor) for tensor in args[0]]
            return func(tensors, *args[1:], **kwargs)
        out = func(*args, **kwargs)
        if isinstance(out, Tensor) and out.requires_grad and not name.startswith("__"):
            self.passed.add(name)
        return out

    def _add(self, out: Tensor, terms: Sequence[Any]) -> Tensor:
        """A sum: a term that does not depend on the example, such as position embeddings, is a bias."""
        constant = [term for term in terms if not (isinstance(term, Tensor) and term.requires_grad)]
        if not constant or not out.requires_grad:
            return out
        return self._with_bias(out, constant[0], channels=self._token_axis(out))

    def _constant(self, tensor: Tensor) -> Tensor:
        """A tensor that does not depend on the example, such as a class token: a bias as a whole."""
        bias = tensor.detach()
        return self._with_bias(tensor.clone().requires_grad_(), bias, channels=self._token_axis(tensor))

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._with_bias(F.linear(x, weight, bias), bias, channels=-1)

    def _convolution(self, func: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args, **kwargs):
        return self._with_bias(func(x, weight, bias, *args, **kwargs), bias, channels=1, most=x.shape[2:])

    def _batch_norm(self, x, running_mean, running_var, weight=None, bias=None, training=False, *args, **kwargs):
        out = F.batch_norm(x, running_mean, running_var, weight, bias, training, *args, **kwargs)
        zero = x.new_zeros(1, x.shape[1])
        shift = F.batch_norm(zero, running_mean, running_var, weight, bias, training, *args, **kwargs)
        return self._with_bias(out, shift.detach().reshape(-1), channels=1)

    def _layer_norm(self, x, normalized_shape, weight=None, bias=None, eps=1e-5):
        out = _standardise(x, tuple(range(-len(normalized_shape), 0)), eps)
        out = out if weight is None else out * weight
        return self._with_bias(out if bias is None else out + bias, bias, channels=-1)

    def _group_norm(self, x, num_groups, weight=None, bias=None, eps=1e-5):
        groups = x.unflatten(1, (num_groups, -1))
        out = _standardise(groups, tuple(range(2, groups.ndim)), eps).reshape(x.shape)
        by_channel = (-1, *(1,) * (x.ndim - 2))
        out = out if weight is None else out * weight.reshape(by_channel)
        return self._with_bias(out if bias is None else out + bias.reshape(by_channel), bias, channels=1)

    def _token_axis(self, x: Tensor) -> int | None:
        """-1 where x is (B, tokens, D); None where nothing is known of its axes."""
        return -1 if x.ndim == 3 and prefix_tokens(x.shape[1], self.grid) is not None else None

    def _with_bias(self, out: Tensor, bias: Any, channels: int | None, most: Sequence[int] | None = None) -> Tensor:
        """Register a hook on `out` that adds the contribution of the `bias` in it, by place.

        channels: the axis of `out` that is no place, 1 or -1; None if no axis is one. most: number of places along each
        axis, if `out` may have more: an even kernel gives one more, which counts as the last.
        """
        if bias is None or not out.requires_grad:
            return out
        if channels == 1:
            bias = bias.reshape(-1, *(1,) * (out.ndim - 2))
        grid, axes = self.grid, tuple(range(1, out.ndim)) if channels is None else channels

        def add(gradient: Tensor) -> None:
            shares = (gradient * bias).detach().sum(axes)
            for axis, places in enumerate(most or (), start=1):
                shares = _fold(shares, axis, places)
            self._add_contributions(shares, grid if channels == -1 else None)

        out.register_hook(add)
        return out

    def _add_contributions(self, shares: Tensor, grid: Sequence[int] | None) -> None:
        """Add contributions (B, h, w), (B, t) or of tokens (B, N) to `placed`, those of other shapes to `elsewhere`.

        grid: that of the tokens, if the contributions may be those of tokens.
        """
        if grid is not None and shares.ndim == 2:
            prefix = prefix_tokens(shares.shape[1], grid)
            if prefix is None:
                shares = shares.sum(1)
            else:
                self.elsewhere += shares[:, :prefix].sum(1)
                shares = shares[:, prefix:].reshape(-1, *grid)
        batch = len(self.placed)
        if shares.ndim == self.placed.ndim and len(shares) == batch and shares[0].numel() > 1:
            self.placed += spread(shares, self.placed.shape[1:])
        else:
            self.elsewhere += shares.reshape(batch, -1).sum(1)


def _standardise(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    """x minus its mean over its deviation, which is held constant."""
    scale = (x.var(axes, unbiased=False, keepdim=True) + eps).rsqrt().detach()
    return (x - x.mean(axes, keepdim=True)) * scale


def _fold(shares: Tensor, axis: int, places: int) -> Tensor:
    """Shares with at most so many places along an axis: those beyond are added to the last."""
    surplus = shares.shape[axis] - places
    if surplus <= 0:
        return shares
    kept, beyond = shares.split([places, surplus], axis)
    first, last = kept.split([places - 1, 1], axis)
    return torch.cat([first, last + beyond.sum(axis, keepdim=True)], axis)


def _contributions(classifier: Classifier, x: Tensor) -> tuple[NDArray, NDArray, NDArray]:
    """FullGrad of the log-odds at the network's input: maps (B, H, W) or (B, L, T), elsewhere (B,), log-odds (B,)."""
    if x.ndim not in (3, 4):
        raise ValueError(f"a map lies on images (B, C, H, W) or waveforms (B, L, T), not on {tuple(x.shape)}")
    x.requires_grad_()
    mode = _LocallyLinear(len(x), x.shape[2:], x.device)
    with mode:
        log_odds = classifier.classify(classifier.encode(x))[:, 0]
    log_odds.sum().backward()
    assert x.grad is not None  # a leaf of the graph
    of_input = (x.grad * x).detach()
    maps = of_input.sum(1) + mode.placed if x.ndim == 4 else of_input + mode.placed[:, None] / x.shape[1]
    magnitude = maps.abs().sum((1, 2)) + mode.elsewhere.abs()
    missing = maps.sum((1, 2)) + mode.elsewhere - log_odds.detach()
    if not (missing.abs() <= COMPLETE * magnitude).all():
        raise ArithmeticError(
            f"the contributions miss the log-odds by up to {missing.abs().max():.2g}, so FullGrad does not handle one "
            f"of the operations {', '.join(sorted(mode.passed))}: the family must not say that it is explained"
        )
    return maps.cpu().numpy(), mode.elsewhere.cpu().numpy(), log_odds.detach().cpu().numpy()
