"""A folder of fixtures of every kind, whose shapes, options and seeds are unlike those of the published one."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ecg_pipeline_tests.conformance.reference.beit import write_beit
from ecg_pipeline_tests.conformance.reference.d_beta_folder import write_d_beta, write_d_beta_full_size
from ecg_pipeline_tests.conformance.reference.data import write_masks, write_protocol, write_views
from ecg_pipeline_tests.conformance.reference.ecgfounder_preproc import write_ecgfounder_preproc
from ecg_pipeline_tests.conformance.reference.net1d import write_fullsize, write_net1d
from ecg_pipeline_tests.conformance.reference.tables import (
    write_decay,
    write_initialisation,
    write_schedules,
    write_tables,
)
from ecg_pipeline_tests.conformance.reference.tokens import write_dalle, write_vae
from ecg_pipeline_tests.conformance.reference.write import Files

BEIT: dict[str, Any] = {
    "img": 40,
    "patch": 8,
    "dim": 48,
    "depth": 4,
    "heads": 3,
    "mlp_ratio": 2.5,
    "vocab": 70,
    "batch": 5,
    "seed": 7,
    "layer_scale": True,
    "norm_eps": 1e-6,
    "num_classes": 3,
    "init_scale": 0.001,
    "use_mean_pooling": True,
}
DALLE = {"n_hid": 12, "n_blk_per_group": 2, "vocab_size": 50, "n_init": 20, "size": 48, "batch": 2}
VAE = {
    "image_size": 40,
    "num_tokens": 30,
    "codebook_dim": 10,
    "num_layers": 2,
    "hidden_dim": 12,
    "temperature": 0.6,
    "kl": 0.02,
    "batch": 2,
}
MASKS: list[dict[str, Any]] = [
    {"height": 14, "width": 14, "num_masking_patches": 60, "min_num_patches": 16, "max_num_patches": None},
    {"height": 6, "width": 11, "num_masking_patches": 30, "min_num_patches": 5, "max_num_patches": 20},
]
NET1D: dict[str, Any] = {
    "in_channels": 12,
    "use_do": False,
    "base_filters": 10,
    "ratio": 1,
    "filter_list": [12, 12, 27],
    "m_blocks_list": [2, 1, 2],
    "kernel_size": 8,
    "stride": 2,
    "groups_width": 3,
    "n_classes": 4,
}


def write_folder(folder: Path) -> None:
    """Write every family below `folder`: of heartbeit one set of all kinds, and one where a table grows and nothing
    scales the layers."""
    first, second = (Files(folder / name / "heartbeit") for name in ("first", "second"))
    founder = Files(folder / "first" / "founder_dbeta")
    for files in (first, second, founder):
        files.folder.mkdir(parents=True)
    generator, rng = torch.Generator().manual_seed(5), np.random.default_rng(5)
    write_beit(first, BEIT, {"beit_finetune_same": 5, "beit_finetune_interp": 3}, generator)
    plain = BEIT | {"img": 32, "dim": 32, "heads": 4, "depth": 2, "layer_scale": False}
    write_beit(second, plain, {"beit_finetune_interp": 7}, generator)
    write_tables(first, [(5, 8), (7, 3), (3, 4), (14, 16)], 3, generator)
    initial = {"img": 48, "patch": 16, "dim": 96, "depth": 3, "heads": 3, "mlp_ratio": 3.0, "vocab": 300, "seed": 3}
    write_initialisation(first, initial | {"layer_scale": True, "init_values": 0.2}, generator)
    write_decay(first, plain, 0.1, generator)
    cosine = {"base_value": 2e-3, "final_value": 1e-6, "epochs": 5, "niter_per_ep": 9}
    write_schedules(
        first,
        [
            cosine | {"warmup_epochs": 1, "warmup_steps": -1},
            cosine | {"warmup_epochs": 0, "warmup_steps": -1},
            cosine | {"warmup_epochs": 1, "warmup_steps": 4},
        ],
        {"max_lr": 4e-3, "epochs": 7, "steps_per_epoch": 11},
    )
    write_dalle(first, DALLE, generator)
    write_vae(first, VAE, generator)
    write_masks(first, [case | {"min_aspect": 0.4 - 0.1 * place} for place, case in enumerate(MASKS)], 4000, 17)
    write_views(first, 330, rng)
    write_protocol(first, 150, rng)
    write_ecgfounder_preproc(founder, 4, 4321, rng)
    write_net1d_folder(founder, Files(folder / "second" / "founder_dbeta"))
    write_d_beta(founder, seed=9)
    write_d_beta_full_size(founder, salt=2, input_seed=40)


def write_net1d_folder(first: Files, second: Files) -> None:
    """Write the family founder_dbeta: even and odd kernels and lengths, blocks that are wider or narrower inside."""
    second.folder.mkdir(parents=True)
    wide = NET1D | {"ratio": 0.6, "filter_list": [10, 20, 25], "stride": 3, "groups_width": 5, "kernel_size": 5}
    single = {"in_channels": 1, "base_filters": 7, "ratio": 2, "stride": 4, "kernel_size": 6}
    write_net1d(first, "net1d_12lead", NET1D, [256, 201], salt=3)
    write_net1d(second, "net1d_12lead", wide, [333, 180], salt=4)
    write_net1d(first, "net1d_1lead", NET1D | single, [300, 211], salt=5)
    write_fullsize(first, {"lead12": NET1D, "lead1": NET1D | single}, salt=2, input_seed=30)
