"""Our pretraining step, compared with transformers' BEiT and DALL-E's encoder in every step."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.bench.steps import our_step, their_step
from ecg_pipeline.models.heartbeit.beit import (
    MEAN,
    STD,
    MaskedImageModel,
    masked_image_model,
    sample_drop_path_scale,
)
from ecg_pipeline.models.heartbeit.masking import sample_masks
from ecg_pipeline.models.heartbeit.objective import MaskedImageObjective, MaskedImages
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe, MaskRecipe
from ecg_pipeline.models.normalisation import normalise
from ecg_pipeline.tokens.dalle_networks import DalleEncoder, DalleShape
from ecg_pipeline.tokens.pixels import map_pixels, token_view
from ecg_pipeline.training.schedules import decay_groups

VOCABULARY = 8192
BATCH = 16
CLIP = 3.0


def pretrain() -> list[Row]:
    """Images per second of a whole step (forward, backward, clipping, AdamW) at base size.

    Both have the same weights, batch, masks and stochastic depth (0.1). Theirs encodes the tokens of the batch with
    DALL-E's encoder in every step, as the official loop does; ours reads them, because they were encoded once.
    """
    recipe = HeartBeitRecipe()
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (BATCH, 224, 224), np.uint8))
    masks = sample_masks(MaskRecipe(), range(BATCH), seed=0, step=0, rows=recipe.grid, columns=recipe.grid)
    mask = torch.from_numpy(masks)
    torch.manual_seed(0)
    encoder = DalleEncoder(DalleShape()).eval()
    tokens = _encode(encoder, images)
    ours = masked_image_model(recipe, vocabulary=VOCABULARY, seed=0).train()
    theirs = _transformers_model(recipe).train()
    theirs.load_state_dict(dict(_renamed(ours)))
    _check_equal(ours, theirs, images=images, mask=mask)
    objective = MaskedImageObjective(
        network=ours, recipe=recipe, mask=MaskRecipe(), vocabulary=VOCABULARY, background=0, seed=0
    )
    ours_optimiser = torch.optim.AdamW(decay_groups(ours, 0.05), lr=1e-5, fused=True)
    theirs_optimiser = torch.optim.AdamW(decay_groups(theirs, 0.05), lr=1e-5)
    generator = torch.Generator().manual_seed(0)

    def our_batch() -> MaskedImages:
        scale = sample_drop_path_scale(recipe, BATCH, generator)
        return MaskedImages(images=images, tokens=tokens, mask=mask, drop_path_scale=scale)

    def their_loss() -> Tensor:
        target = _encode(encoder, images)[mask]
        return theirs(pixel_values=_normalise(images), bool_masked_pos=mask, labels=target).loss

    return [
        compare(
            "pretrain",
            against="transformers' BeitForMaskedImageModeling with DALL-E's encoder in every step",
            ours=our_step(objective, our_batch, ours_optimiser, count=int(mask.sum()), clip=CLIP),
            theirs=their_step(theirs, their_loss, theirs_optimiser, clip=CLIP),
            target=2.0,
            unit=f"times the images a second, base size, batch {BATCH}, {torch.get_num_threads()} threads",
        )
    ]


def _transformers_model(recipe: HeartBeitRecipe) -> nn.Module:
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
    """Our weights under transformers' names, with separate queries, keys and values."""
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
            for projection, rows in zip("qkv", tensor.chunk(3), strict=True):
                yield f"{layer}attention.{projection}_proj.weight", rows
            continue
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        yield f"layernorm.{name.removeprefix('norm.')}" if name.startswith("norm.") else name, tensor


def _check_equal(ours: MaskedImageModel, theirs: nn.Module, *, images: Tensor, mask: Tensor) -> None:
    """Raise a ValueError unless both models give the same logits."""
    with torch.no_grad():
        pixels = _normalise(images)
        logits = ours.eval()(pixels, mask)
        others = theirs.eval()(pixel_values=pixels, bool_masked_pos=mask).logits[mask]
    if not torch.allclose(logits, others, atol=1e-4):
        raise ValueError(f"the two models differ by {(logits - others).abs().max():.2g}")
    ours.train()
    theirs.train()


def _normalise(images: Tensor) -> Tensor:
    return normalise(images, mean=MEAN, std=STD)


def _encode(encoder: DalleEncoder, images: Tensor) -> Tensor:
    """DALL-E's token of every patch: (B, H, W) uint8 -> (B, P)."""
    grey = torch.from_numpy(token_view(images.numpy()))[:, None]
    with torch.inference_mode():
        logits = encoder(map_pixels(grey.expand(-1, 3, -1, -1)))
    return logits.argmax(dim=1).flatten(1).clone()
