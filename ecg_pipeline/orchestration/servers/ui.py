"""A study's servers, from the first port to the last process: what `ecg-pipeline ui` does."""

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
from ecg_pipeline.orchestration.servers.processes import Keeper, Server
from ecg_pipeline.storage.files import locked, write_json
from ecg_pipeline.study import Study, study_home
from ecg_pipeline.tracking import has_server, tracking_uri

LOCATION, DEFINITIONS = "ecg_pipeline", "ecg_pipeline.definitions"

LAUNCHED_BY = ".dagster/grpc_info"
"""Dagster's tag on a run: the address of the code server that started it."""

LOOK_S = 0.5


class UiError(RuntimeError):
    """The servers cannot be started, or do not do what they should; says why."""


@dataclass(frozen=True)
class _Place:
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


def serve(study: Study, port: int, say: Callable[[str], None]) -> None:
    """Start a study's servers, watch them, and end all of them when asked to or when one ends by itself.

    Asked by SIGINT, SIGTERM or SIGHUP. A UiError where a port is taken, where the servers run already, or where one
    ended. Runs in progress go on: their code server ends after the last of them.
    """
    home, addresses = study_home(study), ports_from(port)
    dagster_home = instance_home(home)
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(dagster_home / ".ui.lock", waits=False))
        except BlockingIOError:
            raise UiError(f"the servers over {dagster_home} run already") from None
        _check_ports(addresses, has_server(home))
        write_addresses(home, addresses)
        instance = stack.enter_context(open_instance(home))
        # A path that is short, as those of sockets must be, in a folder that is this user's alone: whoever can speak
        # to a code server can have code run.
        place = _Place(study, home, dagster_home, addresses, Path(tempfile.mkdtemp(prefix="ecg-")) / "code")
        stop = stack.enter_context(_asked_to_stop())
        place.folder.mkdir(parents=True, exist_ok=True)
        keeper = Keeper(place.folder)
        try:
            say("Starting the servers ...")
            _start(keeper, place, stop)
            if not stop.is_set():
                say(_addresses_in_words(place))
            while not stop.wait(LOOK_S):
                _complain_of_the_dead(keeper)
        finally:
            say("Ending the servers ...")
            keeper.end()
            say(_runs_in_words(instance, keeper, place.socket))


def _start(keeper: Keeper, place: _Place, stop: threading.Event) -> None:
    """Start every server and wait until all answer."""
    keeper.start(_code_server(place), place.environment)
    keeper.start(_page_server(place), place.environment)
    answering = [(place.addresses.pages, "/health")]
    if not has_server(place.home):
        keeper.start(_tracking_server(place), place.environment)
        answering.append((place.addresses.mlflow, "/"))
    _wait(keeper, stop, lambda: _accepts(place.socket))
    if stop.is_set():
        return
    for server in _dagster_servers(place):
        keeper.start(server, place.environment)
    for port, path in (*answering, (place.addresses.dagster, "/server_info")):
        _wait(keeper, stop, lambda port=port, path=path: _status(port, path, HOST) == 200)
        if not stop.is_set() and (_status(port, path, "example.org") or 0) < 400:
            raise UiError(f"the server on port {port} answers to a foreign Host header, so it was ended again")


def _code_server(place: _Place) -> Server:
    """Loads the definitions, starts runs. One for webserver and daemon, each of which would start its own."""
    words = ["api", "grpc", "--socket", str(place.socket), "--module-name", DEFINITIONS, "--location-name", LOCATION]
    return Server(
        "code_server", [sys.executable, "-m", "dagster", *words, "--log-level", "warning"], waits_for_runs=True
    )


def _dagster_servers(place: _Place) -> list[Server]:
    """Webserver and daemon, over the code server."""
    workspace_file = place.folder / "workspace.yaml"
    server = {"grpc_server": {"socket": str(place.socket), "location_name": LOCATION}}
    write_json(workspace_file, {"load_from": [server]})
    web = [sys.executable, "-m", "ecg_pipeline.orchestration.servers.webserver", "--host", HOST]
    daemon = [str(Path(sysconfig.get_path("scripts")) / "dagster-daemon"), "run", "--log-level", "warning"]
    return [
        Server("webserver", [*web, "--port", str(place.addresses.dagster), "--workspace", str(workspace_file)]),
        Server("daemon", [*daemon, "--workspace", str(workspace_file)]),
    ]


def _page_server(place: _Place) -> Server:
    ports = [str(place.addresses.pages), str(place.addresses.mlflow)]
    return Server("pages", [sys.executable, "-m", "ecg_pipeline.orchestration.servers.pages", str(place.home), *ports])


def _tracking_server(place: _Place) -> Server:
    module = "ecg_pipeline.orchestration.servers.tracking_server"
    arguments = [str(place.home), place.study.name, str(place.addresses.mlflow)]
    return Server("mlflow", [sys.executable, "-m", module, *arguments])


@contextmanager
def _asked_to_stop() -> Iterator[threading.Event]:
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


def _wait(keeper: Keeper, stop: threading.Event, is_ready: Callable[[], bool]) -> None:
    """Wait until `is_ready`, until asked to stop, or until a server has ended, which is a UiError."""
    while not is_ready() and not stop.wait(LOOK_S):
        _complain_of_the_dead(keeper)


def _complain_of_the_dead(keeper: Keeper) -> None:
    if name := keeper.ended():
        raise UiError(f"{name} ended by itself, so all were ended. Its log ends with\n{keeper.last_words(name)}")


def _accepts(path: Path) -> bool:
    """Whether a server listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _status(port: int, path: str, host: str) -> int | None:
    """HTTP status of a page asked for by this Host header; None where nobody answers."""
    connection = http.client.HTTPConnection(HOST, port, timeout=20)
    try:
        connection.request("GET", path, headers={"Host": f"{host}:{port}"})
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def _addresses_in_words(place: _Place) -> str:
    mlflow = tracking_uri(place.home) if has_server(place.home) else address(place.addresses.mlflow)
    return "\n".join(
        (
            f"Dagster  {address(place.addresses.dagster)}",
            f"MLflow   {mlflow}",
            f"Report   {address(place.addresses.pages)}/reports/benchmark_report, once it is made",
            f"Logs     {place.folder}",
            "Ctrl-C ends these servers. A run in progress then goes on; what is queued waits for the next start.",
        )
    )


def _runs_in_words(instance: dg.DagsterInstance, keeper: Keeper, socket: Path) -> str:
    """Which runs go on without the servers. Those whose process is gone are marked as failed."""
    lines, waits = [], keeper.waits_for_runs()
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
    words += [f"These runs go on{can}:", *lines] if lines else []
    words += [f"{queued} queued runs wait for the next `ecg-pipeline ui`."] if queued else []
    return "\n".join(words)
