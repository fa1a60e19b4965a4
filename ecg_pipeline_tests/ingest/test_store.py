"""The waveform store: nothing is lost, nothing is named, nothing depends on how often it was interrupted."""

import os
import re
import shutil
import struct
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.ecg import LEADS
from ecg_pipeline.ingest import store as store_module
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, fixed_key, load_key, stated_age
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.ingest.store import IngestRecipe, ingest_site, named_rejects
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.ingest.conftest import export_xml, waveform_xml, write_record

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


def tables_of(folder):
    return str([pl.read_parquet(path).rows() for path in folder.rglob("*.parquet")])


def test_no_name_of_a_private_file_is_stored_whatever_its_format(tmp_path, counts, samples):
    text = export_xml(waveform_xml("Rhythm", counts))
    muse = replace(drop_of(tmp_path, ZORVEKQUIL=text, MIRDRAX=text, WUXLIF="no XML"), patients="private")
    (muse.path / "scan.WUXLIF").write_text("no XML")
    wfdb = DropFolder("there", tmp_path / "wfdb", "cinc", patients="private")
    write_record(wfdb.path / "p" / "ZORVEKQUIL.hea", samples)
    write_record(wfdb.path / "p" / "MIRDRAX.hea", samples[:3], LEADS[:3])
    for drop in (muse, wfdb):
        out = tmp_path / "out" / drop.site
        store = ingest(drop, IngestRecipe(), out)
        sources = [*store.records()["source"], *store.rejects()["source"]]
        assert len(set(sources)) == len(drop.ecg_files(list_files(drop)))
        assert all(re.fullmatch(r"~[0-9a-f]{16}(\.xml|\.hea)?", source) for source in sources)
        assert not [word for word in ("ZORVEKQUIL", "MIRDRAX", "WUXLIF") if word in tables_of(out)]
    named = named_rejects(muse, KEY, ingest(muse, IngestRecipe(), tmp_path / "out" / "here"))
    assert named.select("name", "reason", "twin_name").rows() == [
        ("WUXLIF.xml", "unreadable", None),
        ("ZORVEKQUIL.xml", "duplicate_waveform", "MIRDRAX.xml"),
        ("scan.WUXLIF", "unreadable", None),
    ]
    (muse.path / "WUXLIF.xml").unlink()
    assert None in named_rejects(muse, KEY, store_module.WaveformStore(tmp_path / "out" / "here"))["name"].to_list()


def test_whatever_a_reader_raises_is_a_reject_that_is_counted_by_name(tmp_path, counts, monkeypatch):
    drop = drop_of(tmp_path, a=export_xml(waveform_xml("Rhythm", counts)), b="1", c="2", d="3")
    read = store_module.read_muse_xml
    faults = {"b.xml": ZeroDivisionError, "c.xml": struct.error, "d.xml": ZeroDivisionError}

    def reader(path):
        if fault := faults.get(path.name):
            raise fault("ZORVEKQUIL, born 02-29-1940")
        return read(path)

    monkeypatch.setattr(store_module, "read_muse_xml", reader)
    first = ingest(drop, IngestRecipe(), tmp_path / "first")
    assert len(first.records()) == 1
    assert first.files_seen() == 4
    assert reject_counts(first) == {"unreadable": 3}
    assert first.reader_errors() == {"ZeroDivisionError": 2, "struct.error": 1}
    assert "ZORVEKQUIL" not in tables_of(tmp_path / "first")
    # Mended, the same files are read again though nothing about them changed.
    monkeypatch.setattr(store_module, "read_muse_xml", read)
    assert ingest(drop, IngestRecipe(), tmp_path / "second", before=tmp_path / "first").reader_errors() == {}


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_no_fault_of_a_file_ends_the_site(tmp_path, counts, monkeypatch, end):
    def reader(path):
        raise end

    monkeypatch.setattr(store_module, "read_muse_xml", reader)
    with pytest.raises(end):
        ingest(drop_of(tmp_path, a="1"), IngestRecipe(), tmp_path / "out")


def test_names_that_are_not_utf_8_and_links_to_themselves_end_nothing(tmp_path, counts):
    drop = drop_of(tmp_path)
    (drop.path / os.fsdecode(b"m\xfcller.xml")).write_text(export_xml(waveform_xml("Rhythm", counts)))
    (drop.path / "self.xml").symlink_to("self.xml")
    os.mkfifo(drop.path / "pipe.xml")
    store = ingest(drop, IngestRecipe(), tmp_path / "out")
    assert store.records()["source"].to_list() == ["m\\xfcller.xml"]
    assert reject_counts(store) == {"unreadable": 2}
    assert store.reader_errors() == {}


def test_a_file_that_changes_after_it_was_listed_waits_for_the_next_listing(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    drop = drop_of(tmp_path, a=text, b=text.replace("Sinus", "Other"), c=text[:-9])
    listing = list_files(drop)
    (drop.path / "c.xml").write_text(export_xml(waveform_xml("Rhythm", counts[::-1])))
    store = ingest_site(drop, listing, IngestRecipe(), KEY, tmp_path / "out")
    assert store.rejects().filter(pl.col("source") == "c.xml")["detail"].to_list() == [
        "changed since the folder was listed"
    ]
    assert "c.xml" in ingest(drop, IngestRecipe(), tmp_path / "next", before=tmp_path / "out").records()["source"]


def test_a_disk_that_goes_while_it_is_read_is_said_and_comes_back(tmp_path, counts):
    texts = {name: export_xml(waveform_xml("Rhythm", np.roll(counts, place, 1))) for place, name in enumerate("abcd")}
    drop = drop_of(tmp_path, **texts)
    listing = list_files(drop)
    for name in "bcd":
        (drop.path / f"{name}.xml").rename(tmp_path / f"{name}.xml")
    with pytest.raises(FileNotFoundError, match=r"3 of 4 files .* Is its disk mounted"):
        ingest_site(drop, listing, IngestRecipe(files_per_part=2), KEY, tmp_path / "out")
    for name in "bcd":
        (tmp_path / f"{name}.xml").rename(drop.path / f"{name}.xml")
    assert len(ingest_site(drop, listing, IngestRecipe(files_per_part=2), KEY, tmp_path / "out").records()) == 4


def made_of_the_same(folder, other):
    return (folder / "parts/part_00000/records.parquet").samefile(other / "parts/part_00000/records.parquet")


def test_a_changed_rule_takes_no_part_over(tmp_path, counts):
    drop = drop_of(tmp_path, a=export_xml(waveform_xml("Rhythm", counts)))
    ingest(drop, IngestRecipe(), tmp_path / "first")
    ingest(drop, IngestRecipe(), tmp_path / "same", before=tmp_path / "first")
    assert made_of_the_same(tmp_path / "same", tmp_path / "first")
    for number, change in enumerate([{"site_names": ("X",)}, {"mrn_system": "y"}, {"patients": "private"}]):
        out = tmp_path / str(number)
        ingest(replace(drop, **change), IngestRecipe(), out, before=tmp_path / "first")
        assert not made_of_the_same(out, tmp_path / "first")


@pytest.mark.parametrize("signals", ["a.dat", "other.dat"])
def test_a_changed_signal_file_or_table_takes_no_part_over(tmp_path, samples, signals):
    drop = DropFolder("p", tmp_path / "drop", "ptb_xl", patients="public")
    header = write_record(drop.path / "a.hea", samples, file=signals)
    header.with_suffix(".dat").rename(drop.path / signals)
    table = "filename_hr,patient_id,scp_codes,age\na,1,{},50\n"
    (drop.path / "ptbxl_database.csv").write_text(table)
    ingest(drop, IngestRecipe(), tmp_path / "first")
    (drop.path / "ptbxl_database.csv").write_text(table.replace("50", "66"))
    second = ingest(drop, IngestRecipe(), tmp_path / "second", before=tmp_path / "first")
    assert second.records()["age_years"].to_list() == [66]
    write_record(tmp_path / "elsewhere" / "a.hea", samples[:, ::-1], file=signals)
    (tmp_path / "elsewhere" / "a.dat").rename(drop.path / signals)
    header_lines = (tmp_path / "elsewhere" / "a.hea").read_text()
    third = ingest(drop, IngestRecipe(), tmp_path / "third", before=tmp_path / "second")
    assert (third.records()["source_sha256"] == second.records()["source_sha256"]).all()
    assert third.records()["waveform_sha256"].to_list() != second.records()["waveform_sha256"].to_list()
    assert header_lines.splitlines()[0] == header.read_text().splitlines()[0]


def test_long_recordings_of_one_shape_make_room_as_they_come(tmp_path, counts, monkeypatch):
    monkeypatch.setattr(store_module, "STACK_BYTES", counts.nbytes)
    texts = {f"f{n}": export_xml(waveform_xml("Rhythm", np.roll(counts, n, 1))) for n in range(5)}
    store = ingest(drop_of(tmp_path, **texts), IngestRecipe(), tmp_path / "out")
    for place, read in enumerate(store.counts(store.records())):
        assert (read == np.roll(counts, place, 1)).all()
