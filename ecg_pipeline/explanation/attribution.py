"""Attribution maps by FullGrad (Srinivas and Fleuret 2019), for every family in the same way.

FullGrad is input x gradient plus the contribution of every bias, at the place where the bias acts. For a piecewise
linear network all contributions sum to the output. Other networks are linearised at the given example, as in Ali et al.
2022: the gate g(x) of an activation x g(x), squeeze-and-excitation gates, attention weights and the standard deviation
of a layer norm are constants, and only what they multiply is differentiated. ReLU networks get FullGrad itself, and in
every family the contributions sum to the output up to rounding.

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

ACTIVATIONS = frozenset({"gelu", "silu", "mish", "elu", "hardswish"})
GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
CONVOLUTIONS = frozenset({"conv1d", "conv2d"})


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
        """(B,) distance of the contributions' sum from the margin: rounding, unless an operation is not handled."""
        return np.abs(self.maps.sum((1, 2)) + self.elsewhere - self.margin)


def full_gradient(classifier: Classifier, examples: NDArray) -> Attribution:
    """FullGrad of a classifier with one label on stored examples (B, ...), minus that of a blank example.

    A copy of the classifier runs in double precision on the same device, from the normalised examples on, so that
    rounding does not hide errors. Memory is that of one training step. An input to the network that is neither
    (B, C, H, W) nor (B, L, T) is a ValueError.
    """
    copied = deepcopy(classifier).eval().requires_grad_(False)
    device = next(copied.parameters()).device
    stored = torch.from_numpy(examples).to(device)
    # Normalised as in scoring, in single precision.
    inputs = [copied.normalise(some) for some in (stored, torch.full_like(stored[:1], copied.blank))]
    here, blank = (_contributions(copied.double(), x.double()) for x in inputs)
    return Attribution(*(value - of_blank for value, of_blank in zip(here, blank, strict=True)))


class _LocallyLinear(GridMode):
    """Linearises a forward pass at its input; the backward pass collects the contribution of each bias by place.

    placed: (B, H, W) or (B, T), the contributions of biases. elsewhere: (B,), those of biases without a place.
    """

    def __init__(self, batch: int, size: Sequence[int], device: torch.device) -> None:
        super().__init__(axes=len(size))
        self.placed = torch.zeros(batch, *size, dtype=torch.float64, device=device)
        self.elsewhere = torch.zeros(batch, dtype=torch.float64, device=device)

    def intercept(self, name: str, func: Callable, *, args: Any, kwargs: Any) -> Any:
        if name in ACTIVATIONS:
            x = args[0]
            out = func(x.detach().clone(), *args[1:], **kwargs)
            # At x = 0 the activation is 0 whatever its gate; out / x would be NaN.
            return x * torch.where(x == 0, 0, out / x).detach()
        if name in GATES:
            return func(*args, **kwargs).detach()
        if name == "scaled_dot_product_attention":
            query, key, value = args
            return func(query.detach(), key.detach(), value, **kwargs)
        if name in CONVOLUTIONS:
            return self._convolution(func, *args, **kwargs)
        if name in ("linear", "batch_norm", "layer_norm"):
            return getattr(self, f"_{name}")(*args, **kwargs)
        if name == "add":
            return self._add(func(*args, **kwargs), args)
        if name == "cat" and any(tensor.requires_grad for tensor in args[0]):
            tensors = [tensor if tensor.requires_grad else self._constant(tensor) for tensor in args[0]]
            return func(tensors, *args[1:], **kwargs)
        return func(*args, **kwargs)

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
        return self._with_bias(func(x, weight, bias, *args, **kwargs), bias, channels=1)

    def _batch_norm(self, x, running_mean, running_var, weight=None, bias=None, training=False, *args, **kwargs):
        out = F.batch_norm(x, running_mean, running_var, weight, bias, training, *args, **kwargs)
        zero = x.new_zeros(1, x.shape[1])
        shift = F.batch_norm(zero, running_mean, running_var, weight, bias, training, *args, **kwargs)
        return self._with_bias(out, shift.detach().reshape(-1), channels=1)

    def _layer_norm(self, x, normalized_shape, weight=None, bias=None, eps=1e-5):
        axes = tuple(range(-len(normalized_shape), 0))
        scale = (x.var(axes, unbiased=False, keepdim=True) + eps).rsqrt().detach()
        out = (x - x.mean(axes, keepdim=True)) * scale
        out = out if weight is None else out * weight
        return self._with_bias(out if bias is None else out + bias, bias, channels=-1)

    def _token_axis(self, x: Tensor) -> int | None:
        """-1 where x is (B, tokens, D); None where nothing is known of its axes."""
        return -1 if x.ndim == 3 and prefix_tokens(x.shape[1], self.grid) is not None else None

    def _with_bias(self, out: Tensor, bias: Any, channels: int | None) -> Tensor:
        """Register a hook on `out` that adds the contribution of the `bias` in it, by place.

        channels: the axis of `out` that is no place, 1 or -1; None if no axis is one.
        """
        if bias is None or not out.requires_grad:
            return out
        if channels == 1:
            bias = bias.reshape(-1, *(1,) * (out.ndim - 2))
        grid, axes = self.grid, tuple(range(1, out.ndim)) if channels is None else channels

        def add(gradient: Tensor) -> None:
            shares = (gradient * bias).detach().sum(axes)
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
    return maps.cpu().numpy(), mode.elsewhere.cpu().numpy(), log_odds.detach().cpu().numpy()
