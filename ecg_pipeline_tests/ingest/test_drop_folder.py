"""Drop folders: what is listed, when it is settled, what changes its version, and when it is not to be believed."""

import os
import time

import pytest

from ecg_pipeline.ingest.drop_folder import (
    RECENT_NS,
    DropFolder,
    list_files,
    listing_version,
    reason_to_confirm,
    settled_files,
)


@pytest.fixture
def drop(tmp_path):
    for name in ("b/2.xml", "a.xml", "b.xml", ".hidden.xml", ".git/x.xml"):
        (tmp_path / "drop" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "drop" / name).write_text(name)
    return DropFolder("here", tmp_path / "drop", "muse_xml")


def names(listing):
    return listing["name"].to_list()


def no_sleep(seconds):
    raise AssertionError("nobody needs to wait")


def test_files_are_listed_in_the_order_of_their_names_and_links_are_not_followed(drop, tmp_path):
    (drop.path / "c").symlink_to(tmp_path, target_is_directory=True)
    (drop.path / "self.xml").symlink_to("self.xml")
    listing = list_files(drop)
    assert names(listing) == ["a.xml", "b.xml", "b/2.xml", "c", "self.xml"]
    assert listing["size"].to_list()[:3] == [5, 5, 7]
    assert listing["mtime_ns"][0] == (drop.path / "a.xml").stat().st_mtime_ns


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="site x: there is no folder"):
        list_files(DropFolder("x", tmp_path / "nowhere", "muse_xml"))


def test_any_name_that_a_disk_can_hold_is_listed_and_found_again(drop):
    odd = [b"m\xfcller.xml", b"back\\slash.xml", b"\\xfc.xml", b"two\nlines.xml", "\u00e4\U0001f600.xml".encode()]
    for name in odd:
        (drop.path / os.fsdecode(name)).write_bytes(name)
    found = {drop.file(name).read_bytes() for name in names(list_files(drop))}
    assert set(odd) <= found
    assert listing_version(drop, list_files(drop)) == listing_version(drop, list_files(drop))


def test_a_date_beyond_all_tables_is_listed(drop):
    os.utime(drop.path / "a.xml", (2**33, 2**33))
    assert "a.xml" in names(list_files(drop))


def test_the_version_sees_every_change_of_files_and_of_rules(drop):
    before = listing_version(drop, list_files(drop))
    others = [
        DropFolder("here", drop.path, "muse_xml", patients="public"),
        DropFolder("here", drop.path, "muse_xml", ("A HOSPITAL",)),
        DropFolder("here", drop.path, "muse_xml", mrn_system="system"),
        DropFolder("here", drop.path, "muse_xml", label_tables=("a.csv",)),
        DropFolder("here", drop.path, "cinc"),
    ]
    versions = {listing_version(other, list_files(other)) for other in others}
    assert len(versions | {before}) == 6
    (drop.path / "b" / "2.xml").write_text("3!")
    assert listing_version(drop, list_files(drop)) not in versions | {before}


def test_the_version_does_not_depend_on_where_the_folder_is(drop, tmp_path):
    before = listing_version(drop, list_files(drop))
    moved = DropFolder("here", drop.path.rename(tmp_path / "elsewhere"), "muse_xml")
    assert listing_version(moved, list_files(moved)) == before


def test_what_changes_goes_or_comes_while_we_wait_is_not_settled(drop):
    def sleep(seconds):
        assert seconds == 60
        with (drop.path / "a.xml").open("a") as file:
            file.write("more")
        (drop.path / "b.xml").unlink()
        (drop.path / "new.xml").write_text("new")

    assert names(settled_files(drop, 60, sleep)) == ["b/2.xml"]
    assert names(settled_files(drop, 60, lambda seconds: None)) == ["a.xml", "b/2.xml", "new.xml"]


def test_a_copied_file_keeps_its_date_and_is_looked_at_twice(drop):
    for name in names(list_files(drop)):
        os.utime(drop.path / name, (1e9, 1e9))
    waited = []
    settled_files(drop, 60, waited.append)
    assert waited == [60]


def test_a_wfdb_record_waits_for_all_of_its_files(tmp_path):
    for name in ("x/1.hea", "x/1.dat", "x/10.hea", "x/10.dat", "table.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    drop = DropFolder("here", tmp_path, "cinc")
    settled = settled_files(drop, 1, lambda seconds: (tmp_path / "x/1.dat").write_text("longer"))
    assert names(settled) == ["table.csv", "x/10.dat", "x/10.hea"]


def test_nobody_waits_for_an_old_archive_nor_without_a_wait(drop, monkeypatch):
    assert names(settled_files(drop, 0, no_sleep)) == ["a.xml", "b.xml", "b/2.xml"]
    tomorrow = time.time_ns() + 24 * RECENT_NS
    monkeypatch.setattr(time, "time_ns", lambda: tomorrow)
    assert names(settled_files(drop, 60, no_sleep)) == ["a.xml", "b.xml", "b/2.xml"]


@pytest.mark.parametrize(
    ("files", "last_count", "words"),
    [
        (3, 0, None),
        (3, 6, None),
        (3, 7, "holds 3 ECG files, the last listing had 7"),
        (0, 0, "holds no ECG files"),
        (0, 5, "the last listing had 5"),
    ],
)
def test_a_folder_that_lost_most_of_its_files_is_not_believed(drop, files, last_count, words):
    said = reason_to_confirm(drop, list_files(drop).head(files), last_count)
    if words is None:
        assert said is None
    else:
        assert words in said
        assert "site here" in said
        assert "accept_fewer_files: true" in said
        assert "--partition here --accept-fewer-files" in said


def test_an_absent_folder_is_not_believed(drop):
    assert "there is no folder" in reason_to_confirm(drop, None, 0)
