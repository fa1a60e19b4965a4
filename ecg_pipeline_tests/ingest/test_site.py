"""Reading a site: nothing is lost, no patient is named, and nothing depends on how often it was interrupted."""

import os
import re
import shutil
import struct
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.ecg import INDEPENDENT_LEADS, LEADS
from ecg_pipeline.ingest import site as site_module
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.ingest.site import ingest_site, named_rejects
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.ingest.conftest import export_xml, waveform_xml, write_record

KEY = fixed_key("test")
SMALL_SHARDS = IngestRecipe(files_per_shard=16)


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
    return ingest_site(drop, list_files(drop), recipe=recipe, key=KEY, out=out, **options)


def reject_counts(store):
    return dict(store.rejects().group_by("reason").len().iter_rows())


def test_what_was_planted_is_found_reason_by_reason(hospital, tmp_path):
    folder, planted = hospital
    truth = planted.sites["mount_sinai"]
    store = ingest(mount_sinai(folder), SMALL_SHARDS, tmp_path)
    assert len(store.ecgs()) == truth.usable
    assert reject_counts(store) == truth.rejects
    assert {str(reason) for reason in RejectReason} - set(truth.rejects) <= {
        RejectReason.MISSING_SIGNAL_FILE,
        RejectReason.WITHDRAWN,
    }


def test_no_identity_comes_out(hospital, tmp_path, capfd):
    folder, planted = hospital
    ingest(mount_sinai(folder), SMALL_SHARDS, tmp_path / "store")
    collect_labels(mount_sinai(folder), list_files(mount_sinai(folder)), key=KEY, out=tmp_path / "labels")
    tables = [pl.read_parquet(path) for path in tmp_path.rglob("*.parquet")]
    written = " ".join(str(value) for table in tables for row in table.iter_rows() for value in row).upper()
    written += "".join(capfd.readouterr())
    assert len(planted.identities) > 50
    assert not [word for word in planted.identities if word.upper() in written]


def test_real_exports_keep_their_patients_to_themselves(shared, tmp_path, capfd):
    drop = DropFolder("real", shared / "data" / "muse_xml", "muse_xml", mrn_system="real")
    store = ingest(drop, IngestRecipe(), tmp_path)
    assert len(store.ecgs()) == 6
    tables = [pl.read_parquet(path) for path in tmp_path.rglob("*.parquet")]
    written = str([table.rows() for table in tables]) + "".join(capfd.readouterr())
    for word in ("PLANTED", "7707", "7708", "7709", "7710", "1940"):
        assert word not in written


def test_interrupted_or_not_and_with_any_number_of_workers_the_bytes_are_the_same(hospital, tmp_path):
    drop = mount_sinai(hospital[0])
    ingest(drop, SMALL_SHARDS, tmp_path / "whole")
    ingest(drop, SMALL_SHARDS, tmp_path / "two", workers=2)
    ingest(drop, SMALL_SHARDS, tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "tables" / "shard_00001")
    (tmp_path / "cut" / "waveforms.zarr" / "shard_00001" / "zarr.json").unlink()
    (tmp_path / "cut" / "ecgs.parquet").unlink()
    ingest(drop, SMALL_SHARDS, tmp_path / "cut")
    whole = folder_digests(tmp_path / "whole")
    assert folder_digests(tmp_path / "two") == whole
    assert folder_digests(tmp_path / "cut") == whole


def test_a_duplicate_names_its_twin(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    other = export_xml(waveform_xml("Rhythm", counts[::-1]))
    store = ingest(drop_of(tmp_path, a=text, b=other, c=text), IngestRecipe(), tmp_path)
    ecgs, rejects = store.ecgs(), store.rejects()
    assert ecgs["source"].to_list() == ["a.xml", "b.xml"]
    assert rejects.select("source", "reason", "twin").rows() == [("c.xml", "duplicate_waveform", ecgs["ecg_id"][0])]


def test_a_duplicate_is_one_whatever_scale_its_file_states(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    texts = {"b": text.replace("4.88", "2.44"), "c": text.replace("4.88", "2.44", 1), "d": text}
    store = ingest(drop_of(tmp_path, a=text, **texts), IngestRecipe(files_per_shard=1), tmp_path)
    assert store.ecgs().select("source", "microvolts_per_count").rows() == [("a.xml", [4.88] * 8)]
    assert store.rejects().select("source", "reason", "detail").rows() == [
        ("b.xml", "duplicate_waveform", "the same waveform as its twin, whose file states another scale"),
        ("c.xml", "duplicate_waveform", "the same waveform as its twin, whose file states another scale"),
        ("d.xml", "duplicate_waveform", "the same waveform as its twin"),
    ]
    assert store.rejects()["twin"].unique().to_list() == store.ecgs()["ecg_id"].to_list()


def test_the_order_of_leads_in_a_file_is_no_part_of_a_recording_but_their_names_and_rate_are(tmp_path, counts):
    leads = INDEPENDENT_LEADS
    waveforms = {
        "a": waveform_xml("Rhythm", counts),
        "b": waveform_xml("Rhythm", counts[::-1], leads[::-1]),
        "c": waveform_xml("Rhythm", counts, leads[::-1]),
        "d": waveform_xml("Rhythm", counts, base="250"),
    }
    texts = {name: export_xml(waveform) for name, waveform in waveforms.items()}
    store = ingest(drop_of(tmp_path, **texts), IngestRecipe(), tmp_path)
    assert store.ecgs()["source"].to_list() == ["a.xml", "c.xml", "d.xml"]
    assert store.rejects()["source"].to_list() == ["b.xml"]


def test_files_that_must_not_be_opened(tmp_path, counts):
    drop = drop_of(tmp_path, good=export_xml(waveform_xml("Rhythm", counts)))
    (tmp_path / "secret.xml").write_text(export_xml(waveform_xml("Rhythm", counts)))
    (drop.path / "link.xml").symlink_to(tmp_path / "secret.xml")
    (drop.path / "folder").symlink_to(tmp_path, target_is_directory=True)
    with (drop.path / "huge.xml").open("wb") as file:
        file.truncate(300 * 2**20)
    store = ingest(drop, IngestRecipe(), tmp_path / "out")
    assert reject_counts(store) == {"outside_folder": 2, "too_large": 1}
    assert len(store.ecgs()) == 1


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


def test_files_that_come_or_go_while_others_are_read(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    drop = drop_of(tmp_path, a=text, b=text)

    def progress(done, total):
        assert total == 2
        (drop.path / "b.xml").unlink(missing_ok=True)
        (drop.path / "c.xml").write_text(text, encoding="iso-8859-1")

    store = ingest(drop, IngestRecipe(files_per_shard=1), tmp_path / "store", progress=progress)
    assert store.ecgs()["source"].to_list() == ["a.xml"]
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
        sources = [*store.ecgs()["source"], *store.rejects()["source"]]
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
    assert None in named_rejects(muse, KEY, WaveformStore(tmp_path / "out" / "here"))["name"].to_list()


def test_whatever_a_reader_raises_is_a_reject_that_is_counted_by_name(tmp_path, counts, monkeypatch):
    drop = drop_of(tmp_path, a=export_xml(waveform_xml("Rhythm", counts)), b="1", c="2", d="3")
    read = FORMATS["muse_xml"].read
    faults = {"b.xml": ZeroDivisionError, "c.xml": struct.error, "d.xml": ZeroDivisionError}

    def reader(file):
        if fault := faults.get(file.path.name):
            raise fault("ZORVEKQUIL, born 02-29-1940")
        return read(file)

    monkeypatch.setitem(FORMATS, "muse_xml", replace(FORMATS["muse_xml"], read=reader))
    first = ingest(drop, IngestRecipe(), tmp_path / "first")
    assert len(first.ecgs()) == 1
    assert first.files_seen() == 4
    assert reject_counts(first) == {"unreadable": 3}
    assert first.reader_errors() == {"ZeroDivisionError": 2, "struct.error": 1}
    assert "ZORVEKQUIL" not in tables_of(tmp_path / "first")
    # With the reader fixed, the same files are read again though nothing about them changed.
    monkeypatch.setitem(FORMATS, "muse_xml", replace(FORMATS["muse_xml"], read=read))
    assert ingest(drop, IngestRecipe(), tmp_path / "second", previous=tmp_path / "first").reader_errors() == {}


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, MemoryError])
def test_what_is_no_fault_of_a_file_ends_the_site(tmp_path, counts, monkeypatch, end):
    def reader(file):
        raise end

    monkeypatch.setitem(FORMATS, "muse_xml", replace(FORMATS["muse_xml"], read=reader))
    with pytest.raises(end):
        ingest(drop_of(tmp_path, a="1"), IngestRecipe(), tmp_path / "out")


def test_names_that_are_not_utf_8_and_links_to_themselves_end_nothing(tmp_path, counts):
    drop = drop_of(tmp_path)
    (drop.path / os.fsdecode(b"m\xfcller.xml")).write_text(export_xml(waveform_xml("Rhythm", counts)))
    (drop.path / "self.xml").symlink_to("self.xml")
    os.mkfifo(drop.path / "pipe.xml")
    store = ingest(drop, IngestRecipe(), tmp_path / "out")
    assert store.ecgs()["source"].to_list() == ["m\\xfcller.xml"]
    assert reject_counts(store) == {"unreadable": 2}
    assert store.reader_errors() == {}


def test_a_file_that_changes_after_it_was_listed_waits_for_the_next_listing(tmp_path, counts):
    text = export_xml(waveform_xml("Rhythm", counts))
    drop = drop_of(tmp_path, a=text, b=text.replace("Sinus", "Other"), c=text[:-9])
    listing = list_files(drop)
    (drop.path / "c.xml").write_text(export_xml(waveform_xml("Rhythm", counts[::-1])))
    store = ingest_site(drop, listing, recipe=IngestRecipe(), key=KEY, out=tmp_path / "out")
    assert store.rejects().filter(pl.col("source") == "c.xml")["detail"].to_list() == [
        "changed since the folder was listed"
    ]
    assert "c.xml" in ingest(drop, IngestRecipe(), tmp_path / "next", previous=tmp_path / "out").ecgs()["source"]


def test_a_disk_that_goes_while_it_is_read_is_said_and_comes_back(tmp_path, counts):
    texts = {name: export_xml(waveform_xml("Rhythm", np.roll(counts, place, 1))) for place, name in enumerate("abcd")}
    drop = drop_of(tmp_path, **texts)
    listing, recipe = list_files(drop), IngestRecipe(files_per_shard=2)
    for name in "bcd":
        (drop.path / f"{name}.xml").rename(tmp_path / f"{name}.xml")
    with pytest.raises(FileNotFoundError, match=r"3 of 4 files .* Is its disk mounted"):
        ingest_site(drop, listing, recipe=recipe, key=KEY, out=tmp_path / "out")
    for name in "bcd":
        (tmp_path / f"{name}.xml").rename(drop.path / f"{name}.xml")
    assert len(ingest_site(drop, listing, recipe=recipe, key=KEY, out=tmp_path / "out").ecgs()) == 4


def shares_its_shard(folder, other):
    return (folder / "tables/shard_00000/ecgs.parquet").samefile(other / "tables/shard_00000/ecgs.parquet")


def test_with_a_changed_rule_no_shard_is_reused(tmp_path, counts):
    drop = drop_of(tmp_path, a=export_xml(waveform_xml("Rhythm", counts)))
    ingest(drop, IngestRecipe(), tmp_path / "first")
    ingest(drop, IngestRecipe(), tmp_path / "same", previous=tmp_path / "first")
    assert shares_its_shard(tmp_path / "same", tmp_path / "first")
    for number, change in enumerate([{"site_names": ("X",)}, {"mrn_system": "y"}, {"patients": "private"}]):
        out = tmp_path / str(number)
        ingest(replace(drop, **change), IngestRecipe(), out, previous=tmp_path / "first")
        assert not shares_its_shard(out, tmp_path / "first")


@pytest.mark.parametrize("signals", ["a.dat", "other.dat"])
def test_with_a_changed_signal_file_or_table_no_shard_is_reused(tmp_path, samples, signals):
    drop = DropFolder("p", tmp_path / "drop", "ptb_xl", patients="public")
    header = write_record(drop.path / "a.hea", samples, file=signals)
    header.with_suffix(".dat").rename(drop.path / signals)
    table = "filename_hr,patient_id,scp_codes,age\na,1,{},50\n"
    (drop.path / "ptbxl_database.csv").write_text(table)
    ingest(drop, IngestRecipe(), tmp_path / "first")
    (drop.path / "ptbxl_database.csv").write_text(table.replace("50", "66"))
    second = ingest(drop, IngestRecipe(), tmp_path / "second", previous=tmp_path / "first")
    assert second.ecgs()["age_years"].to_list() == [66]
    write_record(tmp_path / "elsewhere" / "a.hea", samples[:, ::-1], file=signals)
    (tmp_path / "elsewhere" / "a.dat").rename(drop.path / signals)
    header_lines = (tmp_path / "elsewhere" / "a.hea").read_text()
    third = ingest(drop, IngestRecipe(), tmp_path / "third", previous=tmp_path / "second")
    assert (third.ecgs()["source_sha256"] == second.ecgs()["source_sha256"]).all()
    assert third.ecgs()["waveform_sha256"].to_list() != second.ecgs()["waveform_sha256"].to_list()
    assert header_lines.splitlines()[0] == header.read_text().splitlines()[0]


def test_long_recordings_of_one_shape_make_room_as_they_come(tmp_path, counts, monkeypatch):
    monkeypatch.setattr(site_module, "STACK_BYTES", counts.nbytes)
    texts = {f"f{n}": export_xml(waveform_xml("Rhythm", np.roll(counts, n, 1))) for n in range(5)}
    store = ingest(drop_of(tmp_path, **texts), IngestRecipe(), tmp_path / "out")
    for place, read in enumerate(store.counts(store.ecgs())):
        assert (read == np.roll(counts, place, 1)).all()
