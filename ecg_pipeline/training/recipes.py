"""How a network is trained, as a study says it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MaskRecipe:
    """Which patches are hidden. 75 of 196 is what BEiT's command masks and what the paper most likely calls 40 %.

    smallest_block and aspect (least height-to-width ratio, the greatest being its inverse) are for blockwise masks.
    """

    kind: Literal["blockwise", "uniform"] = "blockwise"
    patches: int = 75
    smallest_block: int = 16
    aspect: float = 0.3

    def __post_init__(self) -> None:
        if self.patches < 1 or self.smallest_block < 1 or not 0 < self.aspect <= 1:
            raise ValueError("patches and smallest_block are at least 1, and aspect lies in (0, 1]")


@dataclass(frozen=True)
class PretrainRecipe:
    """Masked image modelling (paper: Pre-training). What the paper leaves open is the default of BEiT's own script,
    whose learning rate and number of epochs are the paper's; clipping is that of BEiT's commands.

    batch: images a step, over all devices.
    """

    epochs: int = 300
    batch: int = 256
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-5
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    clip: float = 3.0
    mask: MaskRecipe = MaskRecipe()
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 1 or not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError("epochs and batch are at least 1, and the warm-up lies within the epochs")


@dataclass(frozen=True)
class FinetuneRecipe:
    """Fine-tuning with the epoch chosen on validation patients, and the same optimiser for every model.

    The paper's text says 30 epochs of Adam between 3e-4 and 1e-3, its code ran 20 of OneCycle from 4e-5 to 1e-3 and
    reported the best epoch on the test set; schedule and epochs here are the code's, the choice of the epoch is not.
    """

    epochs: int = 20
    batch: int = 32
    max_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    seed: int = 0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise ValueError("there is at least one epoch, and a batch has at least two ECGs")
