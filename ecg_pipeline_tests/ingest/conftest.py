"""Exports and WFDB records of any content, and reading one of them."""

import base64
import zlib

import numpy as np
import pytest

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.ingest.checks import check_ecg
from ecg_pipeline.ingest.formats.format import EcgFile
from ecg_pipeline.ingest.rejects import Rejected


def lead_xml(lead, samples, scale="4.88", count=None, crc=None, encoded=None):
    content = np.asarray(samples).astype("<i2").tobytes()
    encoded = base64.b64encode(content).decode() if encoded is None else encoded
    return (
        f"<LeadData><LeadSampleCountTotal>{len(samples) if count is None else count}</LeadSampleCountTotal>"
        f"<LeadAmplitudeUnitsPerBit>{scale}</LeadAmplitudeUnitsPerBit>"
        f"<LeadAmplitudeUnits>MICROVOLTS</LeadAmplitudeUnits><LeadID>{lead}</LeadID>"
        f"<LeadDataCRC32>{zlib.crc32(content) if crc is None else crc}</LeadDataCRC32>"
        f"<WaveFormData>\n{encoded}\n</WaveFormData></LeadData>"
    )


def waveform_xml(kind, counts, leads=INDEPENDENT_LEADS, base="500", exponent="0", **options):
    data = "".join(lead_xml(lead, row, **options) for lead, row in zip(leads, counts, strict=True))
    return (
        f"<Waveform><WaveformType>{kind}</WaveformType><SampleBase>{base}</SampleBase>"
        f"<SampleExponent>{exponent}</SampleExponent>{data}</Waveform>"
    )


def export_xml(waveforms, patient="<PatientID>77123456</PatientID>", text="Sinus rhythm", head=""):
    return (
        f'<?xml version="1.0" encoding="ISO-8859-1"?>\n{head}<RestingECG><PatientDemographics>{patient}'
        f"</PatientDemographics><Diagnosis><StmtText>{text}</StmtText></Diagnosis>{waveforms}</RestingECG>"
    )


def write_record(path, samples, leads=LEADS, file=None, sampling_hz=500, first_line=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples.T.astype("<i2").tofile(path.with_suffix(".dat"))
    lines = [first_line or f"{path.stem} {len(leads)} {sampling_hz} {samples.shape[1]}"]
    for lead, row in zip(leads, samples, strict=True):
        checksum = int(row.astype(np.int64).sum()) & 0xFFFF
        lines.append(f"{file or path.stem + '.dat'} 16 1000.0(0)/mV 16 0 {row[0]} {checksum} 0 {lead}")
    path.write_text("\n".join(lines) + "\n")
    return path


def read(reader, path, folder=None):
    """The ECG of a file as the reader of a format gives it."""
    return reader(EcgFile(path, folder or path.parent))


def reason_of(reader, path):
    """Why a file is a reject, by its reader or by the checks that follow."""
    with pytest.raises(Rejected) as rejected:
        check_ecg(read(reader, path), site_names=(), minimum_seconds=5)
    return rejected.value.reason


@pytest.fixture
def samples():
    return np.random.default_rng(1).integers(-2000, 2000, (12, 5000)).astype(np.int16)


@pytest.fixture
def counts():
    """Eight leads of ten seconds, each of its own."""
    return np.random.default_rng(0).integers(-900, 900, (8, 5000)).astype(np.int16)
