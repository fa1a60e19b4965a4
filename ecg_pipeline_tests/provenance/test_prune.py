"""Old builds go, what anything kept needs stays, and a kill at any point leaves a state from which it goes on."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.provenance import prune as module
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.holds import Holds
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline.provenance.prune import old_builds, prune
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline_tests.provenance.made import made
from ecg_pipeline_tests.provenance.test_lease import HOLD

READS = {"store": (), "tokenizer": ("store",), "tokens": ("store", "tokenizer"), "model": ("tokens", "tokenizer")}
"""Assets, each with those that it reads."""

makings = st.lists(st.tuples(st.sampled_from([*READS]), st.integers(0, 2), st.booleans()), max_size=14)
"""What is made, in order: an asset, its settings, and whether the output is held."""


def home_of(folder, made_in_order):
    """An archive in which outputs were made one after the other, each from the newest of what it reads, if any."""
    archive = Archive(folder)
    for minute, (asset, setting, is_held) in enumerate(made_in_order):
        upstream = [newest for read in READS[asset] if (newest := archive.newest(read, None))]
        content = f"{asset} {setting} {[one.data_version for one in upstream]}"
        # Settings 0 and 1 give the same content, so what is downstream of one is current with the other.
        files = {"content": content.replace(" 1 ", " 0 ").encode()}
        record = made(archive, asset, upstream=upstream, identity={"setting": setting}, files=files, minute=minute * 10)
        if is_held:
            Holds(archive).add(record)
    return archive


def kept_records(archive):
    return [*archive.newest_records(), *Holds(archive).records()]


def assert_complete(archive):
    for record in kept_records(archive):
        found = lineage(archive, record)
        assert not found.missing
        for one in found.records:
            assert folder_digests(archive.folder(one)) == one.files


def folders(archive):
    return {path for path in archive.root.glob("*/all/*") if path.is_dir() and path.name != "records"}


def purged(archive):
    return [entry.facts for entry in archive.ledger.entries() if entry.kind == Kind.PURGED]


@given(makings)
@settings(max_examples=40, deadline=None)
def test_what_is_kept_is_complete_and_nothing_else_is_left(tmp_path_factory, made_in_order):
    archive = home_of(tmp_path_factory.mktemp("home"), made_in_order)
    records = sorted(record.digest for record in archive.all_records())
    before, old = folders(archive), old_builds(archive)
    removed = prune(archive, old)
    needed = {archive.folder(one) for kept in kept_records(archive) for one in lineage(archive, kept).records}
    assert_complete(archive)
    assert folders(archive) == needed
    assert {one.folder for one in removed} == before - needed
    assert [facts["build"] for facts in purged(archive)] == [one.build for one in removed]
    assert sorted(record.digest for record in archive.all_records()) == records
    assert not old_builds(archive)
    assert not list(archive.ledger.problems())


class Killed(BaseException):
    """The process ends here."""


@given(makings, st.integers(0, 25))
@settings(max_examples=40, deadline=None)
def test_a_kill_at_any_point_leaves_a_state_from_which_it_goes_on(tmp_path_factory, made_in_order, steps):
    archive = home_of(tmp_path_factory.mktemp("home"), made_in_order)
    expected = [(one.asset, one.build) for one in old_builds(archive)]
    left = [steps]

    def step(do):
        def stepped(*arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                raise Killed
            return do(*arguments, **more)

        return stepped

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shutil, "rmtree", step(shutil.rmtree))
        patched.setattr(module.Path, "rename", step(module.Path.rename))
        patched.setattr(os, "fsync", step(os.fsync))
        try:
            prune(archive, old_builds(archive))
        except Killed:
            left[0] = 1000
    assert_complete(archive)
    prune(archive, old_builds(archive))
    assert_complete(archive)
    needed = {archive.folder(one) for kept in kept_records(archive) for one in lineage(archive, kept).records}
    assert folders(archive) == needed
    assert sorted((facts["asset"], facts["build"]) for facts in purged(archive)) == sorted(expected)
    assert not list(archive.ledger.problems())


def test_half_a_deleted_folder_is_deleted_on(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False), ("store", 2, False)])
    (old,) = old_builds(archive)
    hidden = old.folder.rename(old.folder.with_name(f".{old.folder.name}.purged"))
    assert [one.folder for one in old_builds(archive)] == [hidden]
    prune(archive, old_builds(archive))
    assert not hidden.exists()


def test_a_build_that_was_made_again_after_it_was_removed_is_entered_again_when_it_goes_again(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False), ("store", 2, False)])
    prune(archive, old_builds(archive))
    again = made(archive, "store", identity={"setting": 0}, minute=100)
    assert not [one for one in old_builds(archive) if one.build == again.build]
    made(archive, "store", identity={"setting": 2}, minute=110)
    prune(archive, old_builds(archive))
    assert [facts["build"] for facts in purged(archive)].count(again.build) == 2


def test_files_count_with_their_last_link(tmp_path):
    archive = home_of(tmp_path, [])
    first, second, newest = (
        made(archive, "store", identity={"setting": setting}, files={name: name.encode() * 100}, minute=setting)
        for setting, name in enumerate(("shard", "other", "last"))
    )
    shard = archive.folder(first) / "shard"
    os.link(shard, archive.folder(second) / "shard")
    assert sum(one.freed_bytes for one in old_builds(archive)) == 500 + 500
    os.link(shard, archive.folder(newest) / "shard")
    assert sum(one.freed_bytes for one in old_builds(archive)) == 500


def test_an_unfinished_build_goes_only_once_another_was_begun_after_it(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False)])
    unfinished = archive.build_folder("store", None, "e" * 64)
    unfinished.mkdir()
    (unfinished / "shard").write_bytes(b"half")
    assert not old_builds(archive), "a run can resume it"
    for path in (unfinished / "shard", unfinished):
        os.utime(path, (0, 0))
    (old,) = old_builds(archive)
    assert (old.folder, old.is_finished, old.freed_bytes) == (unfinished, False, 4)
    lonely = archive.build_folder("tokens", None, "f" * 64)
    lonely.mkdir(parents=True)
    os.utime(lonely, (0, 0))
    prune(archive, old_builds(archive))
    assert not unfinished.exists()
    assert lonely.exists(), "nothing else of its partition was made"
    assert purged(archive)[-1]["build"] == "e" * 16


@contextmanager
def being_made(archive, asset):
    """Another process that makes an asset."""
    command = [sys.executable, "-c", HOLD, str(archive.place(asset, None))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        yield
        process.kill()


def test_nothing_is_removed_of_a_partition_that_is_being_made(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False), ("store", 2, False), ("model", 0, False), ("model", 2, False)])
    old = old_builds(archive)
    assert {one.asset for one in old} == {"store", "model"}
    with being_made(archive, "store"):
        assert {one.asset for one in old_builds(archive)} == {"model"}
        assert {one.asset for one in prune(archive, old)} == {"model"}
    assert {one.asset for one in prune(archive, old)} == {"store"}


def test_what_a_running_materialisation_may_read_is_kept_until_it_ends(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False)])
    read = archive.newest("store", None)
    with being_made(archive, "model"):
        made(archive, "store", identity={"setting": 2}, minute=10**7)
        assert not old_builds(archive)
    assert [one.build for one in old_builds(archive)] == [read.build]


def test_what_became_needed_after_the_list_was_shown_stays(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False), ("store", 2, False)])
    shown = old_builds(archive)
    held = next(iter([one for one in archive.history("store", None) if one.build == shown[0].build]))
    Holds(archive).add(held)
    assert prune(archive, shown) == []
    assert_complete(archive)


def invoke(archive, *arguments, **more):
    return CliRunner().invoke(app, [*arguments, "--home", str(archive.home)], **more)


def test_the_command_says_what_it_would_free_and_asks(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False), ("store", 2, False)])
    before = folders(archive)
    refused = invoke(archive, "prune", input="n\n")
    assert refused.exit_code == 1
    assert "1 old build" in refused.output
    assert folders(archive) == before
    listed = json.loads(invoke(archive, "prune", "--json").output)
    assert [one["asset"] for one in listed["old"]] == ["store"]
    assert listed["removed"] == []
    assert folders(archive) == before
    done = invoke(archive, "prune", input="y\n")
    assert done.exit_code == 0, done.output
    assert "1 build removed" in done.output
    assert len(folders(archive)) == 1
    assert "everything on disk is needed" in invoke(archive, "prune", "--yes").output


def test_holds_are_made_listed_and_released(tmp_path):
    archive = home_of(tmp_path, [("store", 0, False), ("store", 2, False), ("store", 3, False)])
    oldest = list(archive.history("store", None))[-1]
    assert "Nothing is held" in invoke(archive, "hold").output
    assert invoke(archive, "hold", oldest.digest[:12]).exit_code == 0
    (held,) = json.loads(invoke(archive, "hold", "--json").output)
    assert (held["record"], held["asset"], held["build"]) == (oldest.digest, "store", oldest.build)
    assert invoke(archive, "prune", "--yes").exit_code == 0
    assert archive.folder(oldest).is_dir()
    assert "is not held" in invoke(archive, "hold", "--release", "store").output
    assert invoke(archive, "hold", "--release", oldest.digest[:12]).exit_code == 0
    assert invoke(archive, "prune", "--yes").exit_code == 0
    assert not archive.folder(oldest).exists()
    gone = invoke(archive, "hold", oldest.digest[:12])
    assert gone.exit_code == 2
    assert "no longer on disk" in gone.output
    assert Holds(archive).all() == []
