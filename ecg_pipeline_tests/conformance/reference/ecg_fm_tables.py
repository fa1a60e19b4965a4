"""Fixtures of ECG-FM's data, masks, optimiser and metrics."""

import numpy as np
import torch
from torch import Tensor

from ecg_pipeline_tests.conformance.reference import ecg_fm as network
from ecg_pipeline_tests.conformance.reference import ecg_fm_data as data
from ecg_pipeline_tests.conformance.reference.ecg_fm_states import single
from ecg_pipeline_tests.conformance.reference.write import Files


def write_optimiser(files: Files, generator: torch.Generator) -> None:
    facts = {"lr": 2e-3, "betas": [0.8, 0.97], "eps": 1e-4, "weight_decay": 0.05, "atol": 1e-7, "rtol": 1e-6}
    tensors: dict[str, Tensor] = {}
    for name, shape in (("encoder.layers.0.fc1.bias", (9,)), ("project_q.weight", (4, 6))):
        values = torch.randn(shape, generator=generator)
        gradients = [10.0 ** -(2 * step + 1) * torch.randn(shape, generator=generator) for step in range(3)]
        found = network.adam(values.double(), [gradient.double() for gradient in gradients], facts)
        tensors[f"in.{name}"] = values
        tensors |= {f"in.step{step}.grad.{name}": gradient for step, gradient in enumerate(gradients)}
        tensors |= {f"out.step{step}.{name}": value for step, value in enumerate(found)}
    files.write("optimizer", facts, single(tensors))


def write_data(files: Files, rng: np.random.Generator) -> None:
    """The kinds preprocess, manifest and saliency."""
    cases, tensors = [], {}
    for name, hz, samples, constant in (("a250", 250, 2500, []), ("b360", 360, 1900, [4]), ("c500", 500, 5400, [0])):
        kept = [0, 4, 9]
        raw = np.cumsum(rng.normal(0, 0.1, (12, samples)), axis=1).astype(np.float32)
        raw[constant] = 0.3
        resampled = data.resample(raw.astype(np.float64), hz)
        whole = data.standardise(resampled)
        cut = np.stack(data.segments(whole[kept], 2500))
        tensors |= {
            f"{name}.raw_leads": torch.from_numpy(raw[kept]),
            f"{name}.resampled_leads": torch.from_numpy(resampled[kept]),
            f"{name}.standardised_leads": torch.from_numpy(whole[kept]),
            f"{name}.seg_first_samples": torch.from_numpy(cut[..., :5].copy()),
            f"{name}.seg_last_samples": torch.from_numpy(cut[..., -5:].copy()),
        }
        tensors = single(tensors)
        moments = {"lead_mean": resampled.mean(1, keepdims=True), "lead_std": resampled.std(1, keepdims=True)}
        tensors |= {f"{name}.{key}": torch.from_numpy(value) for key, value in moments.items()}
        case = {"case": name, "fs": hz, "n": samples, "leads_kept": kept, "constant_leads": constant}
        cases.append(case | {"resampled_len": resampled.shape[1], "n_segments": len(cut), "segment_len": 2500})
    names = rng.permutation(data.ORDER).tolist()
    fewer = [lead for lead in rng.permutation(data.ORDER).tolist() if lead not in ("V2", "V6")]
    for kind, order in (("reorder", names), ("reorder_missing", fewer)):
        x = rng.normal(0, 1, (len(order), 4))
        tensors |= {f"{kind}.in": torch.from_numpy(x), f"{kind}.out": torch.from_numpy(data.reorder(x, order))}
    facts = {"cases": cases, "lead_order": list(data.ORDER), "reorder_names": names, "reorder_missing_names": fewer}
    facts |= {"reorder_missing_available": [lead for lead in data.ORDER if lead in fewer]}
    files.write("preprocess", facts | {"atol": 1e-5, "rtol": 1e-5}, tensors)

    recordings = {f"x/r{number}": list(range(count)) for number, count in enumerate([2, 1, 5, 3, 2])}
    listed = [(f"{name}_{number}", 2500) for name, numbers in recordings.items() for number in numbers]
    given = [
        {"split": "train", "path": f"/e/{listed[place][0]}.mat"} for place in rng.permutation(len(listed)).tolist()
    ]
    lines = [f"{name}\t2500\t0\t{a},{b}" for name, a, b in data.pairs(recordings)]
    files.write("manifest", {"segments": given, "cmsc_manifest": {"train.tsv": "\n".join(["/e/", "mat", *lines, ""])}})

    attention = rng.dirichlet(np.full(17, 0.2), (2, 3, 17)).astype(np.float32)
    sharpest, curves = data.curve(attention[:, -1], 180)
    tensors = {"in.attention": torch.from_numpy(attention), "out.attn_max": torch.from_numpy(sharpest).float()}
    files.write("saliency", {"n_samples": 180, "atol": 1e-5}, tensors | {"out.projected": torch.from_numpy(curves)})


def write_masks(files: Files, seed: int) -> None:
    """The kinds rlm and span_mask."""
    random, draws = np.random.RandomState(seed), 40_000
    masks = np.array([data.lead_mask(random, 1.0, 0.5) for _ in range(draws)])
    untouched = np.mean([not data.lead_mask(random, 0.3, 0.5).any() for _ in range(draws)])
    examples = {
        f"p={p},mask_leads_prob={share},numpy_seed=0": [
            "".join("01"[int(lead)] for lead in data.lead_mask(random, p, share)) for _ in range(400)
        ]
        for p, share in ((1.0, 0.7), (0.4, 0.3))
    }
    facts = {"n_draws": draws, "per_lead_mask_rate": masks.mean(0).tolist(), "examples": examples}
    facts |= {"count_distribution_0_to_12": (np.bincount(masks.sum(1), minlength=13) / draws).tolist()}
    files.write("rlm", facts | {"untouched_rate_when_p_0_3": float(untouched)})

    cases = [
        {"batch": 1, "T": 50, "mask_prob": 0.7, "mask_length": 4},
        {"batch": 6, "T": 80, "mask_prob": 0.4, "mask_length": 8},
    ]
    stats = [data.span_statistics(random, case, 2000) for case in cases]
    padded = {"batch": 2, "T": 50, "mask_prob": 0.6, "mask_length": 5, "padded_from": [31, None]}
    mask = data.span_mask(random, 2, 50, 0.6, 5, padded["padded_from"])
    listed = ["".join("01"[int(frame)] for frame in row) for row in mask]
    files.write("span_mask", {"stats": stats, "examples": [padded | {"mask": listed}]})


def write_metrics(files: Files, rng: np.random.Generator) -> None:
    labels = (rng.random((90, 3)) < [0.5, 0.2, 0.35]).astype(int)
    scores = (0.3 * labels + rng.random((90, 3))).round(2)
    areas = [data.areas(labels[:, k], scores[:, k]) for k in range(3)]
    split = rng.choice(["train", "valid", "test"], 90, p=[0.6, 0.2, 0.2])
    train = labels[split == "train"]
    weights = [(len(train) - positives) / positives for positives in train.sum(0)]
    facts = {
        "y_true": labels.tolist(),
        "scores": scores.tolist(),
        "split": split.tolist(),
        "macro_auroc": sum(area[0] for area in areas) / 3,
        "macro_auprc": sum(area[1] for area in areas) / 3,
        "per_label_auroc": [area[0] for area in areas],
        "per_label_average_precision_for_contrast": [area[2] for area in areas],
        "label_def": {"pos_weight_train": weights},
        "pos_weight_txt": f"[{','.join(f'{weight:.6f}' for weight in weights)}]",
    }
    files.write("metrics", facts | {"atol": 1e-9})
