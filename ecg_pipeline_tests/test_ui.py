"""`ecg-pipeline ui`: what its servers answer and refuse, and how they end."""

import http.client
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from ecg_pipeline.orchestration.instance import open_instance

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
PATIENCE_S = 300
"""How long a test waits for what must come to pass; it says nothing of how long that takes."""

SMALL = """\
extends: demo
name: small
synthetic: {patients: 60, ecgs: 80, seed: 3}
"""


@dataclass(frozen=True)
class Ui:
    """A running `ecg-pipeline ui`."""

    process: subprocess.Popen
    port: int
    folder: Path

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def family(self) -> list[psutil.Process]:
        """The command and everything that it started."""
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def until(self, is_so, what, patience_s=PATIENCE_S):
        """Wait until something is so, while the command runs."""
        deadline = time.monotonic() + patience_s
        while not is_so():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < deadline, f"{what} did not come to pass\n{self.log}"
            time.sleep(0.2)

    def ask(self, offset, path, host="127.0.0.1", body=None):
        """Status and body of an answer of the server on the first port plus `offset`."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port + offset, timeout=60)
        headers = {"Host": f"{host}:{self.port + offset}", **({"Content-Type": "application/json"} if body else {})}
        connection.request("POST" if body else "GET", path, body, headers)
        answer = connection.getresponse()
        status, content = answer.status, answer.read()
        connection.close()
        return status, content

    def graphql(self, query, **variables):
        status, content = self.ask(0, "/graphql", body=json.dumps({"query": query, "variables": variables}))
        assert status == 200, content
        return json.loads(content)["data"]


def three_free_ports():
    """The first of three ports in a row that nobody listens on."""
    for first in random.sample(range(20_000, 60_000, 3), 1000):
        with socket.socket() as one, socket.socket() as two, socket.socket() as three:
            try:
                for offset, probe in enumerate((one, two, three)):
                    probe.bind(("127.0.0.1", first + offset))
            except OSError:
                continue
            return first
    raise AssertionError("no three free ports in a row")


def command(folder, port, study="demo"):
    environment = {**os.environ, "ECG_HOME": str(folder), "ECG_STUDY": study}
    for name in ("DAGSTER_HOME", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    return [sys.executable, "-m", "ecg_pipeline.cli", "ui", "--port", str(port)], environment


def start(folder, study="demo"):
    """`ecg-pipeline ui` over an empty home, once it says that its servers answer."""
    port = three_free_ports()
    words, environment = command(folder, port, study)
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(words, env=environment, stdout=log, stderr=log, start_new_session=True)
    ui = Ui(process, port, folder)
    ui.until(lambda: "Ctrl-C" in ui.log, "the start of the servers")
    return ui


def assert_gone(processes, ui):
    _, living = psutil.wait_procs(processes, timeout=PATIENCE_S)
    assert not living, ui.log


@pytest.fixture
def no_dagster_home(monkeypatch):
    monkeypatch.delenv("DAGSTER_HOME", raising=False)


@pytest.fixture(scope="module")
def ui(tmp_path_factory):
    """The servers over the demo in an empty home; SIGTERM ends every one of their processes."""
    running = start(tmp_path_factory.mktemp("ui"))
    yield running
    family = running.family()
    assert len(family) > 6, "the command, its guard, and five servers"
    running.process.send_signal(signal.SIGTERM)
    assert running.process.wait() == 0, running.log
    assert_gone(family, running)
    assert "The servers have ended." in running.log


def test_every_server_answers_this_machine_and_refuses_a_foreign_host(ui):
    for offset, path in ((0, "/server_info"), (1, "/health"), (2, "/")):
        assert ui.ask(offset, path, "localhost")[0] == 200
        for host in ("example.org", "127.0.0.1.example.org"):
            assert ui.ask(offset, path, host)[0] in (400, 403)


def test_no_server_listens_to_another_machine(ui):
    listening = [
        connection
        for process in ui.family()
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert {ui.port, ui.port + 1, ui.port + 2} <= {connection.laddr.port for connection in listening}
    assert {connection.laddr.ip for connection in listening} == {"127.0.0.1"}


def test_no_page_leaves_the_archive(ui):
    assert (ui.folder / "demo" / "addresses.json").exists()
    for path in ("/reports/../addresses.json", "/reports/%2e%2e/%2e%2e/etc/passwd", "/reports/benchmark_report"):
        assert ui.ask(1, path)[0] == 404


def test_webserver_and_daemon_share_one_code_server(ui):
    def health():
        return ui.graphql("{ instance { daemonHealth { allDaemonStatuses { healthy required } } } }")["instance"]

    def is_healthy():
        return all(s["healthy"] for s in health()["daemonHealth"]["allDaemonStatuses"] if s["required"])

    ui.until(is_healthy, "the health of the daemon")
    loaded = ui.graphql("{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }")
    assert loaded["workspaceOrError"]["locationEntries"] == [{"name": "ecg_pipeline", "loadStatus": "LOADED"}]
    assert sum("ecg_pipeline.definitions" in " ".join(process.cmdline()) for process in ui.family()) == 1


def test_a_taken_port_and_a_second_ui_are_told_before_anything_starts(ui, tmp_path):
    words, environment = command(tmp_path, ui.port - 1)
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert f"port {ui.port}, {ui.port + 1} of 127.0.0.1 is taken" in said.stderr
    assert "Starting" not in said.stdout
    words, environment = command(ui.folder, three_free_ports())
    said = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert said.returncode == 2
    assert "are already running" in said.stderr


def test_servers_go_with_a_command_that_is_killed(tmp_path):
    ui = start(tmp_path)
    family = ui.family()
    ui.process.kill()
    ui.process.wait()
    assert_gone(family, ui)


def test_all_servers_go_when_one_dies(tmp_path):
    ui = start(tmp_path)
    family = ui.family()
    next(process for process in family if "dagster-daemon" in " ".join(process.cmdline())).kill()
    assert ui.process.wait() == 2
    assert "daemon ended by itself" in ui.log
    assert_gone(family, ui)


LAUNCH = """
mutation ($asset: [String!]!, $tags: [ExecutionTag!] = []) {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "ecg_pipeline", repositoryName: "__repository__", pipelineName: "__ASSET_JOB",
      assetSelection: [{path: $asset}]
    },
    runConfigData: {},
    executionMetadata: {tags: $tags}
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}
"""


TERMINATE = "mutation ($id: String!) { terminateRun(runId: $id) { __typename } }"


def process_of_run(ui):
    """The process of the one run that a UI's code server has started."""

    def spawned():
        return [process for process in ui.family() if "multiprocessing.spawn" in " ".join(process.cmdline())]

    ui.until(spawned, "the process of the run")
    return spawned()[0]


@contextmanager
def left_behind(tmp_path, ecgs):
    """A run, as long as it takes to invent so many ECGs, whose servers were ended while it went on: their log, the
    instance, its id, and its process."""
    file, home = tmp_path / "small.yaml", tmp_path / "small"
    file.write_text(SMALL.replace("patients: 60, ecgs: 80", f"patients: {ecgs // 2}, ecgs: {ecgs}"))
    ui = start(tmp_path, str(file))
    launched = ui.graphql(LAUNCH, asset=["hospital_system"])["launchRun"]
    assert launched["__typename"] == "LaunchRunSuccess", launched
    run_id = launched["run"]["runId"]
    with open_instance(home) as instance:
        process = process_of_run(ui)
        ui.until(lambda: instance.get_run_by_id(run_id).status.value == "STARTED", "the start of the run")
        family = ui.family()
        ui.process.send_signal(signal.SIGTERM)
        assert ui.process.wait() == 0, ui.log
        assert f"{run_id} hospital_system" in ui.log
        code_server = process.parent()
        assert {each for each in family if each.is_running()} >= {code_server, process}
        yield ui, instance, run_id, process
        assert_gone(family, ui)


@pytest.mark.acceptance
def test_a_run_goes_on_without_the_servers_and_is_named(tmp_path, no_dagster_home):
    with left_behind(tmp_path, 6_000) as (ui, instance, run_id, process):
        assert "These runs continue, and the next `ecg-pipeline ui` can terminate them" in ui.log
        psutil.wait_procs([process], timeout=PATIENCE_S)
        assert instance.get_run_by_id(run_id).status.value == "SUCCESS"


@pytest.mark.slow
@pytest.mark.acceptance
def test_the_next_ui_can_terminate_a_run_that_went_on(tmp_path, no_dagster_home):
    with left_behind(tmp_path, 20_000) as (_, instance, run_id, process):
        ui = start(tmp_path, str(tmp_path / "small.yaml"))
        assert ui.graphql(TERMINATE, id=run_id)["terminateRun"]["__typename"] == "TerminateRunSuccess"
        ui.until(lambda: instance.get_run_by_id(run_id).is_finished, "the end of the run")
        assert instance.get_run_by_id(run_id).status.value == "CANCELED"
        psutil.wait_procs([process], timeout=PATIENCE_S)
        ui.process.send_signal(signal.SIGTERM)
        assert ui.process.wait() == 0
