"""Server processes: started, ended on request, and ended when the process that started them is gone, however it went.

A server leads a process group, so that its own children end with it. The code server is different: the Dagster runs
that it started are its children, and they go on. Asked to end, it takes no new run, and ends after the last of them.
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
class Started:
    """A server that was started. pid is that of its process group, too."""

    name: str
    pid: int
    waits_for_runs: bool


class Keeper:
    """Servers that have been started, beside a process that ends them if this one cannot."""

    def __init__(self, logs: Path):
        self.logs = logs
        self.servers: dict[Started, subprocess.Popen[bytes]] = {}
        # It reads from a pipe, which closes when this process is gone.
        self.guard = subprocess.Popen(  # noqa: S603
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
        started = Started(server.name, process.pid, server.waits_for_runs)
        self.servers[started] = process
        assert self.guard.stdin is not None
        self.guard.stdin.write(f"{started.name} {started.pid} {int(started.waits_for_runs)}\n")
        self.guard.stdin.flush()

    def ended(self) -> str | None:
        """The name of a server that has ended by itself, if one has."""
        if self.guard.poll() is not None:
            return "guard"
        return next((server.name for server, process in self.servers.items() if process.poll() is not None), None)

    def waits_for_runs(self) -> bool:
        """Whether a server that was ended still lives, because runs that it started do."""
        return any(server.waits_for_runs and process.poll() is None for server, process in self.servers.items())

    def last_words(self, name: str, lines: int = 15) -> str:
        """The end of a server's log."""
        path = self.logs / f"{name}.log"
        return "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) if path.exists() else ""

    def end(self) -> None:
        """End every server, and then the process that would have: asked twice, a code server does not wait for runs."""
        end(self.servers)
        self.guard.kill()
        self.guard.wait()


def end(servers: Iterable[Started]) -> None:
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


def group(server: Started) -> list[psutil.Process]:
    """What lives of a server's process group."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getpgid(process.pid) == server.pid and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def _is_settled(server: Started) -> bool:
    """Whether a server is gone with all that it started, or waits for runs."""
    living = group(server)
    return not living or (server.waits_for_runs and any(_is_run(process) for process in living))


def _is_run(process: psutil.Process) -> bool:
    """Whether a process of a code server executes a run: these are spawned as Python's multiprocessing does."""
    try:
        return any("multiprocessing.spawn" in word for word in process.cmdline())
    except psutil.NoSuchProcess:
        return False


def _signal(server: Started, number: signal.Signals) -> None:
    """Signal a server's whole group; of one that waits for runs, the server alone."""
    try:
        if server.waits_for_runs:
            os.kill(server.pid, number)
        else:
            os.killpg(server.pid, number)
    except ProcessLookupError:
        return


def main() -> None:
    """Hear which servers there are until the pipe closes, then end them."""
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    heard = [line.split() for line in sys.stdin]
    end(Started(name, int(pid), waits == "1") for name, pid, waits in heard)


if __name__ == "__main__":
    main()
