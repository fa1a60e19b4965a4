"""The waveform store: nothing is lost, nothing is named, nothing depends on how often it was interrupted."""

import shutil

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.files import folder_digests
from ecg_pipeline.records.drop_folder import DropFolder, list_files
from ecg_pipeline.records.labels import collect_labels
from ecg_pipeline.records.pseudonyms import PseudonymKey, fixed_key, load_key, stated_age
from ecg_pipeline.records.rejects import RejectReason
from ecg_pipeline.records.store import IngestRecipe, ingest_site
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.records.conftest import export_xml, waveform_xml

KEY = fixed_key("test")
SMALL_PARTS = IngestRecipe(files_per_part=16)


@pytest.fixture(scope="module")
def hospital(tmp_path_factory):
    folder = tmp_path_factory.mktemp("system") / "system"
    return folder, write_hospital_system(HospitalSystem(patients=60, ecgs=90, seed=1), folder)


def mount_sinai(folder, patients="private"):
    return DropFolder(
        "mount_sinai",
        folder / "mount_sinai",
        "muse_xml",
        ("MOUNT SINAI HOSPITAL",),
        "system",
        ("echo_reports.csv", "diagnoses.csv"),
        patients,
    )


def drop_of(tmp_path, **texts):
    folder = tmp_path / "drop"
    folder.mkdir()
    for name, text in texts.items():
        (folder / f"{name}.xml").write_text(text, encoding="iso-8859-1")
    return DropFolder("here", folder, "muse_xml", mrn_system="here", patients="synthetic")


def ingest(drop, recipe, out, **options):
    return ingest_site(drop, list_files(drop), recipe, KEY, out, **options)


def reject_counts(store):
    return dict(store.rejects().group_by("reason").len().iter_rows())


def test_what_was_planted_is_found_reason_by_reason(hospital, tmp_path):
    folder, planted = hospital
    truth = planted.sites["mount_sinai"]
    store = ingest(mount_sinai(folder), SMALL_PARTS, tmp_path)
    assert len(store.records()) == truth.usable
    assert reject_counts(store) == truth.rejects
    assert {str(reason) for reason in RejectReason} - set(truth.rejects) <= {RejectReason.MISSING_SIGNAL_FILE}


def test_no_identity_comes_out(hospital, tmp_path, capfd):
    folder, planted = hospital
    ingest(mount_sinai(folder), SMALL_PARTS, tmp_path / "store")
    collect_labels(mount_sinai(folder), list_files(mount_sinai(folder)), KEY, tmp_path / "labels")
    tables = [pl.read_parquet(path) for path in tmp_path.rglob("*.parquet")]
    written = " ".join(str(value) for table in tables for row in table.iter_rows() for value in row).upper()
    written += "".join(capfd.readouterr())
    assert len(planted.identities) > 50
    assert not [word for word in planted.identities if word.upper() in written]


def test_real_exports_keep_their_patients_to_themselves(shared, tmp_path, capfd):
    drop = DropFolder("real", shared / "data" / "muse_xml", "muse_xml", mrn_system="real")
    store = ingest(drop, IngestRecipe(), tmp_path)
    assert len(store.records()) == 6
    tables = [pl.read_parquet(path) for path in tmp_path.rglob("*.parquet")]
    written = str([table.rows() for table in tables]) + "".join(capfd.readouterr())
    for word in ("PLANTED", "7707", "7708", "7709", "7710", "1940"):
        assert word not in written


def test_interrupted_or_not_and_with_any_number_of_workers_the_bytes_are_the_same(hospital, tmp_path):
    drop = mount_sinai(hospital[0])
    ingest(drop, SMALL_PARTS, tmp_path / "whole")
    ingest(drop, SMALL_PARTS, tmp_path / "two", workers=2)
    ingest(drop, SMALL_PARTS, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "parts" / "part_00001")
    (tmp_path / "cut" / "waveforms.zarr" / "part_00001" / "zarr.json").unlink()
    (tmp_path / "cut" / "records.parquet").unlink()
    ingest(drop, SMALL_PARTS, tmp_path / "cut")
    whole = folder_digests(tmp_path / "whole")
    assert folder_digests(tmp_path / "two") == whole
    assert folder_digests(tmp_path / "cut") == whole


def test_einthoven_and_goldberger_on_read(tmp_path, counts):
    store = ingest(drop_of(tmp_path, a=export_xml(waveform_xml("Rhythm", counts))), IngestRecipe(), tmp_path)
    x = dict(zip(LEADS, next(store.millivolts(store.records(), LEADS))[1][0], strict=True))
    np.testing.assert_allclose(x["III"], x["II"] - x["I"], atol=1e-5)
    np.testing.assert_allclose(x["aVR"] + x["aVL"] + x["aVF"], 0, atol=1e-5)
    np.testing.assert_allclose(x["V3"], counts[4] * 4.88 / 1000, rtol=1e-6)


def test_a_duplicate_names_its_twin(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    other = export_xml(waveform_xml("Rhythm", counts[::-1]))
    store = ingest(drop_of(tmp_path, a=text, b=other, c=text), IngestRecipe(), tmp_path)
    records, rejects = store.records(), store.rejects()
    assert records["source"].to_list() == ["a.xml", "b.xml"]
    assert rejects.select("source", "reason", "twin").rows() == [("c.xml", "duplicate_waveform", records["record"][0])]


def test_files_that_must_not_be_opened(tmp_path, counts):
    drop = drop_of(tmp_path, good=export_xml(waveform_xml("Rhythm", counts)))
    (tmp_path / "secret.xml").write_text(export_xml(waveform_xml("Rhythm", counts)))
    (drop.path / "link.xml").symlink_to(tmp_path / "secret.xml")
    (drop.path / "folder").symlink_to(tmp_path, target_is_directory=True)
    with (drop.path / "huge.xml").open("wb") as file:
        file.truncate(300 * 2**20)
    store = ingest(drop, IngestRecipe(), tmp_path / "out")
    assert reject_counts(store) == {"outside_folder": 2, "too_large": 1}
    assert len(store.records()) == 1


def test_only_this_sites_exports(tmp_path, counts):
    drop = drop_of(tmp_path, a=export_xml(waveform_xml("Rhythm", counts)))
    store = ingest(
        DropFolder("here", drop.path, "muse_xml", ("ANOTHER HOSPITAL",), "here"), IngestRecipe(), tmp_path / "out"
    )
    assert reject_counts(store) == {"other_site": 1}


def test_short_and_flat_signals(tmp_path, counts):
    short = export_xml(waveform_xml("Rhythm", counts[:, :2000]))
    flat = export_xml(waveform_xml("Rhythm", np.zeros_like(counts)))
    store = ingest(drop_of(tmp_path, short=short, flat=flat), IngestRecipe(), tmp_path / "out")
    assert reject_counts(store) == {"too_short": 1, "flat_signal": 1}


def test_label_tables_carry_pseudonyms(hospital, tmp_path):
    drop = mount_sinai(hospital[0])
    labels = collect_labels(drop, list_files(drop), KEY, tmp_path / "labels").labels()
    store = ingest(mount_sinai(hospital[0]), SMALL_PARTS, tmp_path / "store")
    assert set(labels["system"]) == {"measurement", "diagnosis"}
    patients = set(store.records()["patient"].drop_nulls())
    assert len(set(labels["patient"]) & patients) > 0.8 * len(patients)


def test_a_label_table_without_its_columns_says_so(tmp_path):
    (tmp_path / "t.csv").write_text("mrn,value\n1,2\n")
    drop = DropFolder("s", tmp_path, "muse_xml", label_tables=("t.csv",))
    with pytest.raises(ValueError, match=r"no column patient_id, observed_at, system, code"):
        collect_labels(drop, list_files(drop), KEY, tmp_path / "out")


def test_pseudonyms_are_keyed_and_kept_apart():
    other = PseudonymKey(b"another secret of some length")
    assert KEY.pseudonym("a", "123") == KEY.pseudonym("a", " 123 ")
    assert len({KEY.pseudonym("a", "123"), KEY.pseudonym("b", "123"), other.pseudonym("a", "123")}) == 3
    assert "secret" not in repr(other)


def test_a_missing_key_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.delenv("ECG_PSEUDONYM_KEY", raising=False)
    with pytest.raises(ValueError, match=r"(?s)set ECG_PSEUDONYM_KEY.*secrets"):
        load_key(tmp_path)
    (tmp_path / "pseudonym.key").write_text("0123456789abcdef")
    assert load_key(tmp_path) == PseudonymKey(b"0123456789abcdef")


@given(st.floats(0, 150))
def test_great_ages_are_not_told_apart(age):
    assert stated_age(age) == (90.0 if age > 89 else age)


def test_files_that_come_or_go_while_others_are_read(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    drop = drop_of(tmp_path, a=text, b=text)

    def progress(done, total):
        assert total == 2
        (drop.path / "b.xml").unlink(missing_ok=True)
        (drop.path / "c.xml").write_text(text, encoding="iso-8859-1")

    store = ingest(drop, IngestRecipe(files_per_part=1), tmp_path / "store", progress=progress)
    assert store.records()["source"].to_list() == ["a.xml"]
    assert store.rejects().select("source", "reason", "detail").rows() == [
        ("b.xml", "unreadable", "gone since the folder was listed")
    ]
