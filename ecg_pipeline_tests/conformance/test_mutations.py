"""The suite bites: each small mistake in the code under test, planted here, makes the check of its kind fail."""

import inspect
import textwrap
from functools import partial
from types import FunctionType

import pytest
from torch import nn
from torch.nn.functional import avg_pool2d

from ecg_pipeline.metrics import discrimination as metrics
from ecg_pipeline.models.heartbeit import beit, branches, masking, relative_position
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
