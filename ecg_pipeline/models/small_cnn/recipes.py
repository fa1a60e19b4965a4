"""The section of a study file for a small CNN."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.family import windows


@dataclass(frozen=True)
class SmallCnnRecipe:
    """The network; the defaults have 0.3 M parameters.

    window: name of the study's waveform windows that it reads. leads: of that window. widths: channels of each group of
    blocks; every group but the first halves the rate. kernel, stem_kernel: samples of a convolution.
    gain: training examples are multiplied by a random factor between 1 - gain and 1 + gain.
    """

    family: Literal["small_cnn"] = "small_cnn"
    window: str = "windows"
    leads: int = 12
    widths: tuple[int, ...] = (32, 64, 128)
    kernel: int = 7
    stem_kernel: int = 15
    dropout: float = 0.2
    gain: float = 0.1

    def __post_init__(self) -> None:
        if not self.widths:
            raise RecipeError("widths must have at least one group of blocks", "widths")
        for key in ("leads", "kernel", "stem_kernel"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if min(self.widths) < 1:
            raise RecipeError("every width must be at least 1", "widths")
        for key in ("kernel", "stem_kernel"):
            if getattr(self, key) % 2 == 0:
                raise RecipeError(f"a kernel of {getattr(self, key)} samples must be odd", key)
        for key in ("dropout", "gain"):
            if not 0 <= getattr(self, key) < 1:
                raise RecipeError(f"{key} must lie in [0, 1)", key)

    @property
    def view(self) -> str:
        """The view that the network reads."""
        return windows(self.window)

    @property
    def description(self) -> str:
        """The network in words."""
        return f"residual 1D CNN, {len(self.widths)} blocks of width {', '.join(map(str, self.widths))}"
