"""Check of ECGFounder's preprocessing: its filter, its two z-scores, short records, lead order, and how it is scored.

Two things of the reference are not taken over. Its thresholds are chosen on the evaluated data, so sensitivity,
specificity and F1 at them are not compared. Its resampler squeezes a longer record into 5,000 samples: ours crops, so
resampling is compared where both give a record of 10 s.
"""

import re

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.checks import standard_leads
from ecg_pipeline.metrics.counts import counts
from ecg_pipeline.metrics.discrimination import auroc, average_precision
from ecg_pipeline.signals.window_filters import NotchBandPassMedian
from ecg_pipeline.signals.windows import WindowRecipe, cut_windows, prepare
from ecg_pipeline_tests.conformance.fixtures import Fixture

HZ = 500
MIMIC_LEADS = ("I", "II", "III", "aVR", "aVF", "aVL", "V1", "V2", "V3", "V4", "V5", "V6")
"""Order of the leads in files of MIMIC-IV-ECG."""

FILTERED = WindowRecipe(filter=NotchBandPassMedian(), standardise="recording", short="pad")
UNFILTERED = WindowRecipe(standardise="recording", short="pad")


def ecgfounder_preproc(fixture: Fixture) -> None:
    tensors = {name: tensor.numpy() for name, tensor in fixture.tensors.items()}
    _filter(tensors)
    _standardisation(tensors)
    _resampling(tensors)
    names = [MIMIC_LEADS[place] for place in fixture.facts["mimic_lead_indices_12"]]
    assert tuple(names) == standard_leads(MIMIC_LEADS) == LEADS
    assert [MIMIC_LEADS[place] for place in fixture.facts["mimic_lead_indices_1"]] == ["I"]
    _scores(fixture, tensors["gt"], tensors["prob"])


def _filter(tensors: dict[str, NDArray]) -> None:
    raw, short = tensors["raw"], tensors["short_raw"]
    for name, x in (
        ("filtered", raw),
        ("filtered_from_float32", raw.astype(np.float32)),
        ("short_filtered", short),
    ):
        _close(NotchBandPassMedian().resampled(x, HZ), tensors[name], 1e-6, name)


def _standardisation(tensors: dict[str, NDArray]) -> None:
    raw, short = tensors["raw"][None], tensors["short_raw"][None]
    _close(prepare(raw, HZ, FILTERED)[0], tensors["filtered_zscored"], 1e-5, "filtered_zscored")
    _close(prepare(raw, HZ, UNFILTERED)[0], tensors["raw_zscored"], 1e-8, "raw_zscored")
    for recipe, name in ((FILTERED, "filtered_zscored"), (UNFILTERED, "raw_zscored")):
        whole = min(raw.shape[-1], recipe.samples)
        _close(cut_windows(raw, HZ, recipe)[0, 0, :, :whole], tensors[name][:, :whole], 1e-5, f"{name} as float32")
        padded = cut_windows(short, HZ, recipe)[0, 0]
        assert padded.shape[-1] == recipe.samples
        _close(padded[:, : short.shape[-1]], prepare(short, HZ, recipe)[0], 1e-5, "short record")
        assert not padded[:, short.shape[-1] :].any(), "a short record is followed by zeros"


def _resampling(tensors: dict[str, NDArray]) -> None:
    recipe = WindowRecipe(resampling="linear")
    for name, x in tensors.items():
        rate = re.fullmatch(r"r(\d+)_in", name)
        if rate and x.shape[-1] * HZ // int(rate[1]) == (expected := tensors[f"r{rate[1]}_out"]).shape[-1]:
            _close(prepare(x[None], int(rate[1]), recipe)[0], expected, 1e-8, name)


def _scores(fixture: Fixture, labels: NDArray, scores: NDArray) -> None:
    counted = [counts(labels[:, column], scores[:, column]) for column in range(labels.shape[1])]
    for protocol in ("balanced_accuracy_grid", "youden"):
        _close(np.array([auroc(each) for each in counted]), np.array(fixture.facts[protocol]["auroc"]), 1e-9, "AUROC")
    precisions = np.array([average_precision(each) for each in counted])
    # What the reference calls AUPRC is the average precision, not the trapezoid.
    _close(precisions, np.array(fixture.facts["youden"]["auprc"]), 1e-9, "AUPRC")


def _close(found: NDArray, expected: NDArray, within: float, what: str) -> None:
    assert found.shape == expected.shape, what
    np.testing.assert_allclose(found, expected, rtol=0, atol=within, err_msg=what)
