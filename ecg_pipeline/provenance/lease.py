"""A lease on a folder, so that it has one writer among processes, PID namespaces and hosts on one file system.

The holder renews its lease. If it died on this machine, the lease is free at once. A holder elsewhere is known by its
renewals only: after `STALE_S` without one, another process may acquire the lease, and the old holder's next `check`
fails before it publishes anything.
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
"""Interval at which a lease is renewed."""

STALE_S = 24.0
"""Time without a renewal after which a lease is free, if its holder's process cannot be looked up."""

POLL_S = 0.1
"""Interval at which a waiting process tries to acquire a lease."""

CLOCK_S = 5.0
"""Tolerance of process start times, which shift when the system clock is set."""

_TIE_S = 0.2
"""Time after which concurrent writes of a lease are visible to all, on file systems without locks."""


class LeaseLost(RuntimeError):  # noqa: N818
    """Another process has acquired the lease: this one must not publish anything more."""


@dataclass(frozen=True)
class ProcessId:
    """Identity of a process, unique over hosts and PID namespaces."""

    host: str
    namespace: str
    pid: int
    started: float

    def is_dead(self) -> bool:
        """Whether the process has certainly ended. False if it cannot be looked up from here."""
        here = this_process()
        if (self.host, self.namespace) != (here.host, here.namespace):
            return False
        try:
            process = psutil.Process(self.pid)
            # Another process may have the same id now. Start times are relative to the boot time, which shifts.
            is_another = abs(process.create_time() - self.started) > CLOCK_S
            return is_another or process.status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


def this_process() -> ProcessId:
    """The calling process. The host includes its boot id, so a restarted machine is a different host."""
    return _process(os.getpid())


@cache
def _process(pid: int) -> ProcessId:
    boot, itself = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self")
    host = f"{socket.gethostname()} {boot.read_text().strip() if boot.exists() else psutil.boot_time()}"
    if itself.exists() and itself.readlink().name != str(pid):
        # /proc is of another PID namespace: processes cannot be looked up.
        return ProcessId(host, uuid4().hex, pid, 0.0)
    namespace = (itself / "ns" / "pid").readlink().name if itself.exists() else ""
    return ProcessId(host, namespace, pid, psutil.Process(pid).create_time())


def is_dead(process: str) -> bool:
    """Whether a process, written by `process_json`, has certainly ended."""
    return ProcessId(**json.loads(process)).is_dead()


def process_json() -> str:
    """The calling process as JSON, for `is_dead`."""
    return json.dumps(asdict(this_process()))


class Lease:
    """A lease held by this process; see `hold`."""

    def __init__(self, path: Path):
        self.path = path
        self.token = uuid4().hex
        self._beats = 0
        self._ended = threading.Event()

    def check(self) -> None:
        """Raise LeaseLost if another process has acquired the lease."""
        held = _read(self.path)
        if held is None or held["token"] != self.token:
            raise LeaseLost(
                f"{self.path.parent}: another run acquired the lease while this one did not renew it; run it again"
            )

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

    def _acquire(self, seen: dict[str, tuple[str, float]]) -> bool:
        """Acquire the lease if it is free, and return whether it was.

        seen: the holder's last renewal and when this process first saw it; updated here.
        """
        with _guarded(self.path) as is_locked:
            held = _read(self.path)
            if held is not None and not _is_over(held, seen):
                return False
            self._write()
        if not is_locked:
            # Without locks two processes may have written; after a moment both read the last one's lease.
            time.sleep(_TIE_S)
            held = _read(self.path)
        return is_locked or (held is not None and held["token"] == self.token)


@contextmanager
def hold(folder: Path, waiting: Callable[[str], None] = lambda holder: None) -> Iterator[Lease]:
    """Hold the lease of a folder, waiting until it is free. waiting: called once with the current holder, if any."""
    folder.mkdir(parents=True, exist_ok=True)
    lease, seen, is_reported = Lease(folder / ".lease"), {}, False
    while not lease._acquire(seen):
        if not is_reported and (held := _read(lease.path)):
            waiting(f"process {held['pid']} on {held['host'].split()[0]}")
            is_reported = True
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


def holder(folder: Path) -> ProcessId | None:
    """The process that holds a folder's lease; None if the lease is free, or its holder has certainly ended."""
    held = _read(folder / ".lease")
    process = ProcessId(held["host"], held["namespace"], held["pid"], held["started"]) if held else None
    return None if process is None or process.is_dead() else process


def clear_leftovers(folder: Path) -> None:
    """Delete temporary files that killed writers left in a folder whose lease is held."""
    for leftover in [*folder.glob(".*.tmp"), *folder.glob("records/.*.tmp")]:
        if not leftover.name.startswith("..lease"):
            leftover.unlink(missing_ok=True)


def _is_over(held: dict[str, Any], seen: dict[str, tuple[str, float]]) -> bool:
    """Whether a lease is free: its holder has ended, or has not renewed it while this process waited for `STALE_S`."""
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
    """Lock around reading and writing a lease; yields False on a file system without locks."""
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
