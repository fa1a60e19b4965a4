"""Starts, watches and ends a study's servers: the command `ecg-pipeline ui`."""

import http.client
import os
import signal
import socket
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from ecg_pipeline.links import HOST, Addresses, address, ports_from, write_addresses
from ecg_pipeline.orchestration.instance import IN_PROGRESS, instance_home, open_instance, run_process
from ecg_pipeline.orchestration.servers.processes import Server, ServerProcesses
from ecg_pipeline.storage.files import locked, write_json
from ecg_pipeline.study import Study, study_home
from ecg_pipeline.tracking import has_server, tracking_uri

LOCATION, DEFINITIONS = "ecg_pipeline", "ecg_pipeline.definitions"

LAUNCHED_BY = ".dagster/grpc_info"
"""Dagster's tag on a run: the address of the code server that started it."""

POLL_S = 0.5


class UiError(RuntimeError):
    """The servers cannot be started, or one has ended or is not secure."""


@dataclass(frozen=True)
class _Servers:
    """Folders, addresses and socket of a study's servers."""

    study: Study
    home: Path
    dagster_home: Path
    addresses: Addresses
    socket: Path

    @property
    def folder(self) -> Path:
        """Folder of the servers' logs and of Dagster's workspace file."""
        return self.dagster_home / "servers"

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables of the servers."""
        return {
            **os.environ,
            "DAGSTER_HOME": str(self.dagster_home),
            "DAGSTER_DISABLE_TELEMETRY": "true",
            "ECG_HOME": str(self.home.parent),
        }


def serve(study: Study, port: int, output: Callable[[str], None]) -> None:
    """Start a study's servers, watch them, and end all of them on SIGINT, SIGTERM or SIGHUP.

    UiError if a port is taken, if the servers are already running, or if one ended. Runs in progress continue: their
    code server ends after the last of them.
    """
    home, addresses = study_home(study), ports_from(port)
    dagster_home = instance_home(home)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(dagster_home / ".ui.lock", wait=False))
        except BlockingIOError:
            raise UiError(f"the servers for {dagster_home} are already running") from None
        _check_ports(addresses, has_server(home))
        write_addresses(home, addresses)
        instance = stack.enter_context(open_instance(home))
        # Paths of sockets must be short. Only this user may access the folder, because a client of the code server can
        # execute code.
        servers = _Servers(study, home, dagster_home, addresses, Path(tempfile.mkdtemp(prefix="ecg-")) / "code")
        stop = stack.enter_context(_stop_on_signal())
        servers.folder.mkdir(parents=True, exist_ok=True)
        processes = ServerProcesses(servers.folder)
        try:
            output("Starting the servers ...")
            _start(processes, servers, stop)
            if not stop.is_set():
                output(_addresses_text(servers))
            while not stop.wait(POLL_S):
                _raise_if_one_ended(processes)
        finally:
            output("Ending the servers ...")
            processes.end()
            output(_remaining_runs_text(instance, processes, servers.socket))


def _start(processes: ServerProcesses, servers: _Servers, stop: threading.Event) -> None:
    """Start every server and wait until all answer."""
    processes.start(_code_server(servers), servers.environment)
    processes.start(_page_server(servers), servers.environment)
    answering = [(servers.addresses.pages, "/health")]
    if not has_server(servers.home):
        processes.start(_tracking_server(servers), servers.environment)
        answering.append((servers.addresses.mlflow, "/"))
    _wait(processes, stop, lambda: _accepts(servers.socket))
    if stop.is_set():
        return
    for server in _dagster_servers(servers):
        processes.start(server, servers.environment)
    for port, path in (*answering, (servers.addresses.dagster, "/server_info")):
        _wait(processes, stop, lambda port=port, path=path: _status(port, path, HOST) == 200)
        if not stop.is_set() and (_status(port, path, "example.org") or 0) < 400:
            raise UiError(f"the server on port {port} accepts a foreign Host header, so all servers were ended")


def _code_server(servers: _Servers) -> Server:
    """Loads the definitions and starts runs. Shared by webserver and daemon, which would otherwise each start one."""
    words = ["api", "grpc", "--socket", str(servers.socket), "--module-name", DEFINITIONS, "--location-name", LOCATION]
    return Server(
        "code_server", [sys.executable, "-m", "dagster", *words, "--log-level", "warning"], waits_for_runs=True
    )


def _dagster_servers(servers: _Servers) -> list[Server]:
    """Webserver and daemon, over the code server."""
    workspace_file = servers.folder / "workspace.yaml"
    server = {"grpc_server": {"socket": str(servers.socket), "location_name": LOCATION}}
    write_json(workspace_file, {"load_from": [server]})
    web = [sys.executable, "-m", "ecg_pipeline.orchestration.servers.webserver", "--host", HOST]
    daemon = [str(Path(sysconfig.get_path("scripts")) / "dagster-daemon"), "run", "--log-level", "warning"]
    return [
        Server("webserver", [*web, "--port", str(servers.addresses.dagster), "--workspace", str(workspace_file)]),
        Server("daemon", [*daemon, "--workspace", str(workspace_file)]),
    ]


def _page_server(servers: _Servers) -> Server:
    ports = [str(servers.addresses.pages), str(servers.addresses.mlflow)]
    module = "ecg_pipeline.orchestration.servers.pages"
    return Server("pages", [sys.executable, "-m", module, str(servers.home), *ports])


def _tracking_server(servers: _Servers) -> Server:
    module = "ecg_pipeline.orchestration.servers.tracking_server"
    arguments = [str(servers.home), servers.study.name, str(servers.addresses.mlflow)]
    return Server("mlflow", [sys.executable, "-m", module, *arguments])


@contextmanager
def _stop_on_signal() -> Iterator[threading.Event]:
    """An event that is set by SIGINT, SIGTERM and SIGHUP."""
    stop = threading.Event()
    before = {
        number: signal.signal(number, lambda *_: stop.set())
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_ports(addresses: Addresses, is_mlflow_elsewhere: bool) -> None:
    wanted = [addresses.dagster, addresses.pages, *([] if is_mlflow_elsewhere else [addresses.mlflow])]
    if taken := [str(port) for port in wanted if not _is_free(port)]:
        raise UiError(
            f"port {', '.join(taken)} of {HOST} is taken; the servers need {wanted[0]} to {wanted[-1]}: "
            "choose another first port with --port"
        )


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except (OSError, OverflowError):
            return False
    return True


def _wait(processes: ServerProcesses, stop: threading.Event, is_ready: Callable[[], bool]) -> None:
    """Wait until `is_ready`, until asked to stop, or until a server has ended, which is a UiError."""
    while not is_ready() and not stop.wait(POLL_S):
        _raise_if_one_ended(processes)


def _raise_if_one_ended(processes: ServerProcesses) -> None:
    if name := processes.ended():
        log = processes.log_tail(name)
        raise UiError(f"{name} ended by itself, so all servers were ended. Its log ends with\n{log}")


def _accepts(path: Path) -> bool:
    """Whether a server listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _status(port: int, path: str, host: str) -> int | None:
    """HTTP status of a page requested with this Host header; None if nothing answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{port}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _addresses_text(servers: _Servers) -> str:
    mlflow = tracking_uri(servers.home) if has_server(servers.home) else address(servers.addresses.mlflow)
    return "\n".join(
        (
            f"Dagster  {address(servers.addresses.dagster)}",
            f"MLflow   {mlflow}",
            f"Report   {address(servers.addresses.pages)}/reports/benchmark_report, once it is made",
            f"Logs     {servers.folder}",
            "Ctrl-C ends these servers. Runs in progress then continue; queued runs wait for the next start.",
        )
    )


def _remaining_runs_text(instance: dg.DagsterInstance, processes: ServerProcesses, socket: Path) -> str:
    """Message on the runs that continue without the servers. Runs whose process is gone are marked as failed."""
    lines, waits = [], processes.waits_for_runs()
    for run in instance.get_runs(dg.RunsFilter(statuses=list(IN_PROGRESS))):
        if str(socket) not in run.tags.get(LAUNCHED_BY, ""):
            continue
        assets = ", ".join(sorted(key.to_user_string() for key in run.asset_selection or ()))
        if waits or run_process(instance, run.run_id):
            what = (run.run_id, assets or run.job_name, run.tags.get("dagster/partition", ""))
            lines.append(f"  {' '.join(what)}".rstrip())
        else:
            instance.report_run_failed(run, "The process of this run ended with the servers of the UI.")
    queued = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    words = ["The servers have ended."]
    can = ", and the next `ecg-pipeline ui` can terminate them" if waits else ""
    words += [f"These runs continue{can}:", *lines] if lines else []
    words += [f"{queued} queued runs wait for the next `ecg-pipeline ui`."] if queued else []
    return "\n".join(words)
