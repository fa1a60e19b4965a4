"""How a network is trained, as a study says it."""

from dataclasses import dataclass
from typing import Literal

from ecg_pipeline.ecg import RecipeError, check_seed

PRETRAIN_REVISION = 4
"""Bumped by hand when the results of `pretrain` change."""

FINETUNE_REVISION = 5
"""Bumped by hand when the results of `finetune` change."""


@dataclass(frozen=True)
class MaskRecipe:
    """Which patches are hidden. 75 of 196 is what BEiT's command masks and what the paper most likely calls 40 %.

    smallest_block, largest_block (None: all of `patches`) and aspect (least height-to-width ratio, the greatest being
    its inverse) are for blockwise masks.
    """

    kind: Literal["blockwise", "uniform"] = "blockwise"
    patches: int = 75
    smallest_block: int = 16
    largest_block: int | None = None
    aspect: float = 0.3

    def __post_init__(self) -> None:
        for key in ("patches", "smallest_block", "largest_block"):
            if (value := getattr(self, key)) is not None and value < 1:
                raise RecipeError(f"{key} is at least 1", key)
        if not 0 < self.aspect <= 1:
            raise RecipeError("aspect lies in (0, 1]", "aspect")
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
        for key in ("epochs", "batch"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} is at least 1", key)
        if not 0 <= self.warmup_epochs <= self.epochs:
            sentence = f"a warm-up of {self.warmup_epochs} epochs does not lie within {self.epochs}"
            raise RecipeError(sentence, "warmup_epochs", "epochs")
        for key in ("learning_rate", "clip"):
            if getattr(self, key) <= 0:
                raise RecipeError(f"{key} is positive", key)
        for key in ("final_learning_rate", "weight_decay"):
            if getattr(self, key) < 0:
                raise RecipeError(f"{key} is not negative", key)
        check_seed(self.seed)


OPTIMISTIC = "optimistic: epoch chosen on test patients"
"""Said wherever a figure of the official protocol is printed."""


@dataclass(frozen=True)
class FinetuneRecipe:
    """Fine-tuning, one network a seed (paper: Fine-tuning). The paper's text says 30 epochs of Adam between 3e-4 and
    1e-3, its released code ran 20 of OneCycle from 4e-5 to 1e-3; schedule and epochs here are the code's.

    protocol: `honest` chooses the epoch on validation patients, with one optimiser (AdamW) for every model. `official`
    trains as the released code does: AdamW for BEiT and Adam for the others, the validation patients among those who
    are trained on, and the epoch chosen on the test patients, which makes every figure optimistic and is said wherever
    one is printed. It is the training protocol alone: who trains and who tests stays this study's split.
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
            raise RecipeError("there is at least one epoch", "epochs")
        if self.batch < 2:
            raise RecipeError("a batch has at least two ECGs", "batch")
        if self.max_learning_rate <= 0:
            raise RecipeError("max_learning_rate is positive", "max_learning_rate")
        if self.weight_decay < 0:
            raise RecipeError("weight_decay is not negative", "weight_decay")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise RecipeError("there is at least one seed, and no seed occurs twice", "seeds")
        for seed in self.seeds:
            check_seed(seed, "seeds")

    @property
    def chosen_on(self) -> Literal["validation", "test"]:
        """The part of the patients on whom the epoch is chosen."""
        return "test" if self.protocol == "official" else "validation"

    @property
    def is_optimistic(self) -> bool:
        """Whether test patients had a say in what is tested on them."""
        return self.chosen_on == "test"
