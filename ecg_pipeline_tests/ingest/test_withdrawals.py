"""The files of patients who withdrew are rejects from then on, and no shard is touched that has none of them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.ingest.drop_folder import DropFolder, list_files, listing_version
from ecg_pipeline.ingest.labels import WITHDRAWN, collect_labels
from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.ingest.withdrawals import Register, Withdrawals, register_entry
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline_tests.ingest.conftest import export_xml, waveform_xml

KEY = PseudonymKey(b"a key of these tests")
RECIPE = IngestRecipe(files_per_shard=2)
PATIENTS = "7700", "7711", "7722"


def export(patient, seed, seconds=10):
    counts = np.random.default_rng(seed).integers(-900, 900, (8, 500 * seconds)).astype(np.int16)
    return export_xml(waveform_xml("Rhythm", counts), patient=f"<PatientID>{patient}</PatientID>")


def write_files(folder, patients, **options):
    """One export of each patient, in the order of their names."""
    folder.mkdir(exist_ok=True)
    for number, patient in enumerate(patients):
        (folder / f"{number:03d}.xml").write_text(export(patient, number, **options))


def drop_of(folder, withdrawn=(), here=None):
    entries = frozenset(register_entry(KEY, KEY.pseudonym("system", patient)) for patient in withdrawn)
    register = Withdrawals(entries, entries if here is None else here)
    return DropFolder("north", folder, "muse_xml", mrn_system="system", label_tables=(), withdrawals=register)


def ingest(drop, out, previous=None):
    return ingest_site(drop, list_files(drop), recipe=RECIPE, key=KEY, out=out, previous=previous)


def shards_of(folder):
    """By shard the inodes of all its files."""
    found = {}
    for path in sorted(folder.rglob("shard_*/**/*")):
        if path.is_file():
            shard = next(part for part in path.relative_to(folder).parts if part.startswith("shard_"))
            found.setdefault(shard, set()).add((path.relative_to(folder), path.stat().st_ino))
    return found


def test_their_files_are_rejects_without_a_pseudonym_and_keep_their_place(tmp_path):
    write_files(tmp_path / "drop", ["7700", "7711", "7700", "7722", "7711"])
    before = ingest(drop_of(tmp_path / "drop"), tmp_path / "before")
    after = ingest(drop_of(tmp_path / "drop", ["7711"]), tmp_path / "after", previous=before.folder)
    assert after.rejects().select("reason", "detail", "patient").rows() == [("withdrawn", "", None)] * 2
    kept = before.ecgs().filter(pl.col("patient") != KEY.pseudonym("system", "7711"))
    assert after.ecgs().select("ecg_id", "shard").equals(kept.select("ecg_id", "shard"))
    for path in after.folder.rglob("*"):
        if path.is_file():
            assert KEY.pseudonym("system", "7711").encode() not in path.read_bytes()


def test_only_shards_with_their_files_are_read_again(tmp_path):
    write_files(tmp_path / "drop", ["7700", "7711", "7700", "7722", "7722", "7711"])
    before = ingest(drop_of(tmp_path / "drop"), tmp_path / "before")
    first = ingest(drop_of(tmp_path / "drop", ["7700"]), tmp_path / "first", previous=before.folder)
    assert {name for name, files in shards_of(first.folder).items() if files == shards_of(before.folder)[name]} == {
        "shard_00002"
    }
    second = ingest(drop_of(tmp_path / "drop", ["7700", "7711"]), tmp_path / "second", previous=first.folder)
    same = {name for name, files in shards_of(second.folder).items() if files == shards_of(first.folder)[name]}
    assert same == {"shard_00001"}, "another patient withdrew before, whose shard stays as it is"


def test_a_patient_of_rejects_alone_is_found_by_the_pseudonym_of_the_reject(tmp_path):
    write_files(tmp_path / "drop", ["7700", "7711"])
    (tmp_path / "drop" / "short.xml").write_text(export("7722", 9, seconds=2))
    (tmp_path / "drop" / "twin.xml").write_text(export("7733", 0))
    before = ingest(drop_of(tmp_path / "drop"), tmp_path / "before")
    of = dict(before.rejects().select("reason", "patient").iter_rows())
    assert of == {
        "too_short": KEY.pseudonym("system", "7722"),
        "duplicate_waveform": KEY.pseudonym("system", "7733"),
    }
    after = ingest(drop_of(tmp_path / "drop", ["7722", "7733"]), tmp_path / "after", previous=before.folder)
    assert after.rejects().select("reason", "patient").rows() == [("withdrawn", None)] * 2
    assert after.ecgs().equals(before.ecgs())


def test_a_duplicate_of_theirs_that_is_filed_under_another_patient_is_an_ecg_of_that_one(tmp_path):
    write_files(tmp_path / "drop", ["7700", "7711"])
    (tmp_path / "drop" / "twin.xml").write_text(export("7722", 0))
    before = ingest(drop_of(tmp_path / "drop"), tmp_path / "before")
    assert before.rejects()["reason"].to_list() == ["duplicate_waveform"]
    after = ingest(drop_of(tmp_path / "drop", ["7700"]), tmp_path / "after", previous=before.folder)
    assert after.rejects()["reason"].to_list() == ["withdrawn"]
    assert set(after.ecgs()["patient"]) == {KEY.pseudonym("system", patient) for patient in ("7711", "7722")}


@settings(max_examples=10, deadline=None)
@given(
    files=st.lists(st.sampled_from(PATIENTS), min_size=1, max_size=5),
    orders=st.lists(st.sets(st.sampled_from(PATIENTS)), min_size=1, max_size=3),
)
def test_a_store_does_not_depend_on_what_was_withdrawn_before(tmp_path_factory, files, orders):
    folder = tmp_path_factory.mktemp("law")
    write_files(folder / "drop", files, seconds=5)
    previous = None
    for number, withdrawn in enumerate(orders):
        made = ingest(drop_of(folder / "drop", withdrawn), folder / f"after_{number}", previous=previous)
        previous = made.folder
    fresh = ingest(drop_of(folder / "drop", orders[-1]), folder / "fresh")
    assert folder_digests(previous) == folder_digests(fresh.folder)
    shutil.rmtree(folder)


def test_the_version_of_a_site_changes_with_withdrawals_that_concern_it_alone(tmp_path):
    write_files(tmp_path / "drop", ["7700"])
    nobody = drop_of(tmp_path / "drop")
    listing = list_files(nobody)
    here, elsewhere = drop_of(tmp_path / "drop", ["7700"]), drop_of(tmp_path / "drop", ["7700"], here=frozenset())
    assert listing_version(nobody, listing) == listing_version(elsewhere, listing)
    assert listing_version(nobody, listing) != listing_version(here, listing)


def test_their_label_rows_are_left_out_and_counted(tmp_path):
    write_files(tmp_path / "drop", ["7700"])
    head = "patient_id,observed_at,system,code,value\n"
    rows = "7700,2020-01-01,measurement,LVEF,50\n7711,2020-01-01,measurement,LVEF,30\n7711,2020-01-02,diagnosis,I50,1\n"
    (tmp_path / "drop" / "echo.csv").write_text(head + rows)
    drop = replace(drop_of(tmp_path / "drop", ["7711"]), label_tables=("echo.csv",))
    labels = collect_labels(drop, list_files(drop), key=KEY, out=tmp_path / "labels")
    assert labels.labels()["patient"].to_list() == [KEY.pseudonym("system", "7700")]
    assert labels.skipped()[WITHDRAWN] == 2


def test_the_register_shows_nobody_and_is_kept(tmp_path):
    register, pseudonym = Register(tmp_path), KEY.pseudonym("system", "7700")
    assert register.of_site("north") == Withdrawals()
    made = register.enter(KEY, pseudonym, sites=["north"])
    register.enter(KEY, KEY.pseudonym("system", "7711"), sites=[])
    again = register.enter(KEY, pseudonym, sites=["south"])
    assert (again.withdrawal, again.sites) == (made.withdrawal, ("north", "south"))
    text = Path(register.path).read_text()
    assert pseudonym not in text
    assert "7700" not in json.loads(text)["withdrawals"][0].values()
    assert register.of_site("north").entry_of(KEY, pseudonym) == made.entry
    assert register.of_site("north").here == {made.entry}
    assert register.of_site("west").everyone == register.of_site("north").everyone
    assert register.of_site("north").entry_of(PseudonymKey(b"another key of tests"), pseudonym) is None
    assert register.of_site("north").entry_of(KEY, None) is None


@pytest.mark.parametrize("entry", ["x", "another"])
def test_entries_of_nobody_change_nothing(tmp_path, entry):
    write_files(tmp_path / "drop", ["7700", "7711"])
    before = ingest(drop_of(tmp_path / "drop"), tmp_path / "before")
    other = replace(drop_of(tmp_path / "drop"), withdrawals=Withdrawals(frozenset({entry}), frozenset({entry})))
    after = ingest(other, tmp_path / "after", previous=before.folder)
    assert shards_of(after.folder) == shards_of(before.folder)
    assert folder_digests(after.folder) == folder_digests(before.folder)
