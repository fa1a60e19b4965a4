"""The training sections of a study file: what pretraining has in every family, and fine-tuning."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from ecg_pipeline.ecg import RecipeError, check_seed

if TYPE_CHECKING:
    from numpy.typing import NDArray

PRETRAIN_REVISION = 6
"""Bumped by hand when the results of `pretrain` change."""

IMPORT_REVISION = 1
"""Bumped by hand when what is stored of a published file of weights changes."""

FINETUNE_REVISION = 8
"""Bumped by hand when the results of `finetune` change."""

PROBE_REVISION = 3
"""Bumped by hand when the results of `fit_probe` change."""


@dataclass(frozen=True)
class PretrainRecipe:
    """Pretraining, one network per seed; a family adds what its objective needs. The defaults are HeartBEiT's (paper:
    Pre-training), which are those of BEiT's script and commands.

    batch: examples per step, over all devices. learning_rate: rises linearly during `warmup_epochs`, then falls as a
    cosine to `final_learning_rate`. clip: largest norm of the gradient; None does not limit it.
    """

    epochs: int = 300
    batch: int = 256
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-5
    warmup_epochs: int = 5
    weight_decay: float = 0.05
    clip: float | None = 3.0
    seeds: tuple[int, ...] = (0,)

    fixed_group: ClassVar[int | None] = None
    """Number of examples of a group that is the same in every epoch; None where no loss depends on groups."""

    def __post_init__(self) -> None:
        for key in ("epochs", "batch"):
            if getattr(self, key) < 1:
                raise RecipeError(f"{key} must be at least 1", key)
        if not 0 <= self.warmup_epochs <= self.epochs:
            sentence = f"warmup_epochs must lie between 0 and {self.epochs}, not {self.warmup_epochs}"
            raise RecipeError(sentence, "warmup_epochs", "epochs")
        for key in ("learning_rate", "clip"):
            if (value := getattr(self, key)) is not None and value <= 0:
                raise RecipeError(f"{key} must be positive", key)
        for key in ("final_learning_rate", "weight_decay"):
            if getattr(self, key) < 0:
                raise RecipeError(f"{key} must not be negative", key)
        _check_seeds(self.seeds)

    def learning_rates(self, steps_per_epoch: int) -> "NDArray":
        """Learning rate of every step (steps,)."""
        from ecg_pipeline.training.schedules import warmup_cosine

        return warmup_cosine(
            peak=self.learning_rate,
            final=self.final_learning_rate,
            epochs=self.epochs,
            steps_per_epoch=steps_per_epoch,
            warmup_epochs=self.warmup_epochs,
        )


OPTIMISTIC = "optimistic: chosen on test patients"
"""Label of every result of the official protocol."""


class _Protocol:
    """Whom a choice is made on, by the protocol. chosen: what is chosen, which is also the trace's first column."""

    protocol: Literal["honest", "official"]
    chosen: ClassVar[str]

    @property
    def chosen_on(self) -> Literal["validation", "test"]:
        """The split of the patients on whom the choice is made."""
        return "test" if self.protocol == "official" else "validation"

    @property
    def is_optimistic(self) -> bool:
        """Whether the choice is made on the patients that the model is tested on."""
        return self.chosen_on == "test"


@dataclass(frozen=True)
class FinetuneRecipe(_Protocol):
    """Fine-tuning, one network per seed (paper: Fine-tuning). The paper's text says 30 epochs of Adam between 3e-4 and
    1e-3; its released code ran 20 epochs of OneCycle from 4e-5 to 1e-3. Schedule and epochs here are the code's.

    protocol: `honest` chooses the epoch on validation patients. `official` does as the released code: training and
    validation patients are trained on together, and the epoch is chosen on the test patients. Its results are
    optimistic and labelled as such. The split into training and test patients is this study's in both.
    optimiser: the released code uses `adamw` for HeartBEiT and `adam` without weight decay for the others.
    weight_decay: on every parameter; of `adam`, an L2 penalty.
    time_shift: training examples are shifted in time at random, by at most this share of their length; what leaves at
    one end comes in at the other.
    layer_decay: factor of the learning rate from one stage of the network to the one before it; 1 is one rate for all.
    """

    chosen: ClassVar[str] = "epoch"

    epochs: int = 20
    batch: int = 32
    max_learning_rate: float = 1e-3
    weight_decay: float = 0.01
    layer_decay: float = 1.0
    time_shift: float = 0.0
    optimiser: Literal["adamw", "adam"] = "adamw"
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
        if not 0 <= self.time_shift <= 0.5:
            raise RecipeError("time_shift must lie in [0, 0.5]", "time_shift")
        if not 0 < self.layer_decay <= 1:
            raise RecipeError("layer_decay must lie in (0, 1]", "layer_decay")
        _check_seeds(self.seeds)


@dataclass(frozen=True)
class ProbeRecipe(_Protocol):
    """Linear probe of a frozen encoder: logistic regression with an L2 penalty on standardised features.

    c: inverse strengths of the penalty to choose from (scikit-learn's C), from the strongest penalty to the weakest.
    iterations: of L-BFGS, at most. protocol, seeds: as in `FinetuneRecipe`; what the official protocol chooses on test
    patients is C. A seed is that of the encoder: the fit itself has no randomness.
    """

    chosen: ClassVar[str] = "c"

    c: tuple[float, ...] = (1e-5, 1e-4, 1e-3, 0.01, 0.1, 1.0)
    iterations: int = 1000
    protocol: Literal["honest", "official"] = "honest"
    seeds: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        if not self.c or min(self.c) <= 0 or list(self.c) != sorted(set(self.c)):
            raise RecipeError("c must have at least one value, all positive, each larger than the one before", "c")
        if self.iterations < 1:
            raise RecipeError("iterations must be at least 1", "iterations")
        _check_seeds(self.seeds)


def _check_seeds(seeds: tuple[int, ...]) -> None:
    if not seeds or len(set(seeds)) < len(seeds):
        raise RecipeError("seeds must have at least one seed, and none twice", "seeds")
    for seed in seeds:
        check_seed(seed, "seeds")
