"""Files of every other format go through to a cohort, as recorded, and nobody's name is in anything that is written."""

import re
import shutil

import numpy as np
import polars as pl
import pydicom
import pytest
from scipy.io import loadmat

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration.assets import ingest
from ecg_pipeline_tests.ingest.conftest import EXAM, write_code15, write_csv, write_record
from ecg_pipeline_tests.orchestration.conftest import open_runner

PLANTED = ("ZORVEKQUIL", "19400229", "MRN-77123")
"""A name, a birth date and the beginning of patients' numbers, in the files of private patients."""

PATIENTS = 40
SITES = {"sph": 10, "mimic": PATIENTS, "aecg": PATIENTS, "dicom": PATIENTS}

STUDY = """\
name: formats
title: Every other format
sites:
  code15: {{title: CODE-15, format: code15, path: {folder}/code15, patients: public, pretraining: true}}
  sph: {{title: SPH, format: sph, path: {folder}/sph, patients: public}}
  mimic: {{title: MIMIC, format: mimic_iv_ecg, path: {folder}/mimic, patients: public}}
  aecg: {{title: A trial, format: hl7_aecg, path: {folder}/aecg, label_tables: [labels.csv]}}
  dicom: {{title: A hospital, format: dicom, path: {folder}/dicom, label_tables: [labels.csv]}}
split: {{test: 0.3, validation: 0.15}}
tokenizer: {{vocabulary: 32, hidden: 8, steps: 40, batch: 8}}
windows: {{ten_seconds: {{sampling_hz: 100, standardise: lead, short: pad}}}}
models: {{small_cnn: {{family: small_cnn, window: ten_seconds, widths: [8, 16]}}}}
tasks:
  fibrillation: {{title: A, sites: [code15], rule: {{kind: statement, system: code15, positive: [AF]}}}}
  sinus_rhythm: {{title: B, sites: [sph], rule: {{kind: statement, system: aha, positive: ["1"]}}}}
  arrhythmia: {{title: C, sites: [sph], rule: {{kind: statement, system: snomed, positive: ["427393009"]}}}}
  carts_fibrillation:
    title: D
    sites: [mimic]
    rule: {{kind: statement, system: muse, positive: [ATRIAL FIBRILLATION]}}
  hcm: {{title: E, sites: [aecg, dicom], rule: {{kind: diagnosis, code: I42.1}}}}
fractions: [1.0]
finetuning: {{epochs: 1, batch: 8}}
evaluation: {{bootstrap_draws: 20}}
"""


def number(patient):
    return f"MRN-77123-{patient:03}"


def write_labels(path):
    write_csv(
        path,
        [
            {
                "patient_id": number(n),
                "observed_at": "2020-01-01",
                "system": "diagnosis",
                "code": "I42.1",
                "value": n % 2,
            }
            for n in range(PATIENTS)
        ],
    )


def write_code15_site(folder, samples):
    real = {int(path.stem.rpartition("_")[2]): loadmat(path)["feats"].T for path in sorted(samples.glob("*.mat"))}
    exams = {exam + 10_000_000 * copy: (1 + copy / 8) * x for exam, x in real.items() for copy in range(4)}
    rows = [{"exam_id": exam, "patient_id": exam, **EXAM, "AF": str(exam % 2 == 0)} for exam in exams]
    write_code15(folder, exams, rows)
    return exams


def write_sph_site(folder, samples):
    folder.mkdir()
    for path in samples.glob("*"):
        shutil.copy(path, folder)
    return folder


def write_mimic_site(folder):
    chance, records, words = np.random.default_rng(0), [], []
    for n in range(PATIENTS):
        subject, study = 10_000_000 + n, 40_000_000 + n
        path = f"files/p1000/p{subject}/s{study}/{study}"
        samples = chance.integers(-2000, 2000, (12, 5000)).astype(np.int16)
        first_line = f"{study} 12 500 5000 10:20:30 29/02/2180"
        write_record((folder / path).with_suffix(".hea"), samples, first_line=first_line)
        records.append({"subject_id": subject, "study_id": study, "path": path})
        said = ["Atrial fibrillation" if n % 2 else "Sinus rhythm", "Abnormal ECG"]
        lines = {f"report_{place}": (said[place : place + 1] or [""])[0] for place in range(18)}
        words.append({"subject_id": subject, "study_id": study, **lines})
    write_csv(folder / "record_list.csv", records)
    write_csv(folder / "machine_measurements.csv", words[::-1])


def write_aecg_site(folder, samples):
    folder.mkdir()
    text = (samples / "Example_aECG.xml").read_text()
    for n in range(PATIENTS):
        own = text.replace("SBJ-123", number(n)).replace("Clark", "ZORVEKQUIL").replace("19530508", "19400229")
        own = re.sub(r"<digits> -2 ", f"<digits> {n} ", own)
        (folder / f"ZORVEKQUIL_{n}.xml").write_text(own)
    write_labels(folder / "labels.csv")


def write_dicom_site(folder, sample):
    folder.mkdir()
    found = pydicom.dcmread(sample)
    for n in range(PATIENTS):
        found.PatientID, found.PatientName = number(n), "ZORVEKQUIL^ANNA"
        found.PatientBirthDate, found.OtherPatientIDs = "19400229", number(n)
        group = found.WaveformSequence[0]
        samples = np.frombuffer(group.WaveformData, "<i2").copy()
        samples[0] = n
        group.WaveformData = samples.tobytes()
        pydicom.dcmwrite(folder / f"ZORVEKQUIL_{n}", found)
    write_labels(folder / "labels.csv")


def write_formats(folder, samples):
    """Write all sites and the study file `formats.yaml`. Returns the exams of CODE-15."""
    exams = write_code15_site(folder / "code15", samples / "code15")
    write_sph_site(folder / "sph", samples / "sph")
    write_mimic_site(folder / "mimic")
    write_aecg_site(folder / "aecg", samples / "hl7_aecg")
    write_dicom_site(folder / "dicom", samples / "dicom" / "anonymous_ecg.dcm")
    (folder / "formats.yaml").write_text(STUDY.format(folder=folder))
    return exams


@pytest.fixture(scope="module")
def formats(shared, tmp_path_factory):
    """The archive of the study after its cohorts were materialised, its home, and the exams of CODE-15."""
    folder = tmp_path_factory.mktemp("formats")
    exams, study = write_formats(folder, shared / "data" / "other_formats"), folder / "formats.yaml"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_HOME", str(folder / "home"))
        patch.setenv("ECG_STUDY", str(study))
        patch.setenv("ECG_WORKERS", "1")
        patch.setenv("ECG_PSEUDONYM_KEY", "a secret of this test alone")
        patch.setattr(ingest, "SETTLE_S", 0.0)
        runner = open_runner(study)
        cohorts = [f"{task}/cohort" for task in runner.workspace.study.tasks]
        assert runner.run_stale(["waveform_store", "clinical_labels", *cohorts])
        assert runner.run_stale(["waveform_store", "clinical_labels", *cohorts]) == []
        yield runner.workspace.archive, folder / "home", exams


def store_of(archive, site):
    return WaveformStore(archive.folder(archive.require("waveform_store", site)))


@pytest.mark.parametrize(
    ("site", "ecgs", "rejects"),
    [
        ("code15", 40, {"too_short"}),
        ("sph", 10, set()),
        ("mimic", 40, set()),
        ("aecg", 40, set()),
        ("dicom", 40, set()),
    ],
)
def test_every_file_is_an_ecg_or_a_reject_with_a_reason(formats, site, ecgs, rejects):
    store = store_of(formats[0], site)
    assert len(store.ecgs()) == ecgs
    assert set(store.rejects()["reason"]) == rejects
    assert store.reader_errors() == {}


@pytest.mark.parametrize(
    ("task", "labelled", "positive"),
    [
        ("fibrillation", 40, 24),
        ("sinus_rhythm", 9, 6),
        ("arrhythmia", 9, 2),
        ("carts_fibrillation", 40, 20),
        ("hcm", 80, 40),
    ],
)
def test_every_format_goes_through_to_a_cohort(formats, task, labelled, positive):
    archive = formats[0]
    table = Cohort(archive.folder(archive.require(f"{task}/cohort", None))).table()
    assert (len(table), int(table["label"].sum())) == (labelled, positive)


def test_waveforms_are_those_of_the_exams(formats):
    store, exams = store_of(formats[0], "code15"), formats[2]
    for row in store.ecgs().iter_slices(1):
        _, x_mv = next(store.millivolts(row, LEADS))
        assert np.abs(x_mv[0] - exams[int(row["source"][0].rpartition("#")[2])].T).max() <= 0.000501


def check_nobody_is_named(home):
    """None of `PLANTED` is in a file below a home, or in a path."""
    tables = [pl.read_parquet(path).rows() for path in home.rglob("*.parquet")]
    texts = [path.read_bytes().decode(errors="replace") for path in home.rglob("*") if path.is_file()]
    written = "".join([str(tables), *texts, *(str(path) for path in home.rglob("*"))]).upper()
    assert len(tables) > 10
    assert [word for word in (*PLANTED, "1940-02-29") if word in written] == []


def test_nobodys_name_is_in_anything_that_is_written(formats):
    check_nobody_is_named(formats[1])
