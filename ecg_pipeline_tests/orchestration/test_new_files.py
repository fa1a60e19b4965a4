"""Files that arrive slowly at a private site while a real daemon watches it, and is killed."""

import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

import dagster as dg
import pytest

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration.assets.ingest import RAW
from ecg_pipeline.orchestration.instance import open_instance
from ecg_pipeline.orchestration.plan import Run
from ecg_pipeline.orchestration.run_worker import execute
from ecg_pipeline.orchestration.runs import QUIET
from ecg_pipeline.orchestration.servers.processes import Server, ServerProcesses
from ecg_pipeline.storage.files import sha256_file, write_json
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.orchestration.conftest import open_runner

pytestmark = pytest.mark.acceptance

PATIENCE_S = 300
"""How long the test waits for what must come to pass; it says nothing of how long that takes."""

SITE, OTHERS = "mount_sinai", ("beth_israel", "morningside", "ptb_xl_like")
STUDY = (
    "extends: demo\nname: arrivals\nsynthetic: null\nsites:\n  {site}: {{path: {folder}/{site}, patients: private}}\n"
)
ABSENT = "  {site}: {{path: {folder}/absent/{site}, patients: private}}\n"


class Daemon:
    """A code server and a daemon over a study, as `ecg-pipeline ui` starts them; this daemon may be killed."""

    def __init__(self, study: Path, home: Path, folder: Path):
        self.folder, self.socket, self.workspace = folder, folder / "code", folder / "workspace.yaml"
        self.environment = {
            **os.environ,
            "DAGSTER_HOME": str(home / "dagster"),
            "DAGSTER_DISABLE_TELEMETRY": "true",
            "ECG_STUDY": str(study),
            "PYTHONPATH": str(Path(__file__).parents[2]),
        }
        self.keeper = ServerProcesses(folder)
        server = {"grpc_server": {"socket": str(self.socket), "location_name": "ecg_pipeline"}}
        write_json(self.workspace, {"load_from": [server]})

    def serve(self):
        """Start the code server, and switch the sensor on."""
        module = "ecg_pipeline_tests.orchestration.short_wait"
        words = ["api", "grpc", "--socket", str(self.socket), "--module-name", module, "--location-name"]
        command = [sys.executable, "-m", "dagster", *words, "ecg_pipeline"]
        self.keeper.start(Server("code_server", command), self.environment)
        self.until(self.accepts, "the start of the code server")
        switch = [sys.executable, "-m", "dagster", "sensor", "start", "new_ecgs", "--workspace", str(self.workspace)]
        subprocess.run(switch, env=self.environment, check=True, capture_output=True)

    def start(self):
        """Start the daemon."""
        command = [str(Path(sysconfig.get_path("scripts")) / "dagster-daemon"), "run", "--workspace"]
        self.keeper.start(Server("daemon", [*command, str(self.workspace)]), self.environment)

    def kill(self):
        """SIGKILL to the daemon and all that it started."""
        (started,) = [server for server in self.keeper.servers if server.name == "daemon"]
        os.killpg(started.pid, signal.SIGKILL)
        self.keeper.servers.pop(started).wait()

    def accepts(self):
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.socket)) == 0

    def until(self, is_so, what):
        """What a question answers once that is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not (answer := is_so()):
            logs = "\n".join(self.keeper.log_tail(name) for name in ("code_server", "daemon"))
            assert time.monotonic() < deadline, f"{what} did not come to pass\n{logs}"
            time.sleep(0.2)
        return answer


class Writer:
    """Exports that are written in five pieces, all of them at once."""

    def __init__(self, sources, folder):
        self.texts = {folder / path.name: path.read_bytes() for path in sources}
        self.written = 0

    def write(self):
        """Append the next piece of each."""
        for path, text in self.texts.items():
            size = len(text) // 5 + 1
            with path.open("ab") as file:
                file.write(text[self.written * size : (self.written + 1) * size])
        self.written += 1


@pytest.fixture
def arrivals(tmp_path, tmp_path_factory, monkeypatch):
    """A runner of a private site of three ECGs, its daemon, and a writer of two more."""
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.setenv("ECG_HOME", str(tmp_path / "homes"))
    monkeypatch.setenv("ECG_WORKERS", "1")
    monkeypatch.setenv("ECG_PSEUDONYM_KEY", "0123456789abcdef" * 4)
    write_hospital_system(HospitalSystem(40, 48, seed=5), tmp_path / "exports")
    exports, drop = tmp_path / "exports" / SITE, tmp_path / SITE
    drop.mkdir()
    usable = sorted(exports.glob("*.xml"))[:5]
    for path in (*exports.glob("*.csv"), *usable[:3]):
        (drop / path.name).write_bytes(path.read_bytes())
    study = tmp_path / "arrivals.yaml"
    absent = "".join(ABSENT.format(site=site, folder=tmp_path) for site in OTHERS)
    study.write_text(STUDY.format(site=SITE, folder=tmp_path) + absent)
    runner = open_runner(study)
    # Paths of sockets must be short.
    daemon = Daemon(study, runner.workspace.home, tmp_path_factory.mktemp("d"))
    with open_instance(runner.workspace.home) as instance:
        daemon.serve()
        daemon.start()
        yield runner, instance, daemon, Writer(usable[3:], drop)
        daemon.keeper.end()


def look(runner, instance):
    """Look at the drop folders as the command line does: a run of its own."""
    assert execute(runner.definitions, instance, run=Run((RAW,), None), config=QUIET) is None


def ticks(instance):
    """How often the sensor was evaluated to the end."""
    states = [state for state in instance.all_instigator_state() if state.name == "new_ecgs"]
    done = (tick for state in states for tick in instance.get_ticks(state.instigator_origin_id, state.selector_id))
    return [tick for tick in done if tick.is_completed]


def runs(instance):
    """Runs of the site's data chain, the oldest first."""
    found = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": SITE}))
    return [run for run in reversed(found) if dg.AssetKey("waveform_store") in (run.asset_selection or ())]


def is_reading(instance, run):
    """Whether a run has come to its first step."""
    return instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_START)


def read(runner):
    """Digests of the files in the site's waveform store, and how many were rejected."""
    archive = runner.workspace.archive
    store = WaveformStore(archive.folder(archive.require("waveform_store", SITE)))
    return sorted(store.ecgs()["source_sha256"]), len(store.rejects())


@pytest.mark.slow
def test_files_that_arrive_slowly_are_read_once_though_the_daemon_is_killed(arrivals):
    """Real are the daemon, the sensor `new_ecgs`, the code server and its runs, and a site of private patients.

    Two things are not left to the clock: the hourly look is made by hand, as a run like that of the command line, and
    the second look at young files comes after 20 s instead of 60 (`short_wait`).
    """
    runner, instance, daemon, writer = arrivals
    drop = next(iter(writer.texts)).parent
    before = sorted(sha256_file(path) for path in drop.glob("*.xml"))
    daemon.until(lambda: ticks(instance), "the first evaluation of the sensor")
    writer.write()
    look(runner, instance)
    (run,) = daemon.until(lambda: runs(instance), "the request of the site's data chain")
    daemon.until(lambda: is_reading(instance, run), "the start of the run")
    for _ in range(3):
        time.sleep(5)
        writer.write()
        if writer.written == 2:
            daemon.kill()
    daemon.until(lambda: instance.get_run_by_id(run.run_id).is_finished, "the end of the run")
    assert instance.get_run_by_id(run.run_id).is_success
    assert read(runner) == (before, 0), "what is still being written is neither an ECG nor a reject"
    writer.write()
    look(runner, instance)
    daemon.start()
    _, run = daemon.until(lambda: len(found := runs(instance)) == 2 and found, "the request after the kill")
    daemon.until(lambda: instance.get_run_by_id(run.run_id).is_finished, "the end of the second run")
    assert read(runner) == (sorted(sha256_file(path) for path in drop.glob("*.xml")), 0)
    assert [path.read_bytes() for path in writer.texts] == list(writer.texts.values())
    seen = len(ticks(instance))
    look(runner, instance)
    daemon.until(lambda: len(ticks(instance)) > seen + 1, "two more evaluations")
    assert len(runs(instance)) == 2, "a look that finds nothing new requests nothing"
