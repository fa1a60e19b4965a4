"""Blocks of wav2vec 2.0 (Baevski et al. 2020) on waveforms, as ECG-FM and its descendants build them.

A convolutional extractor turns samples into frames, a convolution over frames adds their position, and a transformer
relates them. Modules bear the names of the authors' checkpoints, so that a state needs no renaming.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import dropout, gelu, scaled_dot_product_attention
from torch.nn.utils.parametrizations import weight_norm

from ecg_pipeline.models.wav2vec2_shape import Dropouts, Wav2Vec2Shape

INITIAL_STD = 0.02


class FeatureExtractor(nn.Module):
    """Convolutions and GELUs, a norm of each channel over time after the first: (B, L, T) -> (B, C, frames)."""

    def __init__(self, shape: Wav2Vec2Shape):
        super().__init__()
        inputs = (shape.leads, *shape.conv_widths[:-1])
        self.conv_layers = nn.ModuleList()
        for layer, sizes in enumerate(
            zip(inputs, shape.conv_widths, shape.conv_kernels, shape.conv_strides, strict=True)
        ):
            convolution = nn.Conv1d(*sizes, bias=shape.conv_bias)
            nn.init.kaiming_normal_(convolution.weight)
            norm = [nn.GroupNorm(sizes[1], sizes[1])] if layer == 0 else []
            # The authors' layer 1 is a dropout of rate 0.
            self.conv_layers.append(nn.Sequential(convolution, nn.Identity(), *norm, nn.GELU()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, L, T) -> (B, C, frames)."""
        for layer in self.conv_layers:
            x = layer(x)
        return x


class PositionalConvolution(nn.Module):
    """Convolution over frames, then GELU: (B, T, D) -> (B, T, D). The weight is normalised for each place of the
    kernel: w[:, :, k] = g[k] v[:, :, k] / |v[:, :, k]|."""

    def __init__(self, width: int, *, kernel: int, groups: int):
        super().__init__()
        convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=groups)
        nn.init.normal_(convolution.weight, std=(4 / (kernel * width)) ** 0.5)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        self.pos_conv = nn.Sequential(weight_norm(convolution, dim=2))

    def forward(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, T, D). An even kernel gives one frame more, which is dropped."""
        return gelu(self.pos_conv(x.mT)[..., : x.shape[1]]).mT


class SelfAttention(nn.Module):
    """Attention of frames to frames: (B, T, D) -> (B, T, D). dropout: rate on the attention weights in training."""

    def __init__(self, width: int, *, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.k_proj, self.v_proj, self.q_proj, self.out_proj = (_linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """attended: bool, broadcast to (B, heads, T, T), where a key counts; None is everywhere."""
        q, k, v = (self._heads(projection(x)) for projection in (self.q_proj, self.k_proj, self.v_proj))
        rate = self.dropout if self.training else 0.0
        y = scaled_dot_product_attention(q, k, v, attn_mask=attended, dropout_p=rate)
        return self.out_proj(y.transpose(1, 2).flatten(2))

    def weights(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """Attention weights, the mean over heads: (B, T, T), queries by keys."""
        q, k = self._heads(self.q_proj(x)), self._heads(self.k_proj(x))
        logits = q @ k.mT * q.shape[-1] ** -0.5
        if attended is not None:
            logits = logits.masked_fill(~attended, float("-inf"))
        return logits.softmax(dim=-1).mean(dim=1)

    def _heads(self, x: Tensor) -> Tensor:
        """(B, T, D) -> (B, heads, T, D / heads)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class TransformerLayer(nn.Module):
    """Attention and MLP, each with a residual connection and a layer norm: (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int, *, heads: int, mlp_width: int, dropouts: Dropouts, pre_norm: bool):
        super().__init__()
        self.dropouts, self.pre_norm = dropouts, pre_norm
        self.self_attn = SelfAttention(width, heads=heads, dropout=dropouts.attention)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1, self.fc2 = _linear(width, mlp_width), _linear(mlp_width, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """attended: as of `SelfAttention`."""
        if self.pre_norm:
            x = x + self._dropped(self.self_attn(self.self_attn_layer_norm(x), attended))
            return x + self._dropped(self._mlp(self.final_layer_norm(x)))
        x = self.self_attn_layer_norm(x + self._dropped(self.self_attn(x, attended)))
        return self.final_layer_norm(x + self._dropped(self._mlp(x)))

    def attention(self, x: Tensor, attended: Tensor | None) -> Tensor:
        """The attention weights of this layer's input, (B, T, T): see `SelfAttention.weights`."""
        return self.self_attn.weights(self.self_attn_layer_norm(x) if self.pre_norm else x, attended)

    def _mlp(self, x: Tensor) -> Tensor:
        return self.fc2(dropout(gelu(self.fc1(x)), self.dropouts.activation, self.training))

    def _dropped(self, branch: Tensor) -> Tensor:
        return dropout(branch, self.dropouts.residual, self.training)


class Transformer(nn.Module):
    """Layers with one more layer norm, before them all, or with `pre_norm` after them: (B, T, D) -> (B, T, D)."""

    def __init__(self, shape: Wav2Vec2Shape, dropouts: Dropouts):
        super().__init__()
        self.pre_norm, self.dropout = shape.pre_norm, dropouts.residual
        self.layers = nn.ModuleList(
            TransformerLayer(
                shape.width,
                heads=shape.heads,
                mlp_width=shape.mlp_width,
                dropouts=dropouts,
                pre_norm=shape.pre_norm,
            )
            for _ in range(shape.depth)
        )
        self.layer_norm = nn.LayerNorm(shape.width)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """x: (B, T, D). padding: (B, T) bool, True where a frame is padding; None is nowhere."""
        x, attended = self._prepare(x, padding)
        for layer in self.layers:
            x = layer(x, attended)
        return self.layer_norm(x) if self.pre_norm else x

    def attention(self, x: Tensor, padding: Tensor | None = None) -> list[Tensor]:
        """Attention weights of every layer, (B, T, T) each, for the same input as `forward`."""
        x, attended = self._prepare(x, padding)
        weights = []
        for layer in self.layers:
            weights.append(layer.attention(x, attended))  # type: ignore[operator]
            x = layer(x, attended)
        return weights

    def _prepare(self, x: Tensor, padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The first layer's input, in which padding is 0 before the norm, and the keys that count."""
        attended = None
        if padding is not None:
            x = x.masked_fill(padding[..., None], 0)
            attended = ~padding[:, None, None, :]
        x = x if self.pre_norm else self.layer_norm(x)
        return dropout(x, self.dropout, self.training), attended


class WaveformEncoder(nn.Module):
    """Waveforms (B, L, T) -> frames in their context (B, frames, D).

    `encode` does all of it; what masks or adds frames on the way calls the parts. input_dropout: rate on the projected
    frames.
    """

    def __init__(self, shape: Wav2Vec2Shape, dropouts: Dropouts, *, input_dropout: float = 0.0):
        super().__init__()
        self.shape, self.input_dropout = shape, input_dropout
        channels = shape.conv_widths[-1]
        self.feature_extractor = FeatureExtractor(shape)
        self.layer_norm = nn.LayerNorm(channels)
        self.post_extract_proj = nn.Linear(channels, shape.width) if channels != shape.width else nn.Identity()
        self.conv_pos = PositionalConvolution(shape.width, kernel=shape.position_kernel, groups=shape.position_groups)
        self.encoder = Transformer(shape, dropouts)

    def frames(self, x: Tensor) -> Tensor:
        """Waveforms (B, L, T) -> normalised frames (B, frames, C)."""
        return self.layer_norm(self.feature_extractor(x).mT)

    def project(self, frames: Tensor) -> Tensor:
        """Normalised frames (B, frames, C) -> (B, frames, D)."""
        return dropout(self.post_extract_proj(frames), self.input_dropout, self.training)

    def locate(self, x: Tensor) -> Tensor:
        """Add the position: (B, frames, D) -> (B, frames, D)."""
        return x + self.conv_pos(x)

    def encode(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        """Waveforms (B, L, T) -> (B, frames, D). padding: of frames, see `frame_padding`."""
        return self.encoder(self.locate(self.project(self.frames(x))), padding)

    def attention(self, x: Tensor, padding: Tensor | None = None) -> list[Tensor]:
        """Attention weights of every layer, the mean over heads: (B, frames, frames) each, queries by keys."""
        return self.encoder.attention(self.locate(self.project(self.frames(x))), padding)

    def stages(self) -> list[list[nn.Parameter]]:
        """Parameters from the input on: extractor, projection with position, then one stage a layer."""
        layers, norm = (
            [list(layer.parameters()) for layer in self.encoder.layers],
            list(self.encoder.layer_norm.parameters()),
        )
        if self.shape.pre_norm:
            layers[-1] = [*layers[-1], *norm]
        else:
            layers[0] = [*norm, *layers[0]]
        located = [*self.layer_norm.parameters(), *self.post_extract_proj.parameters(), *self.conv_pos.parameters()]
        return [list(self.feature_extractor.parameters()), located, *layers]


def frame_padding(padding: Tensor, shape: Wav2Vec2Shape) -> Tensor | None:
    """Which frames are padding, (B, frames) bool, from padded samples (B, T) bool, True at the end of an example.

    None where nothing is padded. The frames of the other samples are counted as if nothing came after them.
    """
    if not padding.any():
        return None
    recorded = (~padding).sum(dim=1).tolist()
    frames = torch.arange(shape.frames(padding.shape[1]), device=padding.device)
    return frames >= torch.tensor([[shape.frames(samples)] for samples in recorded], device=padding.device)


def _linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer of the transformer, initialised like BERT's."""
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=INITIAL_STD)
    nn.init.zeros_(layer.bias)
    return layer
