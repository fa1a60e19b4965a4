"""One writer a folder: a lease that its holder renews, across processes, PID namespaces and hosts on one file system.

A process that died on this machine is known at once. Of one elsewhere only the heartbeat is seen: a lease that was not
renewed for `STALE_S` is taken over. Its holder finds that out before it publishes anything.
"""

import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from ecg_pipeline.storage.files import locked, write_text

BEAT_S = 3.0
"""How often a lease is renewed."""

STALE_S = 24.0
"""A lease that nobody renewed for so long is taken over, if its holder cannot be looked up."""

POLL_S = 0.1

CLOCK_S = 5.0

_TIE_S = 0.2


class LeaseLost(RuntimeError):  # noqa: N818
    """Another process holds the lease now: nothing more may be published under it."""


@dataclass(frozen=True)
class ProcessId:
    """A process so named that no other, on any machine or in any PID namespace, has the same name."""

    host: str
    namespace: str
    pid: int
    started: float

    def is_dead(self) -> bool:
        """Whether this process has certainly ended. False where it cannot be looked up from here."""
        here = this_process()
        if (self.host, self.namespace) != (here.host, here.namespace):
            return False
        try:
            process = psutil.Process(self.pid)
            # The time that a process began is counted from the boot's, which moves when the clock is set.
            is_another = abs(process.create_time() - self.started) > CLOCK_S
            return is_another or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def this_process() -> ProcessId:
    """The calling process. The host is named by its boot, so a restarted machine is another one."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> ProcessId:
    boot, itself = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self")
    host = f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else psutil.boot_time()}"
    if itself.exists() and itself.readlink().name != str(pid):
        # In a namespace that sees the processes of another one, nobody can be looked up.
        return ProcessId(host, uuid4().hex, pid, 0.0)
    namespace = (itself / "ns" / "pid").readlink().name if itself.exists() else ""
    return ProcessId(host, namespace, pid, psutil.Process(pid).create_time())


def is_dead(process: str) -> bool:
    """Whether a process, as `process_json` wrote it, has certainly ended."""
    return ProcessId(**json.loads(process)).is_dead()


def process_json() -> str:
    """The calling process as text, for `is_dead`."""
    return json.dumps(asdict(this_process()))


class Lease:
    """A lease that this process holds; see `hold`."""

    def __init__(self, path: Path):
        self.path = path
        self.token = uuid4().hex
        self._beats = 0
        self._ended = threading.Event()

    def check(self) -> None:
        """LeaseLost where another process has taken the lease over."""
        held = _read(self.path)
        if held is None or held["token"] != self.token:
            raise LeaseLost(f"{self.path.parent}: another run took over while this one did not answer; run it again")

    def _write(self) -> None:
        self._beats += 1
        write_text(self.path, json.dumps({"token": self.token, "beats": self._beats, **asdict(this_process())}))

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_S):
            with _guarded(self.path):
                held = _read(self.path)
                if held is None or held["token"] != self.token:
                    return
                self._write()

    def _take(self, seen: dict[str, tuple[str, float]]) -> bool:
        """Take a lease that is free or dead. seen: the last beat of each holder, and since when it stands."""
        with _guarded(self.path) as is_locked:
            held = _read(self.path)
            if held is not None and not _is_over(held, seen):
                return False
            self._write()
        if not is_locked:
            # Without locks two may have written: after a moment the last one stands, and all see the same.
            time.sleep(_TIE_S)
            held = _read(self.path)
        return is_locked or (held is not None and held["token"] == self.token)


@contextmanager
def hold(folder: Path, waiting: Callable[[str], None] = lambda holder: None) -> Iterator[Lease]:
    """Hold the lease of a folder, after whoever holds it now. waiting: told once who that is."""
    folder.mkdir(parents=True, exist_ok=True)
    lease, seen, told = Lease(folder / ".lease"), {}, False
    while not lease._take(seen):
        if not told and (held := _read(lease.path)):
            waiting(f"process {held['pid']} on {held['host'].split()[0]}")
            told = True
        time.sleep(POLL_S)
    beat = threading.Thread(target=lease._beat, name="lease", daemon=True)
    beat.start()
    try:
        yield lease
    finally:
        lease._ended.set()
        beat.join()
        with _guarded(lease.path):
            held = _read(lease.path)
            if held is not None and held["token"] == lease.token:
                lease.path.unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Remove what killed writers left half written in a folder whose lease is held."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob("records/.*.tmp")]:
        if not leftover.name.startswith("..lease"):
            leftover.unlink(missing_ok=True)


def _is_over(held: dict[str, Any], seen: dict[str, tuple[str, float]]) -> bool:
    """Whether a lease's holder is dead, or has not renewed it for too long while this process looked on."""
    holder = ProcessId(held["host"], held["namespace"], held["pid"], held["started"])
    if holder.is_dead():
        return True
    beat, now = f"{held['token']} {held['beats']}", time.monotonic()
    if seen.get("beat", ("", now))[0] != beat:
        seen["beat"] = beat, now
    here = this_process()
    is_near = (holder.host, holder.namespace) == (here.host, here.namespace)
    return not is_near and now - seen["beat"][1] > STALE_S


@contextmanager
def _guarded(path: Path) -> Iterator[bool]:
    """A lock around looking at a lease and changing it; False on a file system that has no locks."""
    with ExitStack() as held:
        try:
            held.enter_context(locked(path.with_name(f"{path.name}.lock")))
            is_locked = True
        except OSError:
            is_locked = False
        yield is_locked


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        return None
