"""Which pixels a classifier's decision is made of: FullGrad (Srinivas and Fleuret 2019), one way for every family.

FullGrad adds to input x gradient the share of every bias, at the place where the bias acts. For a network that is
piecewise linear the sum of all shares is the output. What else a network holds is made linear at the sheet in hand, as
in Ali et al. 2022: an activation x g(x), a squeeze-and-excitation gate, attention weights and the standard deviation of
a layer norm keep their values, and only what they multiply is differentiated. A ReLU is that already, so ReLU networks
get FullGrad itself, and in every family the shares sum to the output up to rounding.

The blank sheet's shares are taken off, so a map says why this ECG is scored other than blank paper is:
sum of the map + elsewhere = margin(ECG) - margin(blank sheet), where the margin is the logit of 1 minus that of 0.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from timm.models.beit import Beit
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from ecg_pipeline.models.family import Classifier, normalised

ACTIVATIONS = frozenset({"gelu", "silu", "mish", "elu", "hardswish"})
GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
BIASED = frozenset({"linear", "conv2d", "batch_norm", "layer_norm"})
PREFIX_TOKENS = 8
"""As many tokens may stand before those of the patches: class, distillation and register tokens."""

TRANSFORMERS = (Beit, VisionTransformer)


@dataclass(frozen=True, eq=False)
class Attribution:
    """Shares of the margin. maps (B, H, W); elsewhere (B,): shares without a place, such as those of a class token.

    margin (B,): logit of 1 minus logit of 0, less the blank sheet's.
    """

    maps: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    margin: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """(B,) what the shares and the margin differ by: rounding, unless the network holds an unknown operation."""
        return np.abs(self.maps.sum((1, 2)) + self.elsewhere - self.margin)


def full_gradient(classifier: Classifier, sheets: NDArray[np.uint8]) -> Attribution:
    """FullGrad of a classifier on sheets (B, H, W), less that of the blank sheet. Memory is that of one training step.

    A copy of the network runs in double precision, on the same device, so that rounding does not hide a mistake.
    """
    blank = _shares(classifier, np.full_like(sheets[:1], 255))
    here = _shares(classifier, sheets)
    return Attribution(*(value - without for value, without in zip(here, blank, strict=True)))


def rollout(classifier: Classifier, sheets: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Attention rollout (Abnar and Zuidema 2020): (B, H, W), what part of the classified token comes from each place.

    Half of every block is its residual path. A map sums to 1 less what stays in the class token. A network that is
    none of `TRANSFORMERS` is a ValueError.
    """
    if not has_attention(classifier):
        raise ValueError(f"{type(classifier.network).__name__} has no attention to roll out")
    mode = _Attention()
    with torch.no_grad(), mode:
        classifier.eval()(torch.from_numpy(sheets).to(classifier.mean.device))
    rolled = roll_out(mode.weights)
    tokens, patches = rolled.shape[-1], prod(mode.grid)
    prefix = tokens - patches
    pooled = rolled[:, 0] if getattr(classifier.network, "global_pool", None) == "token" else rolled[:, prefix:].mean(1)
    return _spread(pooled[:, prefix:].reshape(-1, *mode.grid), sheets.shape[1:]).cpu().numpy()


def roll_out(weights: Sequence[Tensor]) -> Tensor:
    """Attention weights (B, heads, N, N) of each block -> (B, N, N), rows sum to 1: what each token is made of."""
    rolled = torch.eye(weights[0].shape[-1], dtype=torch.float64, device=weights[0].device)[None]
    for block in weights:
        mixed = block.double().mean(1) + torch.eye(block.shape[-1], dtype=torch.float64, device=block.device)
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    return rolled


def has_attention(classifier: Classifier) -> bool:
    """Whether `rollout` is defined: every token attends to every other, and stands for a patch or for all."""
    return isinstance(classifier.network, TRANSFORMERS)


class _Gridded(TorchFunctionMode):
    """Watches a forward pass, and knows the grid of places that tokens stand for: that of the last feature map."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = (0, 0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        out = self.meet(name.rstrip("_"), func, args, kwargs or {})
        if name == "conv2d":
            self.grid = tuple(out.shape[2:])
        return out

    def meet(self, name: str, func: Callable, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


class _Attention(_Gridded):
    """Notes the attention weights (B, heads, N, N) of every block."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def meet(self, name: str, func: Callable, args: Any, kwargs: Any) -> Any:
        if name == "scaled_dot_product_attention":
            query, key = args[:2]
            logits = query @ key.mT * (kwargs.get("scale") or query.shape[-1] ** -0.5)
            mask = kwargs.get("attn_mask")
            self.weights.append((logits if mask is None else logits + mask).softmax(-1))
        out = func(*args, **kwargs)
        if name == "softmax" and out.ndim == 4:
            self.weights.append(out)
        return out


class _LocallyLinear(_Gridded):
    """Makes a forward pass linear at its input, and on the way back notes what each bias contributes, and where."""

    def __init__(self, batch: int, size_px: tuple[int, int], device: torch.device) -> None:
        super().__init__()
        self.maps = torch.zeros(batch, *size_px, dtype=torch.float64, device=device)
        self.elsewhere = torch.zeros(batch, dtype=torch.float64, device=device)

    def meet(self, name: str, func: Callable, args: Any, kwargs: Any) -> Any:
        if name in ACTIVATIONS:
            x = args[0]
            out = func(x.detach().clone(), *args[1:], **kwargs)
            # Where x is 0 so is the activation, whatever its gate.
            return x * torch.where(x == 0, 0, out / x).detach()
        if name in GATES:
            return func(*args, **kwargs).detach()
        if name == "scaled_dot_product_attention":
            query, key, value = args
            return func(query.detach(), key.detach(), value, **kwargs)
        if name in BIASED:
            return getattr(self, f"_{name}")(*args, **kwargs)
        if name == "add":
            return self._add(func(*args, **kwargs), args)
        if name == "cat" and any(part.requires_grad for part in args[0]):
            parts = [part if part.requires_grad else self._constant(part) for part in args[0]]
            return func(parts, *args[1:], **kwargs)
        return func(*args, **kwargs)

    def _add(self, out: Tensor, terms: Sequence[Any]) -> Tensor:
        """A sum: what does not depend on the sheet, such as position embeddings, is a bias that acts here."""
        constant = [term for term in terms if not (isinstance(term, Tensor) and term.requires_grad)]
        if not constant or not out.requires_grad:
            return out
        # A token's vector comes last; in a larger shape nobody knows where the places are.
        return self._noting(out, constant[0], channels=-1 if out.ndim <= 3 else tuple(range(1, out.ndim)))

    def _constant(self, part: Tensor) -> Tensor:
        """Tokens that do not depend on the sheet, (B, tokens, D), such as a class token: biases all through."""
        part = part.clone()
        return self._noting(part.requires_grad_(), part.detach(), channels=-1)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._noting(F.linear(x, weight, bias), bias, channels=-1)

    def _conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        return self._noting(F.conv2d(x, weight, bias, *args, **kwargs), bias, channels=1)

    def _batch_norm(self, x, running_mean, running_var, weight=None, bias=None, training=False, *args, **kwargs):
        out = F.batch_norm(x, running_mean, running_var, weight, bias, training, *args, **kwargs)
        zero = torch.zeros_like(x[:1, :, :1, :1] if x.ndim == 4 else x[:1])
        shift = F.batch_norm(zero, running_mean, running_var, weight, bias, training, *args, **kwargs)
        return self._noting(out, shift.detach().reshape(-1), channels=1)

    def _layer_norm(self, x, normalized_shape, weight=None, bias=None, eps=1e-5):
        axes = tuple(range(-len(normalized_shape), 0))
        scale = (x.var(axes, unbiased=False, keepdim=True) + eps).rsqrt().detach()
        out = (x - x.mean(axes, keepdim=True)) * scale
        out = out if weight is None else out * weight
        return self._noting(out if bias is None else out + bias, bias, channels=-1)

    def _noting(self, out: Tensor, bias: Any, channels: int | tuple[int, ...]) -> Tensor:
        """`out`, whose gradient will say what the `bias` in it contributes at each place."""
        if bias is not None and out.requires_grad:
            grid = self.grid
            if channels == 1:
                bias = bias.reshape(-1, *(1,) * (out.ndim - 2))
            out.register_hook(lambda gradient: self._note((gradient * bias).detach().sum(channels), grid))
        return out

    def _note(self, shares: Tensor, grid: tuple[int, int]) -> None:
        """Put shares (B,), (B, tokens) or (B, h, w) in their places; those of any other shape have none."""
        prefix = shares.shape[-1] - prod(grid)
        if shares.ndim == 2 and len(shares) == len(self.maps) and 0 <= prefix <= PREFIX_TOKENS:
            self.elsewhere += shares[:, :prefix].sum(1)
            shares = shares[:, prefix:].reshape(-1, *grid)
        if shares.ndim == 3 and len(shares) == len(self.maps) and shares.shape[1:] != (1, 1):
            self.maps += _spread(shares, self.maps.shape[1:])
        else:
            self.elsewhere += shares.reshape(len(self.maps), -1).sum(1)


def _shares(classifier: Classifier, sheets: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray]:
    """FullGrad of the margin: maps (B, H, W), elsewhere (B,), margin (B,)."""
    device = classifier.mean.device
    network = deepcopy(classifier.network).eval().double().requires_grad_(False)
    pixels = normalised(torch.from_numpy(sheets).to(device), classifier.mean, classifier.std).double().requires_grad_()
    mode = _LocallyLinear(len(sheets), sheets.shape[1:], device)
    with mode:
        logits = network(pixels)
    margin = logits[:, 1] - logits[:, 0]
    margin.sum().backward()
    assert pixels.grad is not None  # they are what the margin is differentiated by
    mode.maps += (pixels.grad * pixels).detach().sum(1)
    return mode.maps.cpu().numpy(), mode.elsewhere.cpu().numpy(), margin.detach().cpu().numpy()


def _spread(shares: Tensor, size_px: Sequence[int]) -> Tensor:
    """(B, h, w) -> (B, H, W) with the same sums: each share evenly over the part of the sheet that it stands for."""
    down, across = (_overlap(cells, pixels, shares) for cells, pixels in zip(shares.shape[1:], size_px, strict=True))
    return down @ shares.double() @ across.mT


def _overlap(cells: int, pixels: int, like: Tensor) -> Tensor:
    """(pixels, cells): what part of each cell lies in each pixel, both dividing one length evenly. Columns sum to 1."""
    edge = torch.arange(pixels + 1, dtype=torch.float64, device=like.device) * cells / pixels
    cell = torch.arange(cells, dtype=torch.float64, device=like.device)
    below = (edge[:, None] - cell).clamp(0, 1)
    return below[1:] - below[:-1]
