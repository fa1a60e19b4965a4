from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lxml import etree

from ecg_pipeline.ecg import INDEPENDENT_LEADS, Ecg
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.formats.muse_xml import read_muse_xml
from ecg_pipeline.synthetic.muse import MuseEcg, muse_xml


def written_and_read(ecg: MuseEcg, folder: Path) -> Ecg:
    path = folder / "ecg.xml"
    path.write_bytes(muse_xml(ecg))
    return read_muse_xml(EcgFile(path, folder))


def test_what_was_written_is_read(muse_ecg: MuseEcg, tmp_path: Path) -> None:
    ecg = written_and_read(muse_ecg, tmp_path)
    np.testing.assert_array_equal(ecg.counts, muse_ecg.rhythm)
    assert ecg.leads == INDEPENDENT_LEADS
    assert ecg.microvolts_per_count == (4.88,) * 8
    assert (ecg.sampling_hz, ecg.seconds, ecg.sex, ecg.age_years) == (500, 10, "F", 75)
    assert ecg.patient_id == muse_ecg.patient.mrn
    assert ecg.acquired_at == muse_ecg.acquired_at


def test_habits_of_a_version_change_nothing_that_is_read(muse_ecg: MuseEcg, tmp_path: Path) -> None:
    order = [7, 6, 5, 4, 3, 2, 1, 0]
    odd = replace(
        muse_ecg,
        exporter=replace(muse_ecg.exporter, rhythm_first=True, signed_checksums=True),
        leads=tuple(muse_ecg.leads[place] for place in order),
        median=muse_ecg.median[order],
        rhythm=muse_ecg.rhythm[order],
        escaped=False,
    )
    assert b"ST & T" in muse_xml(odd)
    np.testing.assert_array_equal(written_and_read(odd, tmp_path).counts, muse_ecg.rhythm)


def test_unescaped_text_is_what_a_strict_parser_refuses(muse_ecg: MuseEcg) -> None:
    assert etree.fromstring(muse_xml(muse_ecg)).tag == "RestingECG"
    with pytest.raises(etree.XMLSyntaxError):
        etree.fromstring(muse_xml(replace(muse_ecg, escaped=False)))


def test_elements_stand_in_the_order_of_a_real_export(muse_ecg: MuseEcg, shared: Path) -> None:
    real = etree.parse(shared / "data" / "muse_xml" / "muse-sinus.xml").getroot()
    ours = etree.fromstring(muse_xml(muse_ecg))

    def tags(element: etree._Element | None) -> list[str]:
        assert element is not None
        return [str(child.tag) for child in element]

    for place in ("Waveform/LeadData", "RestingECGMeasurements", "QRSTimesTypes/QRS"):
        assert tags(ours.find(place)) == tags(real.find(place))
    for place in (".", "PatientDemographics", "TestDemographics", "Waveform"):
        order = tags(real.find(place))
        known = [tag for tag in tags(ours.find(place)) if tag in order]
        assert known == sorted(known, key=order.index)
    size = len(muse_xml(muse_ecg))
    assert 130_000 < size < 150_000
    lines = muse_xml(muse_ecg).decode("iso-8859-1").splitlines()
    assert max(len(line) for line in lines if not line.lstrip().startswith("<")) == 68
