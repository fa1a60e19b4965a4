"""HeartBEiT: BEiT for masked image modelling, and the same network as a classifier (paper: Pre-training, Fine-tuning).

The blocks are timm's `Beit`, which reproduces the official ones; masking, initialisation and checkpoint loading follow
the official code, from which timm differs.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from functools import partial
from math import sqrt
from pathlib import Path

import torch
from timm.models.beit import Beit, Block, gen_relative_position_index
from torch import Tensor, nn

from ecg_pipeline.models.heartbeit.branches import add_attention, add_mlp, masked_attention
from ecg_pipeline.models.heartbeit.recipes import HeartBeitRecipe
from ecg_pipeline.models.heartbeit.relative_position import INDEX, TABLE, expand_shared_table, grid_of, resize_table
from ecg_pipeline.models.initialisation import seeded
from ecg_pipeline.storage.files import write_atomically
from ecg_pipeline.training.checkpoints import Checkpoint
from ecg_pipeline.training.weights import check_fit, load_exactly, read_weights, save_checkpoint

SHARED_TABLE = f"rel_pos_bias.{TABLE}"
LAYER_NORM_EPS = 1e-6
INITIAL_STD = 0.02
HEAD_SCALE = 0.001
MEAN = STD = (0.5, 0.5, 0.5)
"""Normalisation of BEiT's images, to [-1, 1]."""


class MaskedImageModel(nn.Module):
    """BEiT for masked image modelling: predicts the tokens of masked patches."""

    def __init__(self, recipe: HeartBeitRecipe, vocabulary: int):
        super().__init__()
        self.beit = _beit(Beit, recipe, classes=vocabulary, global_pool="", use_shared_rel_pos_bias=True)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, recipe.width))

    def features(self, images: Tensor, mask: Tensor) -> Tensor:
        """images (B, 3, H, W) normalised, mask (B, P) bool -> (B, P + 1, D) after the final norm, class token first."""
        x, bias = self._embed(images, mask)
        for block in self._blocks:
            x = add_mlp(block, add_attention(block, x, bias=bias))
        return self.beit.norm(x)

    def forward(self, images: Tensor, mask: Tensor, drop_path_scale: Tensor | None = None) -> Tensor:
        """images (B, 3, H, W) normalised, mask (B, P) bool -> logits (masked patches, V), in row-major order.

        Equal to the head applied to the masked patches of `features`, but the last block is computed there only.
        drop_path_scale: (blocks, 2, B), see `sample_drop_path_scale`; None is no stochastic depth.
        """
        x, bias = self._embed(images, mask)
        *others, last = zip(
            self._blocks,
            [(None, None)] * len(self._blocks) if drop_path_scale is None else drop_path_scale,
            strict=True,
        )
        for block, (attention, mlp) in others:
            x = add_mlp(block, add_attention(block, x, bias=bias, drop_path_scale=attention), drop_path_scale=mlp)
        block, (attention, mlp) = last
        x = masked_attention(block, x, bias=bias, mask=mask, drop_path_scale=attention)  # (masked patches, D)
        mlp_of_patch = None if mlp is None else mlp.repeat_interleave(mask.sum(dim=1).to(mlp.device))
        x = add_mlp(block, x, drop_path_scale=mlp_of_patch)
        return self.beit.head(self.beit.norm(x))

    @property
    def _blocks(self) -> list[Block]:
        return list(self.beit.blocks)  # type: ignore[arg-type]

    def _embed(self, images: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The first block's input (B, P + 1, D), and the bias of every block's attention (heads, P + 1, P + 1)."""
        beit = self.beit
        x = beit.patch_embed(images)  # (B, P, D)
        x = torch.where(mask[..., None], self.mask_token.to(x.dtype), x)
        x = torch.cat([beit.cls_token.expand(len(x), -1, -1), x], dim=1)
        return x, beit.rel_pos_bias()  # type: ignore[misc]

    def official_state(self) -> dict[str, Tensor]:
        """Weights under the names of BEiT's authors."""
        state = {name.replace("head.", "lm_head."): tensor for name, tensor in self.beit.state_dict().items()}
        return {"mask_token": self.mask_token.data, **state}

    def load_official_state(self, state: Mapping[str, Tensor]) -> None:
        """Load weights under their official names. Keys that are missing, unexpected or of another shape, and a
        relative position index that is not this model's, are a ValueError.
        """
        name = f"rel_pos_bias.{INDEX}"
        index = self.beit.get_buffer(name)
        check_fit({**self.official_state(), name: index}, state=state, fresh=[name])
        if name in state and not torch.equal(state[name].to(index), index):
            raise ValueError(f"the checkpoint does not fit the model: {name} numbers positions in another order")
        given = {key: tensor for key, tensor in state.items() if key != name}
        mask_token = given.pop("mask_token")
        self.beit.load_state_dict({name.replace("lm_head.", "head."): tensor for name, tensor in given.items()})
        self.mask_token.data.copy_(mask_token)


class _ClassifierNetwork(Beit):
    """timm's BEiT, without fused attention on CPUs: the fused kernel has no gradient of the position bias there, and
    PyTorch's fallback is slower."""

    def forward_features(self, x: Tensor) -> Tensor:
        """images (B, 3, H, W) normalised -> tokens (B, P + 1, D), class token first."""
        for block in self.blocks:
            block.attn.fused_attn = x.device.type != "cpu"  # type: ignore[union-attr]
        return super().forward_features(x)


def sample_drop_path_scale(recipe: HeartBeitRecipe, images: int, generator: torch.Generator) -> Tensor | None:
    """Stochastic depth of a batch: (blocks, 2, images), 0 where a branch is dropped, else 1 / P(kept); None at rate 0.

    The rate rises linearly from 0 at the first block to `recipe.drop_path` at the last. Sampled outside the network, so
    that an image's factors do not depend on how a batch is divided into micro-batches and processes.
    """
    if not recipe.drop_path:
        return None
    keep = 1 - torch.linspace(0, recipe.drop_path, recipe.depth)[:, None, None]
    return (torch.rand(recipe.depth, 2, images, generator=generator) < keep) / keep


def import_pretraining(weights: Path, recipe: HeartBeitRecipe, out: Path) -> Checkpoint:
    """Import a pretraining checkpoint of BEiT's or HeartBEiT's own scripts, to fine-tune from.

    The file's image size may differ from the recipe's: the new config holds the file's, and fine-tuning resizes the
    relative position table. Any other mismatch with the recipe is a ValueError that lists the keys.
    """
    state = read_weights(weights)
    if "lm_head.weight" not in state:
        raise ValueError(f"{weights.name} has no `lm_head.weight`: it is not a checkpoint of masked image modelling")
    if SHARED_TABLE in state:
        recipe = replace(recipe, image_px=grid_of(state[SHARED_TABLE]) * recipe.patch_px)
    vocabulary = len(state["lm_head.weight"])
    model = MaskedImageModel(recipe, vocabulary)
    model.load_official_state(state)
    config = {
        "model": asdict(recipe),
        "vocabulary": vocabulary,
        "imported": weights.name,
        "origin": f"masked image modelling, imported from {weights.name}",
        "sees": "ECGs, or natural images if the file is BEiT's",
    }
    return save_checkpoint(out, state=model.official_state(), config=config)


def export_pretraining(checkpoint: Checkpoint, path: Path) -> Path:
    """Write a pretrained checkpoint as a file that BEiT's and HeartBEiT's own fine-tuning scripts load."""
    state = checkpoint.state()
    grid = grid_of(state[SHARED_TABLE])
    state[f"rel_pos_bias.{INDEX}"] = gen_relative_position_index((grid, grid))
    return write_atomically(path, lambda temporary: torch.save({"model": state}, temporary))


def masked_image_model(recipe: HeartBeitRecipe, *, vocabulary: int, seed: int) -> MaskedImageModel:
    """A model to pretrain, initialised as by the authors: normal weights truncated at one standard deviation, and the
    second matrices of block l divided by sqrt(2 l)."""
    with seeded(seed):
        model = MaskedImageModel(recipe, vocabulary)
    generator = torch.Generator().manual_seed(seed)
    _initialise_weights(model, generator, bound=INITIAL_STD)
    with torch.no_grad():
        for parameter in (model.mask_token, model.beit.cls_token):
            nn.init.trunc_normal_(parameter, std=INITIAL_STD, a=-INITIAL_STD, b=INITIAL_STD, generator=generator)
    _rescale_by_depth(model.beit, recipe.depth)
    return model


def beit_classifier(recipe: HeartBeitRecipe, start: Mapping[str, Tensor] | None, *, classes: int, seed: int) -> Beit:
    """A BEiT classifier on the mean of the patch tokens, from an official pretraining state or randomly initialised.

    As in the official script, the pretraining state's final norm, token head and mask token are not used.
    """
    with seeded(seed):
        model = _beit(_ClassifierNetwork, recipe, classes=classes, global_pool="avg", use_rel_pos_bias=True)
    generator = torch.Generator().manual_seed(seed)
    _initialise_weights(model, generator, bound=2.0)
    _initialise_patch_embedding(model, generator)
    _rescale_by_depth(model, recipe.depth)
    with torch.no_grad():
        nn.init.trunc_normal_(model.cls_token, std=INITIAL_STD, generator=generator)
        model.get_parameter("head.weight").mul_(HEAD_SCALE)
    if start is not None:
        load_exactly(model, from_pretraining(recipe, start), fresh=_fresh(model))
    return model


def from_pretraining(recipe: HeartBeitRecipe, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of an official pretraining state that a classifier loads, one resized table per block."""
    backbone = {
        name: tensor
        for name, tensor in expand_shared_table(state, recipe.depth).items()
        if not name.startswith(("lm_head.", "norm.", "head.")) and name != "mask_token"
    }
    return {
        name: resize_table(tensor, recipe.grid) if name.endswith(TABLE) else tensor for name, tensor in backbone.items()
    }


def _fresh(model: nn.Module) -> list[str]:
    return [name for name in model.state_dict() if name.startswith(("fc_norm.", "head."))]


def _beit(kind: type[Beit], recipe: HeartBeitRecipe, classes: int, **options: object) -> Beit:
    return kind(
        img_size=recipe.image_px,
        patch_size=recipe.patch_px,
        num_classes=classes,
        embed_dim=recipe.width,
        depth=recipe.depth,
        num_heads=recipe.heads,
        mlp_ratio=recipe.mlp_ratio,
        qkv_bias=True,
        norm_layer=partial(nn.LayerNorm, eps=LAYER_NORM_EPS),  # type: ignore[arg-type]
        init_values=recipe.layer_scale or None,
        drop_path_rate=recipe.drop_path,
        use_abs_pos_emb=False,
        **options,  # type: ignore[arg-type]
    )


def _initialise_weights(model: nn.Module, generator: torch.Generator, bound: float) -> None:
    """Initialise matrices and kernels by a normal truncated at +-bound; biases and bias tables by zeros."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and not name.endswith((TABLE, "cls_token", "mask_token")):
            nn.init.trunc_normal_(parameter, std=INITIAL_STD, a=-bound, b=bound, generator=generator)
        elif name.endswith("bias") or name.endswith(TABLE):
            nn.init.zeros_(parameter)


def _initialise_patch_embedding(model: nn.Module, generator: torch.Generator) -> None:
    """Initialise the patch embedding by PyTorch's default for convolutions, as in the authors' classifier."""
    weight, bias = model.get_parameter("patch_embed.proj.weight"), model.get_parameter("patch_embed.proj.bias")
    bound = 1 / sqrt(weight[0].numel())
    for parameter in (weight, bias):
        nn.init.uniform_(parameter, -bound, bound, generator=generator)


def _rescale_by_depth(model: nn.Module, depth: int) -> None:
    """Divide the second matrices of block l by sqrt(2 l)."""
    with torch.no_grad():
        for block in range(depth):
            for name in ("attn.proj.weight", "mlp.fc2.weight"):
                model.get_parameter(f"blocks.{block}.{name}").div_(sqrt(2 * (block + 1)))
