"""Exports and WFDB records of any content, and reading one of them."""

import base64
import csv
import zlib

import h5py
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


def read(reader, path, folder=None, member=None):
    """The ECG of a file, or one of a file of many, as the reader of a format gives it."""
    return reader(EcgFile(path, folder or path.parent, member=member))


def reason_of(reader, path, member=None):
    """Why a file is a reject, by its reader or by the checks that follow."""
    with pytest.raises(Rejected) as rejected:
        check_ecg(read(reader, path, member=member), site_names=(), minimum_seconds=5)
    return rejected.value.reason


EXAM = {
    "age": "50",
    "is_male": "True",
    **dict.fromkeys(("1dAVb", "RBBB", "LBBB", "SB", "ST", "AF", "normal_ecg"), "False"),
}
"""A row of CODE-15's table without its identifiers."""


def write_code15(folder, exams, rows=(), name="exams_part0.hdf5", samples=4096, **options):
    """A folder in CODE-15's layout. exams: the tracings in millivolts (T, 12) by exam, put in the middle of zeros; a
    last exam 0 is all zeros, as in the published files. rows: rows of the table, as what differs from `EXAM`."""
    folder.mkdir(parents=True, exist_ok=True)
    tracings = np.zeros((len(exams) + 1, samples, 12), np.float32)
    for place, x_mv in enumerate(exams.values()):
        before = (samples - len(x_mv)) // 2
        tracings[place, before : before + len(x_mv)] = x_mv
    with h5py.File(folder / name, "w") as file:
        file["exam_id"] = np.array([*exams, 0], np.int64)
        file.create_dataset("tracings", data=tracings, **options)
    lines = [{"exam_id": exam, "patient_id": f"9{exam}", **EXAM} for exam in exams] if rows == () else rows
    write_csv(folder / "exams.csv", [{**EXAM, **line} for line in lines])
    return folder / name


def write_csv(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(column for row in rows for column in row)))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def samples():
    return np.random.default_rng(1).integers(-2000, 2000, (12, 5000)).astype(np.int16)


@pytest.fixture
def counts():
    """Eight leads of ten seconds, each of its own."""
    return np.random.default_rng(0).integers(-900, 900, (8, 5000)).astype(np.int16)
