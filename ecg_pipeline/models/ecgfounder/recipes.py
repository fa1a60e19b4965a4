"""ECGFounder's sections of a study file: the network, and its pretraining."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError
from ecg_pipeline.models.family import windows
from ecg_pipeline.training.recipes import PretrainRecipe

STATEMENTS = "statement_targets"
"""The target: (K,) int8 an ECG, of each code 1 stated, 0 not stated, -1 unknown."""


@dataclass(frozen=True)
class EcgFounderRecipe:
    """A Net1D; the defaults are the released networks' (30.8 M parameters).

    window: name of the study's waveform windows that it reads: twelve leads in the order of LEADS, at best with one
    mean and deviation for all leads. leads: 12, or 1, which is lead I, standardised by itself.
    base_filters: channels of the first convolution. widths, blocks: channels and number of blocks of each stage.
    kernel: samples of a convolution. stride: of the first block of every stage. groups_width: channels of a group.
    ratio: of the channels inside a block to its width. use_bn: batch norm before each activation. dropout: after each;
    the authors' code has 0.5 or none. The released networks have neither.
    """

    family: Literal["ecgfounder"] = "ecgfounder"
    window: str = "filtered_window"
    leads: Literal[1, 12] = 12
    base_filters: int = 64
    widths: tuple[int, ...] = (64, 160, 160, 400, 400, 1024, 1024)
    blocks: tuple[int, ...] = (2, 2, 2, 3, 3, 4, 4)
    kernel: int = 16
    stride: int = 2
    groups_width: int = 16
    ratio: float = 1.0
    use_bn: bool = False
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.leads not in (1, 12):
            raise RecipeError(f"the network reads 12 leads or lead I alone, not {self.leads}", "leads")
        for key in ("base_filters", "kernel", "stride", "groups_width"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if not self.widths or len(self.widths) != len(self.blocks):
            raise RecipeError(
                "widths and blocks must have a number for each stage, and at least one", "widths", "blocks"
            )
        if min(self.blocks) < 1:
            raise RecipeError("every stage must have at least one block", "blocks")
        for width in self.widths:
            if width < 2 or self.groups(width) < 1 or self.middle(width) < 1 or self.middle(width) % self.groups(width):
                raise RecipeError(
                    f"{self.middle(width)} channels in a block of width {width} cannot be divided into groups of "
                    f"{self.groups_width}",
                    "widths",
                    "groups_width",
                    "ratio",
                )
        if not 0 <= self.dropout < 1:
            raise RecipeError("dropout must lie in [0, 1)", "dropout")

    def middle(self, width: int) -> int:
        """Channels inside a block of a width."""
        return int(width * self.ratio)

    def groups(self, width: int) -> int:
        """Groups of the middle convolution of a block of a width: of its output, whatever `ratio` is."""
        return width // self.groups_width

    @property
    def view(self) -> str:
        """The view that the network reads."""
        return windows(self.window)

    @property
    def description(self) -> str:
        """The network in words."""
        read = "12 leads" if self.leads == 12 else "lead I"
        return f"Net1D on {read}, {sum(self.blocks)} blocks of width {self.widths[0]} to {self.widths[-1]}"


@dataclass(frozen=True)
class EcgFounderPretraining(PretrainRecipe):
    """Supervised pretraining on what physicians stated. All defaults are ours: the paper's loss, schedule and
    augmentation are not published.

    Of networks with one lead only, which see each ECG as if electrodes had been placed otherwise: inverted: probability
    that an example's sign is inverted. turn_degrees: lead I becomes cos(a) I + sin(a) aVF, with an angle a drawn
    uniformly between minus and plus this.
    """

    epochs: int = 20
    batch: int = 256
    learning_rate: float = 1e-3
    final_learning_rate: float = 1e-6
    warmup_epochs: int = 1
    weight_decay: float = 0.01
    clip: float | None = 1.0
    inverted: float = 0.5
    turn_degrees: float = 30.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.inverted <= 1:
            raise RecipeError("inverted must lie in [0, 1]", "inverted")
        if not 0 <= self.turn_degrees <= 180:
            raise RecipeError("turn_degrees must lie in [0, 180]", "turn_degrees")
