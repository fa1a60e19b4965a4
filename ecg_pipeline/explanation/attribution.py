"""Attribution maps by FullGrad (Srinivas and Fleuret 2019), for every family in the same way, and attention rollout.

FullGrad is input x gradient plus the contribution of every bias, at the place where the bias acts. For a piecewise
linear network all contributions sum to the output. Other networks are linearised at the given image, as in Ali et al.
2022: the gate g(x) of an activation x g(x), squeeze-and-excitation gates, attention weights and the standard deviation
of a layer norm are constants, and only what they multiply is differentiated. ReLU networks get FullGrad itself, and in
every family the contributions sum to the output up to rounding.

The contributions of a blank image are subtracted, so that a map explains why an ECG is scored differently from blank
paper: sum of the map + elsewhere = margin(ECG) - margin(blank), where margin is the logit of class 1 minus that of 0.
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

from ecg_pipeline.models.family import Classifier
from ecg_pipeline.models.normalisation import normalise

ACTIVATIONS = frozenset({"gelu", "silu", "mish", "elu", "hardswish"})
GATES = frozenset({"sigmoid", "hardsigmoid", "softmax"})
BIASED = frozenset({"linear", "conv2d", "batch_norm", "layer_norm"})
PREFIX_TOKENS = 8
"""Greatest number of tokens before those of the patches: class, distillation and register tokens."""

TRANSFORMERS = (Beit, VisionTransformer)


@dataclass(frozen=True, eq=False)
class Attribution:
    """Contributions to the margin of each image. maps (B, H, W); elsewhere (B,): the sum of those without
    a place in the image, such as a class token's; margin (B,): logit of class 1 minus logit of class 0, minus the same
    of a blank image.
    """

    maps: NDArray[np.float64]
    elsewhere: NDArray[np.float64]
    margin: NDArray[np.float64]

    @property
    def error(self) -> NDArray[np.float64]:
        """(B,) distance of the contributions' sum from the margin: rounding, unless an operation is not handled."""
        return np.abs(self.maps.sum((1, 2)) + self.elsewhere - self.margin)


def full_gradient(classifier: Classifier, images: NDArray[np.uint8]) -> Attribution:
    """FullGrad of a classifier on images (B, H, W) uint8, minus that of a blank image.

    A copy of the network runs in double precision on the same device, so that rounding does not hide errors. Memory is
    that of one training step.
    """
    blank = _contributions(classifier, np.full_like(images[:1], 255))
    here = _contributions(classifier, images)
    return Attribution(*(value - of_blank for value, of_blank in zip(here, blank, strict=True)))


def rollout(classifier: Classifier, images: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Attention rollout (Abnar and Zuidema 2020): (B, H, W), each pixel's share in the token that is classified.

    The residual path counts as half of every block. A map sums to 1 minus the share that stays in the class token. A
    network without attention (`has_attention`) is a ValueError.
    """
    if not has_attention(classifier):
        raise ValueError(f"{type(classifier.network).__name__} has no attention, so no rollout")
    mode = _AttentionRecorder()
    with torch.no_grad(), mode:
        classifier.eval()(torch.from_numpy(images).to(classifier.mean.device))
    rolled = combine_attention(mode.weights)
    tokens, patches = rolled.shape[-1], prod(mode.grid)
    prefix = tokens - patches
    pooled = rolled[:, 0] if getattr(classifier.network, "global_pool", None) == "token" else rolled[:, prefix:].mean(1)
    return _spread(pooled[:, prefix:].reshape(-1, *mode.grid), images.shape[1:]).cpu().numpy()


def combine_attention(weights: Sequence[Tensor]) -> Tensor:
    """Attention weights (B, heads, N, N) of each block -> (B, N, N): share of each input token in each output token."""
    rolled = torch.eye(weights[0].shape[-1], dtype=torch.float64, device=weights[0].device)[None]
    for block in weights:
        mixed = block.double().mean(1) + torch.eye(block.shape[-1], dtype=torch.float64, device=block.device)
        rolled = mixed / mixed.sum(-1, keepdim=True) @ rolled
    return rolled


def has_attention(classifier: Classifier) -> bool:
    """Whether `rollout` is defined: a transformer with global attention over patch tokens."""
    return isinstance(classifier.network, TRANSFORMERS)


class _GridMode(TorchFunctionMode):
    """Intercepts the operations of a forward pass. grid: rows and columns of the last convolution's output."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = (0, 0)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        out = self.intercept(name.rstrip("_"), func, args, kwargs or {})
        if name == "conv2d":
            self.grid = tuple(out.shape[2:])
        return out

    def intercept(self, name: str, func: Callable, args: Any, kwargs: Any) -> Any:
        raise NotImplementedError


class _AttentionRecorder(_GridMode):
    """Collects the attention weights (B, heads, N, N) of every block."""

    def __init__(self) -> None:
        super().__init__()
        self.weights: list[Tensor] = []

    def intercept(self, name: str, func: Callable, args: Any, kwargs: Any) -> Any:
        if name == "scaled_dot_product_attention":
            query, key = args[:2]
            logits = query @ key.mT * (kwargs.get("scale") or query.shape[-1] ** -0.5)
            mask = kwargs.get("attn_mask")
            self.weights.append((logits if mask is None else logits + mask).softmax(-1))
        out = func(*args, **kwargs)
        if name == "softmax" and out.ndim == 4:
            self.weights.append(out)
        return out


class _LocallyLinear(_GridMode):
    """Linearises a forward pass at its input; the backward pass collects the contribution of each bias by place."""

    def __init__(self, batch: int, size_px: tuple[int, int], device: torch.device) -> None:
        super().__init__()
        self.maps = torch.zeros(batch, *size_px, dtype=torch.float64, device=device)
        self.elsewhere = torch.zeros(batch, dtype=torch.float64, device=device)

    def intercept(self, name: str, func: Callable, args: Any, kwargs: Any) -> Any:
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
        if name in BIASED:
            return getattr(self, f"_{name}")(*args, **kwargs)
        if name == "add":
            return self._add(func(*args, **kwargs), args)
        if name == "cat" and any(tensor.requires_grad for tensor in args[0]):
            tensors = [tensor if tensor.requires_grad else self._constant(tensor) for tensor in args[0]]
            return func(tensors, *args[1:], **kwargs)
        return func(*args, **kwargs)

    def _add(self, out: Tensor, terms: Sequence[Any]) -> Tensor:
        """A sum: a term that does not depend on the image, such as position embeddings, is a bias."""
        constant = [term for term in terms if not (isinstance(term, Tensor) and term.requires_grad)]
        if not constant or not out.requires_grad:
            return out
        # Token vectors are the last axis of (B, tokens, D); other shapes have no known places.
        return self._with_bias(out, constant[0], channels=-1 if out.ndim <= 3 else tuple(range(1, out.ndim)))

    def _constant(self, tokens: Tensor) -> Tensor:
        """Tokens (B, tokens, D) that do not depend on the image, such as a class token: a bias as a whole."""
        tokens = tokens.clone()
        return self._with_bias(tokens.requires_grad_(), tokens.detach(), channels=-1)

    def _linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return self._with_bias(F.linear(x, weight, bias), bias, channels=-1)

    def _conv2d(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Tensor:
        return self._with_bias(F.conv2d(x, weight, bias, *args, **kwargs), bias, channels=1)

    def _batch_norm(self, x, running_mean, running_var, weight=None, bias=None, training=False, *args, **kwargs):
        out = F.batch_norm(x, running_mean, running_var, weight, bias, training, *args, **kwargs)
        zero = torch.zeros_like(x[:1, :, :1, :1] if x.ndim == 4 else x[:1])
        shift = F.batch_norm(zero, running_mean, running_var, weight, bias, training, *args, **kwargs)
        return self._with_bias(out, shift.detach().reshape(-1), channels=1)

    def _layer_norm(self, x, normalized_shape, weight=None, bias=None, eps=1e-5):
        axes = tuple(range(-len(normalized_shape), 0))
        scale = (x.var(axes, unbiased=False, keepdim=True) + eps).rsqrt().detach()
        out = (x - x.mean(axes, keepdim=True)) * scale
        out = out if weight is None else out * weight
        return self._with_bias(out if bias is None else out + bias, bias, channels=-1)

    def _with_bias(self, out: Tensor, bias: Any, channels: int | tuple[int, ...]) -> Tensor:
        """Register a hook on `out` that adds the contribution of the `bias` in it, summed over the axes `channels`."""
        if bias is not None and out.requires_grad:
            grid = self.grid
            if channels == 1:
                bias = bias.reshape(-1, *(1,) * (out.ndim - 2))
            out.register_hook(lambda gradient: self._add_contributions((gradient * bias).detach().sum(channels), grid))
        return out

    def _add_contributions(self, shares: Tensor, grid: tuple[int, int]) -> None:
        """Add contributions (B, tokens) or (B, h, w) to the maps, and those of any other shape to `elsewhere`."""
        prefix = shares.shape[-1] - prod(grid)
        if shares.ndim == 2 and len(shares) == len(self.maps) and 0 <= prefix <= PREFIX_TOKENS:
            self.elsewhere += shares[:, :prefix].sum(1)
            shares = shares[:, prefix:].reshape(-1, *grid)
        if shares.ndim == 3 and len(shares) == len(self.maps) and shares.shape[1:] != (1, 1):
            self.maps += _spread(shares, self.maps.shape[1:])
        else:
            self.elsewhere += shares.reshape(len(self.maps), -1).sum(1)


def _contributions(classifier: Classifier, images: NDArray[np.uint8]) -> tuple[NDArray, NDArray, NDArray]:
    """FullGrad of the margin: maps (B, H, W), elsewhere (B,), margin (B,)."""
    device = classifier.mean.device
    network = deepcopy(classifier.network).eval().double().requires_grad_(False)
    pixels = normalise(torch.from_numpy(images).to(device), mean=classifier.mean, std=classifier.std)
    pixels = pixels.double().requires_grad_()
    mode = _LocallyLinear(len(images), images.shape[1:], device)
    with mode:
        logits = network(pixels)
    margin = logits[:, 1] - logits[:, 0]
    margin.sum().backward()
    assert pixels.grad is not None  # a leaf of the graph
    mode.maps += (pixels.grad * pixels).detach().sum(1)
    return mode.maps.cpu().numpy(), mode.elsewhere.cpu().numpy(), margin.detach().cpu().numpy()


def _spread(shares: Tensor, size_px: Sequence[int]) -> Tensor:
    """(B, h, w) -> (B, H, W) with the same sums: each value spread evenly over its area of the image."""
    down, across = (_overlap(cells, pixels, shares) for cells, pixels in zip(shares.shape[1:], size_px, strict=True))
    return down @ shares.double() @ across.mT


def _overlap(cells: int, pixels: int, like: Tensor) -> Tensor:
    """(pixels, cells): share of each cell in each pixel, where both divide the same length evenly. Columns sum to 1."""
    edge = torch.arange(pixels + 1, dtype=torch.float64, device=like.device) * cells / pixels
    cell = torch.arange(cells, dtype=torch.float64, device=like.device)
    below = (edge[:, None] - cell).clamp(0, 1)
    return below[1:] - below[:-1]
