"""Our pretraining step against the straightforward one: transformers' BEiT, with DALL-E's encoder in every step."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.images.views import token_view
from ecg_pipeline.models.beit import MEAN, STD, MaskedImageModel, draw_drop_path_scale, masked_image_model
from ecg_pipeline.models.family import normalised
from ecg_pipeline.models.recipes import BeitRecipe
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, DalleShape
from ecg_pipeline.tokens.pixels import map_pixels
from ecg_pipeline.training.loop import clip_and_step
from ecg_pipeline.training.masking import draw_masks
from ecg_pipeline.training.pretrain import MicroBatch, backward
from ecg_pipeline.training.recipes import MaskRecipe
from ecg_pipeline.training.schedules import decay_groups

VOCABULARY = 8192
BATCH = 16
CLIP = 3.0


def pretrain() -> list[Row]:
    """Images a second of a whole step (forward, backward, clipping, AdamW) at base size, on the same weights and batch.

    Both drop paths at 0.1 and take the same masks. Theirs computes the tokens of its batch with DALL-E's encoder, as
    the official loop does; ours finds them in its batch, because they were computed once.
    """
    recipe = BeitRecipe()
    rng = np.random.default_rng(0)
    sheets = torch.from_numpy(rng.integers(0, 256, (BATCH, 224, 224), np.uint8))
    masks = draw_masks(0, 0, range(BATCH), recipe.grid, recipe.grid, MaskRecipe())
    mask = torch.from_numpy(masks)
    torch.manual_seed(0)
    encoder = DalleEncoder(DalleShape()).eval()
    tokens = _name(encoder, sheets)
    ours, theirs = masked_image_model(recipe, VOCABULARY, 0).train(), _transformers_model(recipe).train()
    theirs.load_state_dict(dict(_renamed(ours)))
    _check_equal(ours, theirs, sheets, mask)
    ours_optimiser = torch.optim.AdamW(decay_groups(ours, 0.05), lr=1e-5, fused=True)
    theirs_optimiser = torch.optim.AdamW(decay_groups(theirs, 0.05), lr=1e-5)
    generator = torch.Generator().manual_seed(0)

    def our_step() -> None:
        micro_batch = MicroBatch(sheets, tokens, mask, draw_drop_path_scale(recipe, BATCH, generator))
        ours_optimiser.zero_grad(set_to_none=True)
        loss, *_ = backward(ours, micro_batch, 1 / int(mask.sum()), background=0).tolist()
        clip_and_step(ours, loss, ours_optimiser, CLIP, step=0)

    def their_step() -> None:
        target = _name(encoder, sheets)[mask]
        theirs_optimiser.zero_grad(set_to_none=True)
        theirs(pixel_values=_images(sheets), bool_masked_pos=mask, labels=target).loss.backward()
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), CLIP)
        theirs_optimiser.step()

    return [
        compare(
            "pretrain",
            "transformers' BeitForMaskedImageModeling with DALL-E's encoder in every step",
            our_step,
            their_step,
            target=2.0,
            unit=f"times the images a second, base size, batch {BATCH}, {torch.get_num_threads()} threads",
        )
    ]


def _transformers_model(recipe: BeitRecipe) -> nn.Module:
    from transformers import BeitConfig, BeitForMaskedImageModeling

    return BeitForMaskedImageModeling(
        BeitConfig(
            vocab_size=VOCABULARY,
            hidden_size=recipe.width,
            num_hidden_layers=recipe.depth,
            num_attention_heads=recipe.heads,
            intermediate_size=int(recipe.width * recipe.mlp_ratio),
            image_size=recipe.image_px,
            patch_size=recipe.patch_px,
            drop_path_rate=recipe.drop_path,
            layer_scale_init_value=recipe.layer_scale,
            layer_norm_eps=1e-6,
            use_mask_token=True,
            use_shared_relative_position_bias=True,
        )
    )


def _renamed(model: MaskedImageModel) -> Iterator[tuple[str, Tensor]]:
    """Our weights under transformers' names, its queries, keys and values apart."""
    names = {
        "cls_token": "beit.embeddings.cls_token",
        "mask_token": "beit.embeddings.mask_token",
        "patch_embed.proj": "beit.embeddings.patch_embeddings.projection",
        "rel_pos_bias": "beit.shared_position_bias",
        "blocks": "beit.layers",
        "gamma_": "lambda_",
        "norm1": "layernorm_before",
        "norm2": "layernorm_after",
        "attn.proj": "attention.o_proj",
        "attn.q_bias": "attention.q_proj.bias",
        "attn.v_bias": "attention.v_proj.bias",
    }
    for name, tensor in model.official_state().items():
        if name.endswith("attn.qkv.weight"):
            layer = name.removesuffix("attn.qkv.weight").replace("blocks", "beit.layers")
            for part, rows in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{layer}attention.{part}_proj.weight", rows
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        yield f"layernorm.{name.removeprefix('norm.')}" if name.startswith("norm.") else name, tensor


def _check_equal(ours: MaskedImageModel, theirs: nn.Module, sheets: Tensor, mask: Tensor) -> None:
    """Check that both models compute the same, so that the comparison is fair. ValueError if not."""
    with torch.no_grad():
        logits = ours.eval()(_images(sheets), mask)
        others = theirs.eval()(pixel_values=_images(sheets), bool_masked_pos=mask).logits[mask]
    if not torch.allclose(logits, others, atol=1e-4):
        raise ValueError(f"the two models differ by {(logits - others).abs().max():.2g}")
    ours.train()
    theirs.train()


def _images(sheets: Tensor) -> Tensor:
    return normalised(sheets, *(torch.tensor(value)[:, None, None] for value in (MEAN, STD)))


def _name(encoder: DalleEncoder, sheets: Tensor) -> Tensor:
    """(B, P): DALL-E's token of every patch."""
    grey = torch.from_numpy(token_view(sheets.numpy()))[:, None]
    with torch.inference_mode():
        logits = encoder(map_pixels(grey.expand(-1, 3, -1, -1)))
    return logits.argmax(dim=1).flatten(1).clone()
