"""New files cost only themselves: shards whose files are as they were are taken over, and nothing else is different."""

import os

import pytest

from ecg_pipeline.bench.exports import write_exports
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.shards import render_site
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.signals.filters import FilterRecipe, filter_site
from ecg_pipeline.signals.windows import WindowRecipe, cut_site
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import shard_name

STAGES = ("store", "filtered", "sheets", "windows")


def run_pipeline(drop, out, previous=None, key="test"):
    def of(stage):
        return previous / stage if previous else None

    recipe = IngestRecipe(files_per_shard=8)
    store = ingest_site(
        drop, list_files(drop), recipe=recipe, key=fixed_key(key), out=out / "store", previous=of("store")
    )
    filtered = filter_site(store, FilterRecipe(), out / "filtered", previous=of("filtered"))
    render_site(filtered, SheetRecipe(), out / "sheets", previous=of("sheets"))
    cut_site(store, WindowRecipe(sampling_hz=100, standardise="lead"), out / "windows", previous=of("windows"))
    return out


def files_of(drop):
    return [drop.file(name) for name in list_files(drop)["name"]]


@pytest.fixture
def drop(tmp_path):
    return DropFolder("site", write_exports(tmp_path / "exports", 36), "muse_xml", mrn_system="test")


@pytest.fixture
def first(drop, tmp_path):
    """The pipeline over the first 28 of 36 files, in shards of 8: three whole shards and half a shard."""
    held_back = [(path, path.read_bytes(), path.stat()) for path in files_of(drop)[28:]]
    for path, _, _ in held_back:
        path.unlink()
    out = run_pipeline(drop, tmp_path / "first")
    for path, content, state in held_back:
        path.write_bytes(content)
        os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    return out


def taken_over(out, before):
    """By stage, the shards that share their files with the earlier output."""

    def files(folder, stage, shard):
        arrays = folder / stage / ("waveforms.zarr" if stage == "store" else "arrays.zarr") / shard_name(shard)
        return {path.stat().st_ino for path in arrays.rglob("*") if path.is_file()}

    return {
        stage: [
            shard for shard in range(5) if (made := files(out, stage, shard)) and made == files(before, stage, shard)
        ]
        for stage in STAGES
    }


def test_new_files_cost_only_themselves(drop, first, tmp_path):
    second = run_pipeline(drop, tmp_path / "second", previous=first)
    assert taken_over(second, first) == {key: [0, 1, 2] for key in STAGES}
    assert folder_digests(second) == folder_digests(run_pipeline(drop, tmp_path / "fresh"))


def test_a_file_that_changed_takes_its_shard_along(drop, first, tmp_path):
    files = files_of(drop)
    changed, other = files[9], files[30]
    changed.write_bytes(other.read_bytes())
    other.unlink()
    second = run_pipeline(drop, tmp_path / "second", previous=first)
    assert taken_over(second, first) == {key: [0, 2] for key in STAGES}
    assert folder_digests(second) == folder_digests(run_pipeline(drop, tmp_path / "fresh"))


def test_another_key_takes_nothing_over_from_the_store(drop, first, tmp_path):
    second = run_pipeline(drop, tmp_path / "second", previous=first, key="another")
    assert taken_over(second, first)["store"] == []
    assert folder_digests(second) == folder_digests(run_pipeline(drop, tmp_path / "fresh", key="another"))
