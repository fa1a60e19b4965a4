"""One holder at a time, whoever dies, and whatever stands between the processes."""

import os
import signal
import subprocess
import sys
import time

import pytest

from ecg_pipeline.provenance import lease
from ecg_pipeline.provenance.lease import LeaseLost, hold

COUNT = """
import sys, time
from pathlib import Path
from ecg_pipeline.provenance.lease import hold
folder = Path(sys.argv[1])
for _ in range(25):
    with hold(folder) as held:
        mine = folder / "inside"
        with mine.open("x"):
            time.sleep(0.002)
        mine.unlink()
        count = folder / "count"
        count.write_text(str(int(count.read_text()) + 1))
        held.check()
"""

HOLD = """
import sys, time
from pathlib import Path
from ecg_pipeline.provenance.lease import hold
with hold(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def started(code, folder, *before):
    return subprocess.Popen([*before, sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE, text=True)


def can_unshare():
    return subprocess.run(["unshare", "--pid", "--fork", "true"], check=False, capture_output=True).returncode == 0


@pytest.mark.parametrize("before", [(), ("unshare", "--pid", "--fork"), ("unshare", "--pid", "--fork", "--mount-proc")])
def test_one_holder_at_a_time(tmp_path, before):
    if before and not can_unshare():
        pytest.skip("no PID namespaces here")
    (tmp_path / "count").write_text("0")
    processes = [started(COUNT, tmp_path, *before) for _ in range(3)]
    assert [process.wait(timeout=120) for process in processes] == [0, 0, 0]
    assert (tmp_path / "count").read_text() == "75"
    assert not (tmp_path / ".lease").exists()


def test_a_holder_killed_on_this_machine_is_known_at_once(tmp_path):
    process = started(HOLD, tmp_path)
    assert process.stdout.readline() == "held\n"
    os.kill(process.pid, signal.SIGKILL)
    with hold(tmp_path):
        process.wait()


def test_a_holder_who_cannot_be_looked_up_counts_by_its_heartbeat(tmp_path, monkeypatch):
    """A process of another namespace keeps the lease while it renews it, and loses it when it no longer does."""
    if not can_unshare():
        pytest.skip("no PID namespaces here")
    monkeypatch.setattr(lease, "STALE_S", 2 * lease.BEAT_S)
    process = started(HOLD, tmp_path, "unshare", "--pid", "--fork", "--kill-child")
    assert process.stdout.readline() == "held\n"
    told = []
    began = time.monotonic()
    os.kill(process.pid, signal.SIGKILL)
    with hold(tmp_path, told.append):
        assert time.monotonic() - began >= lease.BEAT_S
    assert len(told) == 1
    process.wait()


def test_a_holder_who_was_overtaken_publishes_nothing(tmp_path):
    with hold(tmp_path) as held:
        held.check()
        held.path.unlink()
        with pytest.raises(LeaseLost, match="another run acquired the lease"):
            held.check()
