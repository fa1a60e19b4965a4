"""The views of ECG-FM and ECGFounder, of every kind of recording that comes in: finite, in shape, and in order."""

import numpy as np
import pytest

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.signals.window_filters import NotchBandPassMedian
from ecg_pipeline.signals.windows import WindowRecipe, cut_site, cut_windows
from ecg_pipeline_tests.ingest.conftest import export_xml, waveform_xml

VIEWS = {
    "standardised_segments": WindowRecipe(resampling="linear", seconds=5.0, crop=2, standardise="lead"),
    "filtered_window": WindowRecipe(
        resampling="linear", filter=NotchBandPassMedian(), standardise="recording", short="pad"
    ),
    "unfiltered_window": WindowRecipe(resampling="linear", standardise="recording", short="pad"),
    "lead_one": WindowRecipe(
        leads=("I",), resampling="linear", filter=NotchBandPassMedian(), standardise="recording", short="pad"
    ),
}


def cut(drop, recipe, tmp_path):
    """A site's windows with its table of ECGs."""
    store = ingest_site(
        drop, list_files(drop), recipe=IngestRecipe(minimum_seconds=2.0), key=fixed_key("t"), out=tmp_path / "store"
    )
    return cut_site(store, recipe, tmp_path / "out"), store.ecgs()


def are_sound(windows, ecgs, recipe):
    """Every ECG is there or listed, every value is finite, and every window has something to see."""
    rows = {ecg_id: len(group) for (ecg_id,), group in windows.index().group_by("ecg_id")}
    for ecg_id, samples, hz in ecgs.select("ecg_id", "samples", "sampling_hz").iter_rows():
        whole = samples * recipe.sampling_hz // hz // recipe.samples
        assert rows.get(ecg_id, 0) == (1 if recipe.short == "pad" else min(2, whole))
    assert set(rows) | set(windows.left_out()["ecg_id"]) == set(ecgs["ecg_id"])
    for _, array in windows:
        assert array.shape[1:] == recipe.shape
        assert np.isfinite(array).all()
        assert np.abs(array).max() < 150


@pytest.mark.parametrize("view", VIEWS)
def test_exports_of_every_rate_and_length_run_through_every_view(view, tmp_path):
    rng, folder = np.random.default_rng(0), tmp_path / "drop"
    folder.mkdir()
    for hz in (240, 250, 500):
        for seconds in (4, 5, 10, 12):
            counts = rng.normal(0, 30, (8, hz * seconds)).cumsum(axis=1).astype(np.int16)
            counts[seconds % 3] = 0
            text = export_xml(waveform_xml("Rhythm", counts, base=str(hz)))
            (folder / f"{hz}_{seconds}.xml").write_text(text, encoding="iso-8859-1")
    windows, ecgs = cut(DropFolder("s", folder, "muse_xml", mrn_system="s"), VIEWS[view], tmp_path)
    assert len(ecgs) == 12
    are_sound(windows, ecgs, VIEWS[view])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize(("data", "form"), [("muse_xml", "muse_xml"), ("cinc/a", "cinc"), ("cinc/b", "cinc")])
def test_real_recordings_run_through_every_view(view, data, form, shared, tmp_path):
    drop = DropFolder("s", shared / "data" / data, form, mrn_system="s", patients="public")
    windows, ecgs = cut(drop, VIEWS[view], tmp_path)
    assert len(ecgs) >= 4
    are_sound(windows, ecgs, VIEWS[view])


@pytest.mark.parametrize("view", VIEWS)
def test_a_flat_lead_is_no_reason_for_a_nan(view, ptb_xl):
    recipe = VIEWS[view]
    x = ptb_xl[:, [LEADS.index(lead) for lead in recipe.leads]].astype(np.float32)
    whole = cut_windows(x, 500, recipe)
    assert np.isfinite(whole).all()
    for flat_mv in (0.0, 1.2):
        x[:, 0] = flat_mv
        made = cut_windows(x, 500, recipe)
        assert np.isfinite(made).all()
        assert np.ptp(made[:, :, 0], axis=-1).max() < 1e-3
        if view == "standardised_segments":
            assert np.array_equal(made[:, :, 1:], whole[:, :, 1:])
