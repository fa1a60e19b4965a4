"""The training sections of a study file: pretraining, its masks, and fine-tuning."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError, check_seed

PRETRAIN_REVISION = 4
"""Bumped by hand when the results of `pretrain` change."""

FINETUNE_REVISION = 5
"""Bumped by hand when the results of `finetune` change."""


@dataclass(frozen=True)
class MaskRecipe:
    """Mask of masked image modelling. 75 of 196 patches is BEiT's setting, and most likely the paper's 40 %.

    Of blockwise masks only: smallest_block, largest_block (None: `patches`), in patches; aspect: least ratio of height
    to width, the greatest is its inverse.
    """

    kind: Literal["blockwise", "uniform"] = "blockwise"
    patches: int = 75
    smallest_block: int = 16
    largest_block: int | None = None
    aspect: float = 0.3

    def __post_init__(self) -> None:
        for key in ("patches", "smallest_block", "largest_block"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if not 0 < self.aspect <= 1:
            raise RecipeError("aspect must lie in (0, 1]", "aspect")
        largest = min(self.largest_block or self.patches, self.patches)
        if self.kind == "blockwise" and self.smallest_block > largest:
            raise RecipeError(
                f"blocks of {self.smallest_block} patches or more do not fit into {largest}",
                "smallest_block",
                "largest_block",
                "patches",
            )


@dataclass(frozen=True)
class PretrainRecipe:
    """Masked image modelling (paper: Pre-training). Epochs and learning rate are the paper's, which are the defaults of
    BEiT's script; so is everything that the paper leaves open. Clipping is that of BEiT's commands.

    batch: images per step, over all devices.
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
        for key in ("epochs", "batch"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if not 0 <= self.warmup_epochs <= self.epochs:
            sentence = f"warmup_epochs must lie between 0 and {self.epochs}, not {self.warmup_epochs}"
            raise RecipeError(sentence, "warmup_epochs", "epochs")
        for key in ("learning_rate", "clip"):
            if getattr(self, key) <= 0:
                raise RecipeError(f"{key} must be positive", key)
        for key in ("final_learning_rate", "weight_decay"):
            if getattr(self, key) < 0:
                raise RecipeError(f"{key} must not be negative", key)
        check_seed(self.seed)


OPTIMISTIC = "optimistic: epoch chosen on test patients"
"""Label of every result of the official protocol."""


@dataclass(frozen=True)
class FinetuneRecipe:
    """Fine-tuning, one network per seed (paper: Fine-tuning). The paper's text says 30 epochs of Adam between 3e-4 and
    1e-3; its released code ran 20 epochs of OneCycle from 4e-5 to 1e-3. Schedule and epochs here are the code's.

    protocol: `honest` chooses the epoch on validation patients, with one optimiser (AdamW) for every model. `official`
    trains as the released code does: AdamW for BEiT and Adam for the others, training and validation patients trained
    on together, and the epoch chosen on the test patients. Its results are optimistic and labelled as such. The split
    into training and test patients is this study's in both.
    weight_decay: of AdamW, on every parameter.
    """

    epochs: int = 20
    batch: int = 32
    max_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    protocol: Literal["honest", "official"] = "honest"
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise RecipeError("epochs must be at least 1", "epochs")
        if self.batch < 2:
            raise RecipeError("a batch needs at least two ECGs", "batch")
        if self.max_learning_rate <= 0:
            raise RecipeError("max_learning_rate must be positive", "max_learning_rate")
        if self.weight_decay < 0:
            raise RecipeError("weight_decay must not be negative", "weight_decay")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError("seeds must have at least one seed, and none twice", "seeds")
        for seed in self.seeds:
            check_seed(seed, "seeds")

    @property
    def chosen_on(self) -> Literal["validation", "test"]:
        """The split of the patients on whom the epoch is chosen."""
        return "test" if self.protocol == "official" else "validation"

    @property
    def is_optimistic(self) -> bool:
        """Whether the epoch is chosen on the patients that the model is tested on."""
        return self.chosen_on == "test"
