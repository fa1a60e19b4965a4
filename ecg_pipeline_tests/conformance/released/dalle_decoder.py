"""The decoder of OpenAI's discrete VAE, DALL-E's, under its official parameter names."""

from torch import Tensor, nn
from torch.nn.functional import interpolate

from ecg_pipeline.tokens import dalle_networks as networks

STATISTICS = 6
"""Location and log scale of a logit-Laplace distribution for each of three channels."""


class _Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return interpolate(x, scale_factor=2, mode="nearest")


class DalleDecoder(nn.Module):
    """Codes (B, V, H, W), one-hot or soft -> (B, 6, 8 H, 8 W), see `STATISTICS`."""

    def __init__(self, shape: networks.DalleShape, code_width: int = 128):
        super().__init__()
        h = shape.hidden
        self.blocks = nn.Sequential()
        self.blocks.add_module("input", networks.Conv(shape.vocabulary, code_width, 1))
        widths = (code_width, 8 * h, 4 * h, 2 * h, h)
        for group in range(networks.GROUPS):
            last = _Double() if group < networks.GROUPS - 1 else None
            name = f"group_{group + 1}"
            kernels = (1, 3, 3, 3)
            made = networks._group(widths[group], widths[group + 1], kernels=kernels, shape=shape, last=last)
            self.blocks.add_module(name, made)
        self.blocks.add_module("output", networks._output(h, STATISTICS))

    def forward(self, codes: Tensor) -> Tensor:
        """The statistics."""
        return self.blocks(codes)
