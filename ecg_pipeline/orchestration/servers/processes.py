"""Server processes: started, ended on request, and ended when the process that started them has ended or was killed.

A server leads a process group, so that its own children end with it. The code server is different: the Dagster runs
that it started are its children, and they continue. On SIGINT it takes no new run, and ends after the last of them.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

GRACE_S = 10
"""How long a server may take to end before it is killed."""


@dataclass(frozen=True)
class Server:
    """A process to start: its name, its command, and whether it waits for runs that it started."""

    name: str
    command: Sequence[str]
    waits_for_runs: bool = False


@dataclass(frozen=True)
class StartedServer:
    """A server that was started. pid is that of its process group, too."""

    name: str
    pid: int
    waits_for_runs: bool


class ServerProcesses:
    """Started servers, and a watchdog process that ends them if this process is killed."""

    def __init__(self, logs: Path):
        self.logs = logs
        self.servers: dict[StartedServer, subprocess.Popen[bytes]] = {}
        # It reads from a pipe, which closes when this process is gone.
        self.watchdog = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", __name__], stdin=subprocess.PIPE, start_new_session=True, text=True
        )

    def start(self, server: Server, environment: Mapping[str, str]) -> None:
        """Start a server in a session of its own, its output in a log file."""
        with (self.logs / f"{server.name}.log").open("w") as log:
            process = subprocess.Popen(  # noqa: S603
                server.command,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        started = StartedServer(server.name, process.pid, server.waits_for_runs)
        self.servers[started] = process
        assert self.watchdog.stdin is not None
        self.watchdog.stdin.write(f"{started.name} {started.pid} {int(started.waits_for_runs)}\n")
        self.watchdog.stdin.flush()

    def ended(self) -> str | None:
        """The name of a server that has ended by itself, if one has."""
        if self.watchdog.poll() is not None:
            return "watchdog"
        return next((server.name for server, process in self.servers.items() if process.poll() is not None), None)

    def waits_for_runs(self) -> bool:
        """Whether a server that was asked to end is still alive, because of runs in progress."""
        return any(server.waits_for_runs and process.poll() is None for server, process in self.servers.items())

    def log_tail(self, name: str, lines: int = 15) -> str:
        """The end of a server's log."""
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def end(self) -> None:
        """End every server, then kill the watchdog: a second signal would end a code server that waits for runs."""
        end(self.servers)
        self.watchdog.kill()
        self.watchdog.wait()


def end(servers: Iterable[StartedServer]) -> None:
    """Ask servers to end, and kill those that do not. A code server that waits for runs is left to do so."""
    servers = list(servers)
    for server in servers:
        _signal(server, signal.SIGINT if server.waits_for_runs else signal.SIGTERM)
    deadline = time.monotonic() + GRACE_S
    while time.monotonic() < deadline and not all(_is_settled(server) for server in servers):
        time.sleep(0.1)
    for server in servers:
        if not _is_settled(server):
            _signal(server, signal.SIGKILL)


def process_group(server: StartedServer) -> list[psutil.Process]:
    """Living processes of a server's process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == server.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def _is_settled(server: StartedServer) -> bool:
    """Whether a server and its child processes have ended, or it waits for runs."""
    living = process_group(server)
    return not living or (server.waits_for_runs and any(_is_run(process) for process in living))


def _is_run(process: psutil.Process) -> bool:
    """Whether a process of a code server executes a run: these are spawned as Python's multiprocessing does."""
    try:
        return any("multiprocessing.spawn" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _signal(server: StartedServer, number: signal.Signals) -> None:
    """Signal a server's whole process group; if it waits for runs, the server only."""
    try:
        if server.waits_for_runs:
            os.kill(server.pid, number)
        else:
            os.killpg(server.pid, number)
    except ProcessLookupError:
        return


def main() -> None:
    """Watchdog: read the started servers from stdin until it closes, then end them."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    lines = [line.split() for line in sys.stdin]
    end(StartedServer(name, int(pid), waits == "1") for name, pid, waits in lines)


if __name__ == "__main__":
    main()
