"""D-BETA's sections of a study file: the network, and its pretraining."""

from dataclasses import dataclass
from math import sqrt
from typing import Literal

from ecg_pipeline.ecg import LEADS, RecipeError, check_positive, check_rates
from ecg_pipeline.models.family import windows
from ecg_pipeline.models.t5_shape import Activation, T5Shape
from ecg_pipeline.models.wav2vec2_shape import Dropouts, Wav2Vec2Shape
from ecg_pipeline.training.recipes import PretrainRecipe

TEXTS = "text_tokens"
"""The target: (2 + L,) int32 an ECG that has a text: the text's id, the number of its tokens, and the tokens, padded.
Equal ids are equal texts. Attributes: see `objective.Words`."""

TOKENIZER, NEGATIVES = "text_tokenizer", "text_negatives"
"""What is fitted for the target."""

MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the leads in MIMIC-IV-ECG."""

BERT_STD, BERT_WIDTH = 0.02, 768
"""Deviation of BERT's first weights, and the width that it is for."""

POSITIONS = 512
"""Greatest number of ECG tokens whose positions the decoder knows, the class token among them."""


@dataclass(frozen=True)
class DBetaRecipe:
    """The network; the defaults are D-BETA's size (Pham et al. 2025; 63.2 M parameters in its ECG encoder).

    window: name of the study's waveform windows that it reads: twelve leads in the order of LEADS in millivolts, not
    standardised, of 10 s at 500 Hz. leads: the order in which the network reads them. Which one the authors' weights
    were trained with is not known: `mimic` is that of MIMIC-IV-ECG, with aVF before aVL.
    conv_widths, conv_kernels, conv_strides: channels and samples of each convolution. position_kernel, position_groups:
    of the convolution over tokens. pre_norm: layer norms begin the residual branches of the ECG encoder.
    text_*: sizes of the text encoder, a T5, see `t5_shape.T5Shape`. text_padding: the released code lets all tokens of
    a text attend to padding, so that its vector depends on the longest text beside it (`attended`).
    joint_width, joint_heads, joint_depth: of the layers in which ECG and text attend to each other. reconstruct_after:
    how many of these layers come before the states from which the ECG is reconstructed; None is all.
    decoder_width, decoder_heads, decoder_depth: of the decoder that reconstructs the ECG.
    dropout: in fine-tuning; pretraining has its own.
    """

    family: Literal["d_beta"] = "d_beta"
    window: str = "windows"
    leads: Literal["standard", "mimic"] = "standard"
    conv_widths: tuple[int, ...] = (256, 256, 256, 256)
    conv_kernels: tuple[int, ...] = (2, 2, 2, 2)
    conv_strides: tuple[int, ...] = (2, 2, 2, 2)
    conv_bias: bool = False
    width: int = 768
    depth: int = 8
    heads: int = 12
    mlp_width: int = 3072
    position_kernel: int = 128
    position_groups: int = 16
    pre_norm: bool = False
    text_width: int = 768
    text_depth: int = 12
    text_heads: int = 12
    text_head_width: int = 64
    text_mlp_width: int = 2048
    text_activation: Activation = "gated-gelu"
    text_padding: Literal["masked", "attended"] = "masked"
    joint_width: int = 768
    joint_heads: int = 12
    joint_depth: int = 6
    reconstruct_after: int | None = 3
    decoder_width: int = 384
    decoder_heads: int = 6
    decoder_depth: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        self.ecg_shape.check()
        check_positive(self, "text_width", "text_depth", "text_heads", "text_head_width", "text_mlp_width")
        check_positive(self, "joint_depth", "decoder_depth")
        for part in ("joint", "decoder"):
            width, heads = f"{part}_width", f"{part}_heads"
            check_positive(self, width, heads)
            if getattr(self, width) % getattr(self, heads):
                sentence = f"{width} {getattr(self, width)} does not divide into {getattr(self, heads)} heads"
                raise RecipeError(sentence, heads, width)
        if self.reconstruct_after is not None and not 0 <= self.reconstruct_after <= self.joint_depth:
            sentence = f"reconstruct_after must lie between 0 and the {self.joint_depth} layers of joint_depth"
            raise RecipeError(sentence, "reconstruct_after", "joint_depth")
        if self.decoder_width % 2:
            raise RecipeError("decoder_width must be even: its positions are sines and cosines", "decoder_width")
        check_rates(self, "dropout")

    @property
    def view(self) -> str:
        """The view that the network reads."""
        return windows(self.window)

    @property
    def description(self) -> str:
        """The network in words."""
        return f"D-BETA, {self.depth} layers of width {self.width} for the ECG, {self.text_depth} for the text"

    @property
    def rows(self) -> tuple[int, ...] | None:
        """Rows of a window in the order that the network reads; None if it is that of the window."""
        return None if self.leads == "standard" else tuple(LEADS.index(lead) for lead in MIMIC_LEADS)

    @property
    def initial_std(self) -> float:
        """Deviation of the first weights of the layers that join ECG and text, 0.02 at the authors' width.

        With 0.02 at small widths all texts get nearly one vector, and neither contrast nor matching learns anything.
        """
        return BERT_STD * sqrt(BERT_WIDTH / self.joint_width)

    @property
    def ecg_shape(self) -> Wav2Vec2Shape:
        """Sizes of the ECG encoder."""
        return Wav2Vec2Shape(
            leads=len(LEADS),
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
    def text_shape(self) -> T5Shape:
        """Sizes of the text encoder."""
        return T5Shape(
            width=self.text_width,
            depth=self.text_depth,
            heads=self.text_heads,
            head_width=self.text_head_width,
            mlp_width=self.text_mlp_width,
            activation=self.text_activation,
        )

    @property
    def samples_per_token(self) -> int:
        """Samples of each lead that an ECG token stands for in the reconstruction."""
        return self.ecg_shape.samples_per_frame


@dataclass(frozen=True)
class DBetaPretraining(PretrainRecipe):
    """Masked modelling of ECG and text, matching of the two, and a contrast of their vectors (ETS), all from one pass.

    Neither training script nor hyperparameters are released. Batch, rate, weight decay and the probabilities below are
    those that readers quote from the paper; the schedule and its length (about 300,000 steps on MIMIC-IV-ECG) are ours.

    group: ECGs that go through the network together and whose texts are each other's negatives; a batch is divided into
    such groups, and its loss is their mean. ecg_mask: share of the ECG tokens that are removed. text_mask: probability
    that a token of a text is to be predicted; of these 80 % are shown as the mask token, 10 % as a random token, and
    10 % as they are. lead_mask: probability that a lead is set to 0. replaced: share of a group's texts that are
    replaced by one of the least similar texts, which are not the ECG's.
    equal_reports: two ECGs of a group may have the same text. Then each one's text is a negative of the other, as in
    the released code, or the pair counts nothing (`ignored`).
    standardised_target: each lead of the ECG to be reconstructed is standardised. dropout: of all parts.
    betas, eps: of Adam. weight_decay is of all parameters.

    Texts are replaced before they are masked. In the released code the replaced texts never reach the network, though
    they count as such.
    """

    epochs: int = 50
    batch: int = 128
    learning_rate: float = 5e-5
    final_learning_rate: float = 2.5e-6
    warmup_epochs: int = 5
    weight_decay: float = 0.01
    clip: float | None = 1.0
    group: int = 128
    ecg_mask: float = 0.75
    text_mask: float = 0.25
    lead_mask: float = 0.5
    replaced: float = 0.5
    equal_reports: Literal["negative", "ignored"] = "negative"
    standardised_target: bool = True
    dropout: float = 0.1
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self, "eps")
        if self.group < 2:
            raise RecipeError("a group needs at least two ECGs", "group")
        for key in ("text_mask", "lead_mask", "replaced"):
            if not 0 <= getattr(self, key) <= 1:
                raise RecipeError(f"{key} must lie in [0, 1]", key)
        check_rates(self, "ecg_mask", "dropout", "betas")

    def tokens_kept(self, tokens: int) -> int:
        """How many of an ECG's tokens are not removed."""
        return int(tokens * (1 - self.ecg_mask))


def dropouts(rate: float) -> Dropouts:
    """The ECG encoder's dropout: everywhere but inside the MLP."""
    return Dropouts(residual=rate, attention=rate)
