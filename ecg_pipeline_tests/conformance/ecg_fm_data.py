"""Checks of what ECG-FM is trained on and by: segments, pairs, masks, the optimiser, and its metrics."""

from itertools import groupby
from math import sqrt
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.store import _millivolts
from ecg_pipeline.metrics.counts import counts
from ecg_pipeline.metrics.discrimination import auroc, average_precision, trapezoid_auprc
from ecg_pipeline.models.ecg_fm import FAMILY
from ecg_pipeline.models.ecg_fm.masking import sample_lead_masks, sample_span_masks
from ecg_pipeline.models.ecg_fm.objective import EcgFmObjective
from ecg_pipeline.models.ecg_fm.recipes import EcgFmPretraining, EcgFmRecipe, LeadMaskRecipe, SpanMaskRecipe
from ecg_pipeline.signals.windows import WindowRecipe, _resample, cut_windows
from ecg_pipeline.training.batches import Batches
from ecg_pipeline.training.pretrain import pretrain
from ecg_pipeline_tests.conformance.ecg_fm_options import within
from ecg_pipeline_tests.conformance.fixtures import Fixture
from ecg_pipeline_tests.conformance.released.labels import positive_weights
from ecg_pipeline_tests.training.small import write_view

SEGMENTS = WindowRecipe(resampling="linear", seconds=5.0, crop="all", standardise="lead")
ERRORS = 5
"""Standard errors that two samples may lie apart; thousands of shares are compared."""


def preprocess(fixture: Fixture) -> None:
    """Some leads of each recording. A lead that was not recorded is NaN in the released code and refused here, where
    it cannot be derived."""
    facts, tensors = fixture.facts, fixture.tensors
    assert facts["lead_order"] == list(LEADS)
    for case in facts["cases"]:
        name, hz = case["case"], case["fs"]
        raw, kept = tensors[f"{name}.raw_leads"].numpy(), case["leads_kept"]
        assert raw.shape[1] == case["n"]
        resampled = _resample(raw.astype(np.float64), hz, SEGMENTS)
        within(torch.from_numpy(resampled).float(), tensors[f"{name}.resampled_leads"], fixture, f"{name} resampled")
        assert resampled.shape[1] == case["resampled_len"]
        within(torch.from_numpy(resampled.mean(1)), tensors[f"{name}.lead_mean"][kept, 0], fixture, f"{name} means")
        spread = tensors[f"{name}.lead_std"][kept, 0]
        within(torch.from_numpy(resampled.std(axis=1)), spread, fixture, f"{name} deviations")
        cut = torch.from_numpy(cut_windows(raw[None], hz, SEGMENTS)[0])
        assert cut.shape == (case["n_segments"], len(kept), case["segment_len"])
        whole = tensors[f"{name}.standardised_leads"][:, : len(cut) * case["segment_len"]]
        within(cut, whole.unflatten(1, (len(cut), -1)).transpose(0, 1), fixture, f"{name} standardised")
        within(cut[..., :5], tensors[f"{name}.seg_first_samples"], fixture, f"{name} first samples")
        within(cut[..., -5:], tensors[f"{name}.seg_last_samples"], fixture, f"{name} last samples")
        is_constant = torch.tensor([lead in case["constant_leads"] for lead in kept])
        assert not cut[:, is_constant].any()
        assert cut[:, ~is_constant].any(dim=-1).all()

    order = _in_order(tensors["reorder.in"].numpy(), facts["reorder_names"], LEADS)
    np.testing.assert_array_equal(order, tensors["reorder.out"])
    given, expected = tensors["reorder_missing.in"].numpy(), tensors["reorder_missing.out"].numpy()
    names, available = facts["reorder_missing_names"], facts["reorder_missing_available"]
    np.testing.assert_array_equal(_in_order(given, names, available), expected[[LEADS.index(n) for n in available]])
    for lead in set(LEADS) - set(available):
        assert np.isnan(expected[LEADS.index(lead)]).all()
        if lead.startswith("V"):
            with pytest.raises(ValueError, match=f"{lead} was not recorded"):
                _in_order(given, names, (lead,))


def manifest(fixture: Fixture) -> None:
    """The pairing alone: segments of a recording in order, two by two. The view has the first two of a recording, so of
    the released pairs (0, 1), (2, 3), ... those beyond the first have no counterpart."""
    for split in {segment["split"] for segment in fixture.facts["segments"]}:
        of_split = [segment["path"] for segment in fixture.facts["segments"] if segment["split"] == split]
        found = sorted((path.rsplit("_", 1)[0], int(Path(path).stem.rsplit("_", 1)[1])) for path in of_split)
        pairs: dict[str, list[tuple[int, ...]]] = {}
        folder, _, *rows = fixture.facts["cmsc_manifest"][f"{split}.tsv"].splitlines()
        for row in rows:
            name, *_, places = row.split("\t")
            pairs.setdefault(f"{folder}{name}", []).append(tuple(map(int, places.split(","))))
        for recording, segments in groupby(found, key=lambda pair: pair[0]):
            whole = len(list(segments)) // 2
            assert pairs.get(recording, []) == [(2 * pair, 2 * pair + 1) for pair in range(whole)]
        with TemporaryDirectory() as temporary:
            places = np.array([place for _, place in found], np.float32)
            view = write_view(Path(temporary), [places[:, None]], [recording for recording, _ in found])
            table = view.index().select("ecg_id", site=pl.lit("s")).unique(maintain_order=True)
            batches = Batches(arrays={"view": {"s": view}}, table=table, per_ecg=FAMILY.examples_per_ecg)
            ((arrays, of),) = batches.epoch(0, batch=batches.examples, seed=1)
        seen = dict(
            zip(
                of["ecg_id"].to_list()[::2], map(tuple, arrays["view"].reshape(-1, 2).astype(int).tolist()), strict=True
            )
        )
        assert of["ecg_id"].to_list()[::2] == of["ecg_id"].to_list()[1::2]
        assert seen == {recording: first for recording, (first, *_) in pairs.items()}


def random_lead_masks(fixture: Fixture) -> None:
    """In distribution. The fixture's seeded examples are those of another generator."""
    facts, draws = fixture.facts, fixture.facts["n_draws"]
    masks = _lead_masks(LeadMaskRecipe(), draws)
    rates = masks.mean(axis=0)
    assert np.abs(rates - facts["per_lead_mask_rate"]).max() <= 0.01, "how often each lead is masked"
    distribution = np.bincount(masks.sum(axis=1), minlength=13) / draws
    assert agree(distribution, np.array(facts["count_distribution_0_to_12"]), draws), "number of masked leads"
    correlation = np.corrcoef(masks.T) - np.eye(len(LEADS))
    assert np.abs(correlation).max() <= 0.02, "leads are masked together"
    untouched = ~_lead_masks(LeadMaskRecipe(probability=0.3), draws).any(axis=1)
    assert abs(untouched.mean() - facts["untouched_rate_when_p_0_3"]) <= 0.01, "segments without a masked lead"
    for options, examples in facts["examples"].items():
        probability, share = (float(option.split("=")[1]) for option in options.split(",")[:2])
        expected = np.array([[lead == "1" for lead in mask] for mask in examples])
        found = _lead_masks(LeadMaskRecipe(probability, share), draws)
        assert agree(found.mean(), expected.mean(), len(examples)), f"share of masked leads of {options}"
        assert agree(found.any(axis=1).mean(), expected.any(axis=1).mean(), len(examples)), f"masked at all, {options}"


def span_masks(fixture: Fixture) -> None:
    """In distribution. The fixture's seeded examples are those of another generator."""
    for place, case in enumerate(fixture.facts["stats"]):
        draws, segments, frames = case["draws"], case["batch"], case["T"]
        recipe, rng = SpanMaskRecipe(case["mask_prob"], case["mask_length"]), np.random.default_rng(place)
        masks = [sample_span_masks(recipe, rng, segments=segments, frames=frames) for _ in range(draws)]
        numbers = np.array([_equal_count(mask) for mask in masks])
        deviation = case["std_fraction"]
        error = deviation * sqrt(2 / draws)
        assert abs(numbers.mean() / frames - case["mean_fraction"]) <= ERRORS * error, "mean share of masked frames"
        assert abs(numbers.std() / frames - deviation) <= ERRORS * error, "spread of the share"
        for quantile, expected in case["count_quantiles"].items():
            assert abs(np.quantile(numbers, float(quantile)) - expected) <= 2 + 0.04 * expected, f"quantile {quantile}"
        rates, expected = np.mean([mask.mean(axis=0) for mask in masks], axis=0), np.array(case["per_position_rate"])
        # Rows of a group share their number of masked frames, and little else.
        errors = np.sqrt(2 * (expected * (1 - expected) / segments + deviation**2) / draws)
        assert (np.abs(rates - expected) <= ERRORS * errors + 1e-4).all(), "how often each frame is masked"
        assert not rates[expected == 0].any(), "a frame is masked that never is"
    for place, case in enumerate(fixture.facts["examples"]):
        examples = np.array([[frame == "1" for frame in mask] for mask in case["mask"]])
        recipe, rng = SpanMaskRecipe(case["mask_prob"], case["mask_length"]), np.random.default_rng(place)
        padded_from = case.get("padded_from")
        recorded = None if padded_from is None else np.array([frames or case["T"] for frames in padded_from])
        sizes = {"segments": case["batch"], "frames": case["T"], "recorded": recorded}
        masks = np.stack([sample_span_masks(recipe, rng, **sizes) for _ in range(2000)])
        numbers = [_equal_count(mask) for mask in masks]
        assert min(numbers) <= _equal_count(examples) <= max(numbers)
        assert not (examples & ~masks.any(axis=0)).any(), "an example masks a frame that is never masked here"
        if recorded is not None:
            beyond = np.arange(case["T"]) >= recorded[:, None] - 1
            assert not masks.any(axis=0)[beyond].any(), "padding or the last frame before it is masked"


def optimiser(fixture: Fixture) -> None:
    """The released optimiser's steps, by the pretraining loop with ECG-FM's parameter groups."""
    facts, steps = fixture.facts, 3
    recipe = EcgFmPretraining(
        epochs=steps,
        batch=2,
        learning_rate=facts["lr"],
        final_learning_rate=facts["lr"],
        betas=tuple(facts["betas"]),
        eps=facts["eps"],
        weight_decay=facts["weight_decay"],
    )
    made = []

    def given_gradients(seed: int) -> _GivenGradients:
        made.append(_GivenGradients(fixture, recipe))
        return made[-1]

    with TemporaryDirectory() as temporary:
        view = write_view(Path(temporary) / "view", [np.zeros((2, 1), np.float32)], ["a", "a"])
        table = pl.DataFrame({"ecg_id": ["a"], "site": ["s"]})
        batches = Batches(arrays={"view": {"s": view}}, table=table, per_ecg=2)
        pretrain(given_gradients, recipe, batches=batches, facts={}, out=Path(temporary) / "out")
    given = made[-1]  # the first one counts operations
    assert len(given.seen) == steps
    for step, values in enumerate([*given.seen[1:], list(given.network)]):
        for name, value in zip(given.names, values, strict=True):
            within(value.detach(), fixture.tensors[f"out.step{step}.{name}"], fixture, f"{name} after step {step}")


def metrics(fixture: Fixture) -> None:
    """AUROC, trapezoid AUPRC, and the weights of positive training ECGs. Weights of other splits, counts and
    percentages are not taken over; fine-tuning here weighs positives and negatives alike."""
    facts, atol = fixture.facts, fixture.facts["atol"]
    labels, scores = np.array(facts["y_true"]), np.array(facts["scores"])
    counted = [counts(labels[:, k], scores[:, k]) for k in range(labels.shape[1])]
    for found, expected in (
        ([auroc(one) for one in counted], facts["per_label_auroc"]),
        ([average_precision(one) for one in counted], facts["per_label_average_precision_for_contrast"]),
        ([np.mean([auroc(one) for one in counted])], [facts["macro_auroc"]]),
        ([np.mean([trapezoid_auprc(one) for one in counted])], [facts["macro_auprc"]]),
    ):
        np.testing.assert_allclose(found, expected, atol=atol, rtol=0)
    train = labels[np.array(facts["split"]) == "train"]
    np.testing.assert_allclose(positive_weights(train), facts["label_def"]["pos_weight_train"], atol=atol, rtol=0)
    rounded = [float(weight) for weight in facts["pos_weight_txt"].strip("[]").split(",")]
    np.testing.assert_allclose(positive_weights(train).round(6), rounded, atol=atol, rtol=0)


class _GivenGradients:
    """An objective whose gradients are those of a fixture. seen: the values before each step."""

    group = 1

    def __init__(self, fixture: Fixture, recipe: EcgFmPretraining):
        first = fixture.named("in.step0.grad.")
        self.fixture, self.recipe, self.names = fixture, recipe, list(first)
        self.network = nn.ParameterList(fixture.tensors[f"in.{name}"].clone() for name in self.names)
        self.seen: list[list[torch.Tensor]] = []

    def parameter_groups(self, weight_decay: float) -> list[dict[str, Any]]:
        network: Any = self.network
        objective = EcgFmObjective(network=network, recipe=EcgFmRecipe(), pretraining=self.recipe, seed=0)
        return objective.parameter_groups(weight_decay)

    def micro_batch(self, arrays: Any, places: range, *, step: int, device: str) -> int:
        self.seen.append([parameter.detach().clone() for parameter in self.network])
        return step

    def count(self, micro_batch: int) -> torch.Tensor:
        return torch.tensor(1)

    def backward(self, network: Any, micro_batch: int, *, weight: float) -> torch.Tensor:
        for name, parameter in zip(self.names, self.network, strict=True):
            parameter.grad = self.fixture.tensors[f"in.step{micro_batch}.grad.{name}"] * weight
        return torch.zeros(1)

    def point(self, sums: torch.Tensor, count: int) -> dict[str, float]:
        return {"loss": 0.0}

    def state(self) -> dict[str, torch.Tensor]:
        return {}

    def facts(self, counts: torch.Tensor, examples: int) -> dict[str, Any]:
        return {}


def agree(found: NDArray | float, expected: NDArray | float, draws: int) -> bool:
    """Whether shares of two samples, the smaller of so many draws, are equal but for chance."""
    pooled = (np.asarray(found) + np.asarray(expected)) / 2
    errors = np.sqrt(2 * pooled * (1 - pooled) / draws)
    return bool((np.abs(np.asarray(found) - expected) <= ERRORS * errors + 1e-6).all())


def _lead_masks(recipe: LeadMaskRecipe, draws: int) -> NDArray[np.bool_]:
    return sample_lead_masks(recipe, np.random.default_rng(3), segments=draws, leads=len(LEADS))


def _equal_count(mask: NDArray[np.bool_]) -> int:
    """Number of masked frames of each row of a group, which is one number."""
    numbers = mask.sum(axis=1)
    assert (numbers == numbers[0]).all(), "segments of a group have other numbers of masked frames"
    return int(numbers[0])


def _in_order(x: NDArray, names: list[str], leads: Any) -> NDArray:
    """The leads of a recording (L, T) in an order, as the store of waveforms reads them."""
    places = np.arange(x.size).reshape(1, *x.shape)
    rows = pl.DataFrame({"leads": [names], "microvolts_per_count": [[1000.0] * len(names)]})
    return x.reshape(-1)[_millivolts(places.astype(np.int16), rows, leads)[0].astype(int)]
