from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.muse_xml import read_muse_xml
from ecg_pipeline.ingest.reading import read_ecg
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.rejects import Rejected, RejectReason
from ecg_pipeline.synthetic.faults import MUSE_FAULTS, TOO_LARGE_BYTES, WFDB_FAULTS, MuseFault, WfdbFault
from ecg_pipeline.synthetic.muse import MuseEcg, muse_xml

ONLY_ONCE = {RejectReason.TOO_LARGE}
IN_WFDB_ONLY = {RejectReason.MISSING_SIGNAL_FILE}


def test_every_reason_is_shown_twice() -> None:
    muse = Counter(reason for reason, _ in MUSE_FAULTS)
    assert set(muse) == set(RejectReason) - IN_WFDB_ONLY - {RejectReason.WITHDRAWN}
    assert all(count == 2 for reason, count in muse.items() if reason not in ONLY_ONCE)
    assert set(Counter(reason for reason, _ in WFDB_FAULTS).values()) == {2}


@pytest.mark.parametrize(("reason", "fault"), MUSE_FAULTS, ids=lambda value: getattr(value, "value", ""))
def test_muse_fault_is_rejected_for_its_reason(
    reason: RejectReason, fault: MuseFault, muse_ecg: MuseEcg, tmp_path: Path
) -> None:
    for site in ("mount_sinai", "beth_israel"):
        (tmp_path / site).mkdir()
        (tmp_path / site / "ecg-0001.xml").write_bytes(muse_xml(muse_ecg))
        (tmp_path / site / "ecg-0002.xml").write_bytes(muse_xml(muse_ecg))
    path = tmp_path / "mount_sinai" / "ecg-0003.xml"
    fault(muse_ecg, path)
    drop = DropFolder("mount_sinai", tmp_path / "mount_sinai", "muse_xml", (muse_ecg.exporter.site_name,))
    if reason == RejectReason.DUPLICATE_WAVEFORM:
        assert path.read_bytes() != muse_xml(muse_ecg)
        np.testing.assert_array_equal(read_muse_xml(EcgFile(path, tmp_path)).counts, muse_ecg.rhythm)
        return
    with pytest.raises(Rejected) as rejected:
        read_ecg(path, drop, IngestRecipe())
    assert rejected.value.reason == reason


@pytest.mark.parametrize(("reason", "fault"), WFDB_FAULTS, ids=lambda value: getattr(value, "value", ""))
def test_wfdb_fault_is_rejected_for_its_reason(reason: RejectReason, fault: WfdbFault, tmp_path: Path) -> None:
    (tmp_path / "ptbxl_database.csv").write_text("filename_hr,patient_id,scp_codes\n")
    counts = np.random.default_rng(0).integers(-900, 900, (12, 5000)).astype(np.int16)
    fault(counts, tmp_path / "records500" / "00001_hr.hea")
    with pytest.raises(Rejected) as rejected:
        read_ecg(tmp_path / "records500" / "00001_hr.hea", DropFolder("ptb", tmp_path, "ptb_xl"), IngestRecipe())
    assert rejected.value.reason == reason


def test_the_large_file_takes_no_room(muse_ecg: MuseEcg, tmp_path: Path) -> None:
    (fault,) = (fault for reason, fault in MUSE_FAULTS if reason == RejectReason.TOO_LARGE)
    fault(muse_ecg, tmp_path / "large.xml")
    state = (tmp_path / "large.xml").stat()
    assert state.st_size == TOO_LARGE_BYTES > 32 * 2**20
    assert state.st_blocks * 512 < 2**20
