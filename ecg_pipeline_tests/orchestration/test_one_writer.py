"""Two runs of one partition at once never disturb each other, and leave what one alone leaves."""

import shutil
import subprocess
import sys

import pytest

from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline_tests.orchestration.conftest import open_runner

pytestmark = pytest.mark.acceptance

TRIALS = 50
STAGES, SITE = ("waveform_store", "clinical_labels"), "morningside"
NAMESPACE = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""What gives a process a PID namespace of its own, in which it sees itself alone."""


def can_unshare():
    return subprocess.run([*NAMESPACE, "true"], check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A runner of a hospital system of 48 ECGs, of which nothing but the files is made."""
    folder = tmp_path_factory.mktemp("tiny")
    study = folder / "tiny.yaml"
    study.write_text("extends: demo\nname: tiny\nsynthetic: {patients: 40, ecgs: 48}\ningest: {files_per_shard: 4}\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_HOME", str(folder / "home"))
        patch.setenv("ECG_STUDY", str(study))
        patch.setenv("ECG_WORKERS", "1")
        runner = open_runner(study)
        runner.run_stale(["hospital_system"])
        yield runner


def started(*before):
    code = [sys.executable, "-m", "ecg_pipeline_tests.orchestration.one_partition", ",".join(STAGES), SITE]
    process = subprocess.Popen(
        [*before, *code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def made_at_once(runner, processes):
    """What processes say that make one partition from nothing at the same moment, and the digests that it has then."""
    archive = runner.workspace.archive
    for stage in STAGES:
        shutil.rmtree(archive.place(stage, SITE), ignore_errors=True)
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = [process.stdout.readline() for process in processes]
    records = [archive.require(stage, SITE) for stage in STAGES]
    for record in records:
        assert folder_digests(archive.folder(record)) == record.files
        left = {path.name for path in archive.place(record.asset, SITE).iterdir()}
        assert left == {record.build, "record.json", "records", ".lease.lock"}
    return said, [record.files for record in records]


@pytest.mark.parametrize("before", [(), NAMESPACE], ids=["one_namespace", "a_namespace_each"])
def test_two_runs_of_one_partition_at_once_leave_what_one_leaves(tiny, before):
    if before and not can_unshare():
        pytest.skip("no PID namespaces here")
    processes = [started(*before) for _ in range(2)]
    try:
        said, alone = made_at_once(tiny, processes[:1])
        assert said == ["made\n"]
        for _ in range(TRIALS):
            assert made_at_once(tiny, processes) == (["made\n", "made\n"], alone)
        for stage in STAGES:
            # The second of two finds what the first has made.
            assert tiny.workspace.archive.times(stage, SITE) == 1
    finally:
        for process in processes:
            process.stdin.close()
            assert process.wait(timeout=60) == 0
