"""Masks, views of an image, and how the released code splits and judges."""

import math
import random
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sklearn.model_selection import StratifiedShuffleSplit

from ecg_pipeline_tests.conformance.reference.write import Files

EXTERNAL_SITE = "ST.LUKE'S-ROOSEVELT HOSPITAL (S)"


def write_masks(files: Files, cases: list[dict[str, Any]], draws: int, seed: int) -> None:
    """The kinds masking and masking_exact."""
    counted, exact = [], []
    for place, config in enumerate(cases):
        random.seed(seed + place)
        masks = np.array([_mask(**config) for _ in range(draws)])
        hidden = masks.sum(axis=(1, 2))
        neighbours = {
            "horizontal": float((masks[:, :, 1:] & masks[:, :, :-1]).mean()),
            "vertical": float((masks[:, 1:] & masks[:, :-1]).mean()),
        }
        count = {"mean": float(hidden.mean()), "sd": float(hidden.std())}
        count["fraction_full"] = float((hidden == config["num_masking_patches"]).mean())
        counted.append(
            {
                "config": config,
                "draws": draws,
                "seed": 1000 + seed + place,
                "mask_count": count,
                "patch_frequency": {"map": masks.mean(axis=0).tolist()},
                "neighbour_joint_probability": neighbours,
            }
        )
        rows = ["".join("1" if cell else "0" for cell in mask.flat) for mask in masks[:25]]
        exact.append(config | {"python_random_seed": seed + place, "masks_row_major": rows})
    files.write("masking", {"cases": counted})
    files.write("masking_exact", {"cases": exact})


def _mask(
    height: int,
    width: int,
    num_masking_patches: int,
    min_num_patches: int,
    max_num_patches: int | None,
    min_aspect: float,
) -> NDArray[np.bool_]:
    hidden: set[tuple[int, int]] = set()
    largest = num_masking_patches if max_num_patches is None else max_num_patches
    while len(hidden) < num_masking_patches:
        budget = min(num_masking_patches - len(hidden), largest)
        for _ in range(10):
            area = random.uniform(min_num_patches, budget)
            ratio = math.exp(random.uniform(math.log(min_aspect), math.log(1 / min_aspect)))
            h, w = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if h < height and w < width:
                top, left = random.randint(0, height - h), random.randint(0, width - w)
                new = {(r, c) for r in range(top, top + h) for c in range(left, left + w)} - hidden
                if 0 < len(new) <= budget:
                    hidden |= new
                    break
        else:
            break
    return np.array([[(row, column) in hidden for column in range(width)] for row in range(height)])


def write_views(files: Files, size: int, rng: np.random.Generator) -> None:
    """The kind views: an image of noise, dark lines and white paper."""
    pixels = np.full((size, size, 3), 255, np.uint8)
    pixels[: size // 3] = rng.integers(0, 256, (size // 3, size, 3))
    pixels[:, :: size // 9] = (40, 0, 90)
    image = Image.fromarray(pixels)

    def view(side: int, method: Image.Resampling) -> torch.Tensor:
        return torch.from_numpy(np.array(image.resize((side, side), method))).permute(2, 0, 1).float() / 255

    seen = view(224, Image.Resampling.BICUBIC)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    tensors = {
        "input.image_uint8": torch.from_numpy(pixels),
        "output.patch_view": (seen - 0.5) / 0.5,
        "output.token_view": 0.8 * view(112, Image.Resampling.LANCZOS) + 0.1,
        "output.finetune_vit": (seen - 0.5) / 0.5,
        "output.finetune_cnn_corner": ((seen - mean[:, None, None]) / std[:, None, None])[:, :48, :48],
    }
    files.write("views", {"size": size, "patch_equals_finetune_vit": True}, tensors)


def write_protocol(files: Files, patients: int, rng: np.random.Generator) -> None:
    """The kind protocol. Identifiers are numbers here, and one to five ECGs are a patient's."""
    mrn = rng.permutation(np.repeat(rng.choice(10**6, patients, replace=False), rng.integers(1, 6, patients)))
    site = rng.choice(["MSH", "WEST", EXTERNAL_SITE], len(mrn))
    label = (rng.random(len(mrn)) < 0.3).astype(int)
    inside = np.flatnonzero(site != EXTERNAL_SITE)
    known, place = np.unique(mrn[inside], return_inverse=True)
    tested = np.random.RandomState(42).permutation(len(known))[: math.ceil(0.2 * len(known))]
    is_test = np.isin(place, tested)
    train = inside[~is_test]
    fractions = {"1": train}
    for share in (0.05, 0.3):
        count = math.floor(share * len(train))
        split = StratifiedShuffleSplit(1, train_size=count, test_size=len(train) - count, random_state=42)
        fractions[str(share)] = train[next(split.split(train, label[train]))[0]]
    scores = (np.round(0.4 * label + rng.random(len(label)), 1) / 2).tolist()
    files.write(
        "protocol",
        {
            "table": {
                "PATH": [f"{row}.png" for row in range(len(mrn))],
                "LABEL": label.tolist(),
                "MRN": mrn.tolist(),
                "SITENAME": site.tolist(),
            },
            "external_rows": np.flatnonzero(site == EXTERNAL_SITE).tolist(),
            "train_rows": train.tolist(),
            "test_rows": inside[is_test].tolist(),
            "fractions": {share: {"train_rows": rows.tolist()} for share, rows in fractions.items()},
            "metrics": {"labels": label.tolist(), "scores": scores, **_judged(label.tolist(), scores)},
        },
    )


def _judged(labels: list[int], scores: list[float]) -> dict[str, float]:
    """By definition: pairs of a positive and a negative, and one point of the curve for each distinct score."""
    positives, negatives = ([s for s, a in zip(scores, labels, strict=True) if a == kind] for kind in (1, 0))
    wins = [(p > n) + (p == n) / 2 for p in positives for n in negatives]
    auroc = sum(wins) / len(wins)
    trapezoid = average = recall = 0.0
    precision = 1.0
    for threshold in sorted(set(scores), reverse=True):
        called = [label for label, score in zip(labels, scores, strict=True) if score >= threshold]
        new_recall, new_precision = sum(called) / sum(labels), sum(called) / len(called)
        trapezoid += (new_recall - recall) * (precision + new_precision) / 2
        average += (new_recall - recall) * new_precision
        recall, precision = new_recall, new_precision
    return {"auroc": auroc, "auprc_trapezoid": trapezoid, "average_precision": average}
