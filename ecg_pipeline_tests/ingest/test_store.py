"""The waveform store's handle: counts and millivolts of its ECGs."""

import numpy as np

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline_tests.ingest.conftest import export_xml, waveform_xml


def test_limb_leads_that_were_not_recorded_are_derived(tmp_path, counts):
    drop = DropFolder("here", tmp_path / "drop", "muse_xml")
    drop.path.mkdir()
    (drop.path / "a.xml").write_text(export_xml(waveform_xml("Rhythm", counts)))
    store = ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=fixed_key("test"), out=tmp_path / "store")
    x = dict(zip(LEADS, next(store.millivolts(store.ecgs(), LEADS))[1][0], strict=True))
    np.testing.assert_allclose(x["III"], x["II"] - x["I"], atol=1e-5)
    np.testing.assert_allclose(x["aVR"] + x["aVL"] + x["aVF"], 0, atol=1e-5)
    np.testing.assert_allclose(x["V3"], counts[4] * 4.88 / 1000, rtol=1e-6)
