"""New files at a site cost only themselves, and what was changed behind the records is not built upon."""

import pytest

from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline.storage.shards import shard_name
from ecg_pipeline_tests.orchestration.conftest import SMALL, open_runner

STAGES = {
    "waveform_store": "waveforms.zarr",
    "filtered_waveforms": "arrays.zarr",
    "image_shards": "arrays.zarr",
    "waveform_windows/ten_seconds": "arrays.zarr",
}
SITE = "mount_sinai"


@pytest.fixture
def grown(tmp_path, monkeypatch):
    """The runner of all files of a site, after a run without four of its later ones, and the folders of that run."""
    monkeypatch.setenv("ECG_HOME", str(tmp_path))
    study = tmp_path / "growing.yaml"
    study.write_text(SMALL.replace("name: small", "name: growing") + "ingest: {files_per_shard: 16}\n")
    runner = open_runner(study)
    runner.run_stale(["hospital_system"])
    late = sorted((tmp_path / "growing" / "hospital_system" / SITE).rglob("*.xml"))[58:62]
    held_back = [path.rename(tmp_path / path.name) for path in late]
    runner.run_stale(list(STAGES), [SITE])
    for path, place in zip(held_back, late, strict=True):
        path.rename(place)
    return runner, outputs(runner)


def outputs(runner):
    return {stage: runner.workspace.archive.folder(runner.workspace.archive.require(stage, SITE)) for stage in STAGES}


def shared_shards(before, after):
    """By stage, the shards whose files are the same ones, not copies."""

    def files(stage, folder, shard):
        return {
            path.stat().st_ino for path in (folder / STAGES[stage] / shard_name(shard)).rglob("*") if path.is_file()
        }

    return {
        stage: [shard for shard in range(10) if files(stage, after[stage], shard) & files(stage, before[stage], shard)]
        for stage in STAGES
    }


def as_recorded(runner):
    return all(
        folder_digests(folder) == runner.workspace.archive.require(stage, SITE).files
        for stage, folder in outputs(runner).items()
    )


def test_new_files_at_a_site_cost_their_shard(grown):
    runner, before = grown
    runner.run_stale(list(STAGES), [SITE])
    after = outputs(runner)
    assert not set(after.items()) & set(before.items())
    assert shared_shards(before, after) == {stage: [0, 1, 2] for stage in STAGES}
    assert as_recorded(runner)


def test_an_output_that_was_tampered_with_is_not_built_upon(grown):
    runner, before = grown
    shard = next(path for path in (before["image_shards"] / "arrays.zarr").rglob("c/*/*/*") if path.is_file())
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    runner.run_stale(list(STAGES), [SITE])
    after = outputs(runner)
    assert shared_shards(before, after)["image_shards"] == []
    assert shared_shards(before, after)["filtered_waveforms"]
    assert as_recorded(runner)
    assert shard.relative_to(before["image_shards"]).as_posix() in folder_digests(after["image_shards"])
    assert (after["image_shards"] / shard.relative_to(before["image_shards"])).read_bytes() != content
