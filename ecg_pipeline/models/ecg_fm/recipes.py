"""ECG-FM's sections of a study file: the network, and its pretraining."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from ecg_pipeline.ecg import RecipeError, check_positive, check_rates
from ecg_pipeline.models.family import windows
from ecg_pipeline.models.wav2vec2_shape import Dropouts, Wav2Vec2Shape
from ecg_pipeline.training.recipes import PretrainRecipe

if TYPE_CHECKING:
    from numpy.typing import NDArray


PAPER_STAGES = ((5, 1e-4), (195, 8e-5), (40, 5e-5))
"""The learning rates of the paper's final model, for `EcgFmPretraining.stages` with 240 epochs."""


@dataclass(frozen=True)
class EcgFmRecipe:
    """The network; the defaults are ECG-FM's base size (McKeen et al. 2025; 90.9 M parameters in pretraining).

    window: name of the study's waveform windows that it reads; a window is a segment of 5 s. leads: of that window.
    conv_widths, conv_kernels, conv_strides: channels and samples of each convolution. position_kernel, position_groups:
    of the convolution over frames. pre_norm: layer norms begin the residual branches of the transformer.
    codebooks, codes: of the quantiser, and how many codes each has. code_width: of the quantised targets, all codebooks
    together; None is `contrast_width`, that of the vectors that are compared.
    dropout, attention_dropout, activation_dropout: in fine-tuning; pretraining has its own.
    train_convolutions: the released fine-tuning freezes the convolutions and their norm (`feature_grad_mult: 0`). The
    paper says that all weights are updated, which is the default.

    The paper speaks of a layer norm in each convolution. The released code cannot build that, and the published number
    of parameters is only that of one norm, of each channel over time, after the first.
    """

    family: Literal["ecg_fm"] = "ecg_fm"
    window: str = "segments"
    leads: int = 12
    conv_widths: tuple[int, ...] = (256, 256, 256, 256)
    conv_kernels: tuple[int, ...] = (2, 2, 2, 2)
    conv_strides: tuple[int, ...] = (2, 2, 2, 2)
    conv_bias: bool = False
    width: int = 768
    depth: int = 12
    heads: int = 12
    mlp_width: int = 3072
    position_kernel: int = 128
    position_groups: int = 16
    pre_norm: bool = False
    codebooks: int = 2
    codes: int = 320
    code_width: int | None = None
    contrast_width: int = 256
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.1
    train_convolutions: bool = True

    def __post_init__(self) -> None:
        self.shape.check()
        check_positive(self, "codebooks", "contrast_width")
        if self.codes < 2:
            raise RecipeError("a codebook needs at least two codes", "codes")
        if self.quantised_width % self.codebooks:
            sentence = f"a width of {self.quantised_width} does not divide into {self.codebooks} codebooks"
            raise RecipeError(sentence, "codebooks", "code_width", "contrast_width")
        check_rates(self, "dropout", "attention_dropout", "activation_dropout")

    @property
    def view(self) -> str:
        """The view that the network reads."""
        return windows(self.window)

    @property
    def description(self) -> str:
        """The network in words."""
        return f"ECG-FM, {self.depth} layers of width {self.width}"

    @property
    def quantised_width(self) -> int:
        """Width of the quantised targets."""
        return self.contrast_width if self.code_width is None else self.code_width

    @property
    def shape(self) -> Wav2Vec2Shape:
        """Sizes of the encoder."""
        return Wav2Vec2Shape(
            leads=self.leads,
            conv_widths=self.conv_widths,
            conv_kernels=self.conv_kernels,
            conv_strides=self.conv_strides,
            conv_bias=self.conv_bias,
            width=self.width,
            depth=self.depth,
            heads=self.heads,
            mlp_width=self.mlp_width,
            position_kernel=self.position_kernel,
            position_groups=self.position_groups,
            pre_norm=self.pre_norm,
        )

    @property
    def dropouts(self) -> Dropouts:
        """Rates of dropout in fine-tuning."""
        return Dropouts(self.dropout, self.attention_dropout, self.activation_dropout)


@dataclass(frozen=True)
class SpanMaskRecipe:
    """Spans of masked frames. share: number of spans times their length, as a share of the frames, before overlaps and
    before all segments of a group are cut to the smallest number of masked frames. length: of a span, in frames.
    """

    share: float = 0.65
    length: int = 10

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise RecipeError("share must lie in (0, 1]", "share")
        if self.length < 1:
            raise RecipeError("length must be at least 1", "length")


@dataclass(frozen=True)
class LeadMaskRecipe:
    """Leads set to 0. probability: that a segment is masked at all. share: probability of each of its leads."""

    probability: float = 1.0
    share: float = 0.5

    def __post_init__(self) -> None:
        for key in ("probability", "share"):
            if not 0 <= getattr(self, key) <= 1:
                raise RecipeError(f"{key} must lie in [0, 1]", key)


@dataclass(frozen=True)
class GumbelRecipe:
    """Temperature of the quantiser's Gumbel noise: `first`, times `decay` after every step, at least `last`."""

    first: float = 2.0
    last: float = 0.5
    decay: float = 0.999995

    def __post_init__(self) -> None:
        if not 0 < self.last <= self.first:
            raise RecipeError("last must lie in (0, first]", "last", "first")
        if not 0 < self.decay <= 1:
            raise RecipeError("decay must lie in (0, 1]", "decay")

    def temperature(self, step: int) -> float:
        """Temperature of a step, from 0 on."""
        return max(self.first * self.decay**step, self.last)


@dataclass(frozen=True)
class EcgFmPretraining(PretrainRecipe):
    """Contrastive prediction of masked frames, and of the other segment of a recording (CMSC).

    The defaults are those of the released example: 200 epochs at a fixed rate of 5e-5, batches of 512 pairs in groups
    of 64, without clipping. The paper's final model had 240 epochs with the rates `PAPER_STAGES` and 513 pairs in
    groups of 171.

    batch: segments per step; every recording has two, side by side. pairs: recordings of a group, which goes through
    the network together: all its segments have equally many masked frames, and its recordings are each other's
    negatives. partners: `new` forms groups anew in every epoch, so that a recording meets other negatives; `fixed`
    forms them once, as the released code does, and `batch` must then be whole groups. learning_rate,
    final_learning_rate: the rate is fixed while they are equal. stages: (epochs, rate) one after another, instead of
    both.
    negatives: masked frames of the same segment that a target is told from. temperature, cmsc_temperature: of the
    cosines in the two contrasts. diversity_weight, penalty_weight, cmsc_weight: of the quantiser's diversity, the
    squared features and CMSC, beside the contrast of frames. feature_grad_mult: factor of the extractor's gradient.
    dropout, attention_dropout, activation_dropout, input_dropout, feature_dropout: the last two of the projected frames
    and of the targets.
    betas, eps: of Adam; eps is added before the bias correction. weight_decay is decoupled and of all parameters.

    The mask is drawn for a whole group, so the masked share depends on its size: 49 %, which the paper states, is that
    of a single segment; with 128 it is 35 %.
    """

    epochs: int = 200
    batch: int = 1024
    learning_rate: float = 5e-5
    final_learning_rate: float = 5e-5
    warmup_epochs: int = 0
    weight_decay: float = 0.01
    clip: float | None = None
    pairs: int = 64
    partners: Literal["new", "fixed"] = "new"
    stages: tuple[tuple[int, float], ...] = ()
    mask: SpanMaskRecipe = SpanMaskRecipe()
    lead_mask: LeadMaskRecipe = LeadMaskRecipe()
    gumbel: GumbelRecipe = GumbelRecipe()
    negatives: int = 100
    temperature: float = 0.1
    cmsc_temperature: float = 0.1
    diversity_weight: float = 0.1
    penalty_weight: float = 10.0
    cmsc_weight: float = 1.0
    feature_grad_mult: float = 0.1
    dropout: float = 0.1
    attention_dropout: float = 0.1
    activation_dropout: float = 0.0
    input_dropout: float = 0.1
    feature_dropout: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "pairs", "negatives", "temperature", "cmsc_temperature", "eps")
        if self.batch < 2:
            raise RecipeError("a batch needs at least the two segments of a recording", "batch")
        if self.partners == "fixed" and self.batch % self.group:
            sentence = f"with fixed partners a batch of {self.batch} must be whole groups of {self.group} segments"
            raise RecipeError(sentence, "batch", "pairs", "partners")
        for key in ("diversity_weight", "penalty_weight", "cmsc_weight", "feature_grad_mult"):
            if getattr(self, key) < 0:
                raise RecipeError(f"{key} must not be negative", key)
        rates = ("dropout", "attention_dropout", "activation_dropout", "input_dropout", "feature_dropout")
        check_rates(self, *rates, "betas")
        if self.stages and sum(epochs for epochs, _ in self.stages) != self.epochs:
            sentence = f"stages have {sum(epochs for epochs, _ in self.stages)} epochs together, not {self.epochs}"
            raise RecipeError(sentence, "stages", "epochs")
        if any(epochs < 1 or rate <= 0 for epochs, rate in self.stages):
            raise RecipeError("a stage needs at least one epoch and a positive rate", "stages")

    def learning_rates(self, steps_per_epoch: int) -> "NDArray":
        """Learning rate of every step (steps,)."""
        import numpy as np

        if not self.stages:
            return super().learning_rates(steps_per_epoch)
        epochs, rates = zip(*self.stages, strict=True)
        return np.repeat(rates, np.multiply(epochs, steps_per_epoch))

    @property
    def group(self) -> int:
        """Segments that go through the network together."""
        return 2 * self.pairs

    @property
    def fixed_group(self) -> int | None:
        """Examples of a group that is the same in every epoch, if groups are."""
        return self.group if self.partners == "fixed" else None

    @property
    def dropouts(self) -> Dropouts:
        """Rates of dropout inside the transformer."""
        return Dropouts(self.dropout, self.attention_dropout, self.activation_dropout)
