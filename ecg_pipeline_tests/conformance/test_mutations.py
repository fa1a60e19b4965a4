"""The suite bites: each small mistake in the code under test, planted here, makes the check of its kind fail."""

import inspect
import textwrap
from functools import partial
from types import FunctionType

import pytest
from torch import nn
from torch.nn.functional import avg_pool1d, avg_pool2d, relu

from ecg_pipeline.metrics import discrimination as metrics
from ecg_pipeline.models.ecgfounder import network as net1d
from ecg_pipeline.models.ecgfounder.recipes import EcgFounderRecipe
from ecg_pipeline.models.heartbeit import beit, branches, masking, relative_position
from ecg_pipeline.signals import windows
from ecg_pipeline.signals.window_filters import NotchBandPassMedian
from ecg_pipeline.tokens import dalle_networks, pixels
from ecg_pipeline.training import schedules
from ecg_pipeline_tests.conformance.fixtures import Fixture
from ecg_pipeline_tests.conformance.kinds import check
from ecg_pipeline_tests.conformance.released import customised_vae, dalle_decoder, splits, views


def rewritten(function: FunctionType, right: str, wrong: str, patch: pytest.MonkeyPatch) -> None:
    """Replace a piece of a function's source, wherever the function has been imported to."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(right) == 1, f"`{right}` does not occur once in {function.__qualname__}"
    made: dict[str, FunctionType] = {}
    exec(source.replace(right, wrong), function.__globals__, made)
    patch.setattr(function, "__code__", made[function.__name__].__code__)


def rebuilt(change, patch: pytest.MonkeyPatch) -> None:
    """Change every BEiT after it has been built."""
    build = beit._beit

    def changed(*arguments, **options):
        network = build(*arguments, **options)
        for module in network.modules():
            change(module)
        return network

    patch.setattr(beit, "_beit", changed)


def is_index(module):
    return hasattr(module, relative_position.INDEX) and module.relative_position_index is not None


def looser_layer_norm(module):
    if isinstance(module, nn.LayerNorm):
        module.eps = 1e-5


def transposed_index(module):
    if is_index(module):
        module.relative_position_index = module.relative_position_index.T.contiguous()


def swapped_class_rows(module):
    if is_index(module):
        index = module.relative_position_index.clone()
        index[0, 1:], index[1:, 0] = module.relative_position_index[1:, 0], module.relative_position_index[0, 1:]
        module.relative_position_index = index


def approximate_gelu(module):
    if hasattr(module, "fc1"):
        module.act = nn.GELU(approximate="tanh")


def forgotten_query_bias(module):
    def forget(attention, inputs):
        attention.q_bias.data.zero_()

    if hasattr(module, "q_bias"):
        module.register_forward_pre_hook(forget)


def rebuilt_net1d(change, patch: pytest.MonkeyPatch) -> None:
    """Change every Net1D after it has been built."""
    build = net1d.Net1D.__init__

    def changed(network, *arguments, **options):
        build(network, *arguments, **options)
        for module in list(network.modules()):
            change(module)

    patch.setattr(net1d.Net1D, "__init__", changed)


def looser_batch_norm(module):
    if isinstance(module, nn.BatchNorm1d):
        module.eps = 1e-3


def slower_batch_norm(module):
    if isinstance(module, nn.BatchNorm1d):
        module.momentum = 0.01


def trained_norms(module):
    module.requires_grad_(True)


def narrower_gate(module):
    if isinstance(module, net1d.Block):
        width = module.se_fc1.in_features
        module.se_fc1, module.se_fc2 = nn.Linear(width, width // 4), nn.Linear(width // 4, width)


def groups_of_the_input(patch: pytest.MonkeyPatch) -> None:
    """A middle convolution has the groups of the stage before it."""
    build = net1d.Block.__init__

    def changed(block, recipe, channels, width, **options):
        build(block, recipe, channels, width, **options)
        middle, groups = recipe.middle(width), max(1, recipe.groups(channels))
        stride = options.get("stride", 1)
        if middle % groups == 0:
            block.conv2 = net1d.SameConv(middle, middle, kernel=recipe.kernel, stride=stride, groups=groups)

    patch.setattr(net1d.Block, "__init__", changed)


NETWORK = [looser_layer_norm, transposed_index, swapped_class_rows, approximate_gelu]

MISTAKES = {
    **{f"{change.__name__}/beit_pretrain": partial(rebuilt, change) for change in NETWORK},
    **{f"{change.__name__}/beit_finetune_same": partial(rebuilt, change) for change in NETWORK},
    "forgotten_query_bias/beit_finetune_same": partial(rebuilt, forgotten_query_bias),
    "mask_token_zeroed/beit_pretrain": partial(
        rewritten, beit.MaskedImageModel._embed, "self.mask_token.to(x.dtype)", "0 * self.mask_token"
    ),
    "forgotten_query_bias/beit_pretrain": partial(rewritten, branches._heads, "attention.q_bias", "attention.k_bias"),
    "class_slot_kept/beit_pretrain": partial(rewritten, branches.masked_attention, "[:, 1:]", "[:, :-1]"),
    "class_slot_asks/beit_pretrain": partial(rewritten, branches.masked_attention, "1 + (", "0 + ("),
    "unsorted_patches/beit_pretrain": partial(rewritten, branches.masked_attention, "(~mask)", "mask"),
    "trained_norm_kept/beit_finetune_same": partial(rewritten, beit.from_pretraining, '"norm.", ', ""),
    "linear_resizing/beit_finetune_interp": partial(
        rewritten, relative_position.resize_table, "kx=3, ky=3", "kx=1, ky=1"
    ),
    "even_offsets/relpos_resize": partial(rewritten, relative_position._geometric_offsets, "> reach", "> 0"),
    "wider_truncation/init_stats": partial(rewritten, beit.masked_image_model, "bound=INITIAL_STD", "bound=2.0"),
    "depth_not_rescaled/init_stats": partial(rewritten, beit._rescale_by_depth, "block + 1", "1"),
    "tables_exempt/param_groups": partial(rewritten, schedules.decay_groups, '"cls_token"', '"cls_token", "table"'),
    "mask_token_exempt/param_groups": partial(rewritten, schedules.decay_groups, '"cls_token"', '"token"'),
    "block_spans_the_side/masking": partial(rewritten, masking._place_block, "height >= rows", "height > rows"),
    "block_spans_the_side/masking_exact": partial(rewritten, masking._place_block, "height >= rows", "height > rows"),
    "block_of_any_budget/masking": partial(rewritten, masking._place_block, "<= budget", "<= mask.size"),
    "one_more_number_an_attempt/masking_exact": partial(
        rewritten, masking._place_block, "area = ", "random.random(); area = "
    ),
    "peak_only_once/schedules": partial(
        rewritten,
        schedules.warmup_cosine,
        "warmup_epochs * steps_per_epoch)",
        "warmup_epochs * steps_per_epoch, False)",
    ),
    "final_rate_reached/schedules": partial(rewritten, schedules.warmup_cosine, "max(1, left))", "max(1, left - 1))"),
    "momentum_not_cycled/schedules": partial(
        rewritten, schedules.one_cycle, "epochs=epochs", "cycle_momentum=False, epochs=epochs"
    ),
    "mean_pooling/dalle_encoder": lambda patch: patch.setattr(dalle_networks, "max_pool2d", avg_pool2d),
    "pooled_before_the_group/dalle_encoder": partial(
        rewritten, dalle_networks._group, "nn.Sequential()", "nn.Sequential(*[last] if last else []); last = None"
    ),
    "residual_not_scaled/dalle_decoder": partial(rewritten, dalle_networks.Block.forward, "self.scale * ", ""),
    "smooth_doubling/dalle_decoder": partial(rewritten, dalle_decoder._Double.forward, '"nearest"', '"bilinear"'),
    "unmapped_beyond_range/dalle_pixels": partial(rewritten, views.unmap_pixels, ".clamp(0, 1)", ""),
    "divergence_averaged/discrete_vae": partial(rewritten, customised_vae.official_loss, ".sum()", ".mean()"),
    "bilinear_patches/views": partial(rewritten, views.patch_view, "BICUBIC", "BILINEAR"),
    "bicubic_tokens/views": partial(rewritten, pixels.token_view, "LANCZOS", "BICUBIC"),
    "ecgs_split_not_patients/protocol": partial(
        rewritten, splits.official_splits, "groups=patients", "groups=range(len(internal))"
    ),
    "fraction_not_stratified/protocol": partial(rewritten, splits.official_fraction, "stratify=labels, ", ""),
    "curve_from_precision_0/protocol": partial(rewritten, metrics.precision_recall_curve, "np.r_[1,", "np.r_[0,"),
    **{
        f"{change.__name__}/net1d_12lead": partial(rebuilt_net1d, change)
        for change in (looser_batch_norm, slower_batch_norm, trained_norms, narrower_gate)
    },
    "groups_of_the_input/net1d_12lead": groups_of_the_input,
    "groups_of_the_middle/net1d_1lead": partial(
        rewritten, EcgFounderRecipe.groups, "width //", "self.middle(width) //"
    ),
    "extra_zero_on_the_left/net1d_12lead": partial(rewritten, net1d.SameConv.forward, "(1, 0)", "(0, 1)"),
    "pooling_with_infinity/net1d_12lead": partial(
        rewritten, net1d.halve, "- 1 - left))", "- 1 - left), value=-float('inf'))"
    ),
    "pooling_zeros_on_the_right/net1d_1lead": partial(rewritten, net1d.halve, "left = (stride - 1) // 2", "left = 0"),
    "mean_pooling/net1d_12lead": lambda patch: patch.setattr(net1d, "max_pool1d", avg_pool1d),
    "activation_before_the_first_convolution/net1d_12lead": partial(
        rewritten, net1d.Block.forward, "x if self.is_first else ", ""
    ),
    "activation_after_the_sum/net1d_12lead": partial(
        rewritten,
        net1d.Block.forward,
        "torch.addcmul(shortcut, y, gate[:, :, None])",
        "silu(torch.addcmul(shortcut, y, gate[:, :, None]))",
    ),
    "batch_norm_though_unused/net1d_12lead": partial(
        rewritten, net1d.Block._activate, "norm(x) if self.use_bn else x", "norm(x)"
    ),
    "batch_norm_after_the_activation/net1d_12lead": partial(
        rewritten,
        net1d.Block._activate,
        "silu(norm(x) if self.use_bn else x)",
        "norm(silu(x)) if self.use_bn else silu(x)",
    ),
    "stem_norm_forgotten/net1d_12lead": partial(
        rewritten, net1d.Net1D.features, "self.first_bn(x) if self.use_bn else x", "x"
    ),
    "rectified/net1d_12lead": lambda patch: patch.setattr(net1d, "silu", relu),
    "gate_of_the_maximum/net1d_12lead": partial(rewritten, net1d.Block.forward, "y.mean(dim=-1)", "y.amax(dim=-1)"),
    "channels_added_at_the_end/net1d_12lead": partial(
        rewritten, net1d.Block.forward, "self.before, self.after)", "0, self.before + self.after)"
    ),
    "maximum_over_time/net1d_fullsize": partial(rewritten, net1d.Net1D.features, "x.mean(dim=-1)", "x.amax(dim=-1)"),
    "batch_norm_though_unused/net1d_fullsize": partial(
        rewritten, net1d.Block._activate, "norm(x) if self.use_bn else x", "norm(x)"
    ),
    "sample_deviation/ecgfounder_preproc": partial(
        rewritten, windows._standardise, "return out", "return out * (1 - 1 / rows[1]) ** 0.5"
    ),
    "leads_standardised_alone/ecgfounder_preproc": partial(
        rewritten, windows._standardise, 'recipe.standardise == "lead"', "True"
    ),
    "order_2/ecgfounder_preproc": partial(rewritten, NotchBandPassMedian.resampled, "self.order", "2"),
    "shorter_median/ecgfounder_preproc": partial(
        rewritten, NotchBandPassMedian.resampled, "self.median_s", "0.9 * self.median_s"
    ),
    "no_notch/ecgfounder_preproc": partial(
        rewritten,
        NotchBandPassMedian.resampled,
        "_notch(self.notch_hz, self.notch_q, sampling_hz), ",
        "",
    ),
}
"""By what is wrong and the kind that must notice it."""


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_noticed(mistake, other_shapes, monkeypatch):
    kind = mistake.split("/")[1]
    fixture = next(fixture for fixture in other_shapes if fixture.kind == kind)
    check(fixture)
    MISTAKES[mistake](monkeypatch)
    with pytest.raises(AssertionError):
        check(fixture)


def test_an_unknown_kind_is_a_failure(tmp_path):
    with pytest.raises(AssertionError, match="heartbeit has no kind beit_novel"):
        check(Fixture(tmp_path / "heartbeit" / "beit_novel"))
