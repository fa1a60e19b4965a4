"""Reads randomly damaged copies of real files (seeded) and measures time and memory.

They are read in a separate process that records which files are opened and exits if one takes too long. Its memory is
limited, so that a file that needs more fails with a MemoryError.
"""

import faulthandler
import json
import os
import random
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import wfdb

from ecg_pipeline.ingest.drop_folder import DropFolder
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.reading import ecg_row, read_ecg
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.rejects import Rejected
from ecg_pipeline.ingest.store import ECG_SCHEMA

WATCHDOG_S = 60
WATCHDOG_BYTES = 10**9
KEY = fixed_key("damaged")
NOW = "now"
"""File that says what is being read."""

NUMBERS = [
    *(b"", b"0", b"-1", b"1", b"nan", b"inf", b"-inf", b"1e309", b"1e-320", b"1e12", b"-1e300", b"0x10", b"1_0", b"+"),
    *(b"32768", b"65537", b"2147483648", b"9223372036854775808", b"9" * 400, b"9" * 5000, "\u0663".encode()),
    *(b"212", b"80", b"24", b"32", b"508", b"16x9", b"16:9999999", b"16+99999999999999999999", b"1(99999999999)/mV"),
]
NAMES = [
    *(
        b"../secret.dat",
        b"../../etc/passwd",
        b"/etc/passwd",
        b"..",
        b".",
        b"~",
        b"-",
        b"a\0b",
        b"x" * 300,
        b"x" * 5000,
    ),
    *(b"sub/x.dat", b"..\\secret.dat", b"link.dat", b"folder", b"pipe", b"large.dat", b"s3://x/y"),
    *(b"%2e%2e%2fsecret.dat", "\u202e\u0000\U0001f600".encode(), b"\xff\xfe", b"file:///etc/passwd"),
]
MARKUP = [
    b'<!DOCTYPE RestingECG [<!ENTITY a SYSTEM "file:///etc/passwd">]>',
    b'<!DOCTYPE RestingECG [<!ENTITY % p SYSTEM "../secret.dat"> %p;]>',
    b'<!DOCTYPE RestingECG SYSTEM "../secret.dat">',
    b'<xi:include xmlns:xi="http://www.w3.org/2001/XInclude" href="../secret.dat" parse="text"/>',
    b'<?xml-stylesheet href="../secret.dat"?>',
    *(
        b"<![CDATA[<Waveform>]]>",
        b"<!-- -- -->",
        b"&#127;0",
        b"&#127;-1",
        b"&#x7f;999",
        b"\x7f7",
        b"&#0;",
        b"&a;",
        b"&",
    ),
    *(b"<", b"]]>", b"</RestingECG>", b"<a>" * 300, b"<a/>" * 20_000, b"<a " + b"b='c' " * 500 + b"/>", b"\0", b"\xff"),
]
ENCODINGS = [b"UTF-7", b"UTF-16", b"EBCDIC-US", b"", b"utf-8", b"ISO-2022-JP", b"x" * 5000]

_NUMBER = re.compile(rb"(?<![\w.+/-])[-+]?\d+(?:\.\d+)?(?![\w.+/])")
_TAG = re.compile(rb"</?[A-Za-z]\w*>")
_FIELD = re.compile(rb"<(\w+)>[^<]*</")
_ENCODING = re.compile(rb"(?<=encoding=[\"'])[^\"']*")

Mutation = Callable[[bytes, random.Random], bytes]


def change_bytes(content: bytes, rng: random.Random) -> bytes:
    """Change one to eight bytes."""
    changed = bytearray(content)
    for _ in range(rng.randint(1, 8) if content else 0):
        changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def move_bytes(content: bytes, rng: random.Random) -> bytes:
    """A stretch is cut out, doubled, or put elsewhere."""
    start, length = rng.randrange(len(content) + 1), int(2 ** rng.uniform(0, 12))
    stretch, rest = content[start : start + length], content[:start] + content[start + length :]
    place = rng.randrange(len(rest) + 1)
    return rng.choice([rest, content[:start] + stretch + content[start:], rest[:place] + stretch + rest[place:]])


def cut_short(content: bytes, rng: random.Random) -> bytes:
    """The end is missing, or the beginning."""
    place = rng.randrange(len(content) + 1)
    return content[:place] if rng.random() < 0.8 else content[place:]


def change_number(content: bytes, rng: random.Random) -> bytes:
    """Change one to three numbers."""
    for _ in range(rng.randint(1, 3)):
        content = _replaced(content, _NUMBER, rng.choice(NUMBERS), rng)
    return content


def change_tags(content: bytes, rng: random.Random) -> bytes:
    """A tag goes, is doubled or becomes another, markup comes in, or the encoding is another."""
    tags = _TAG.findall(content[:20_000]) or [b"<a>"]
    match rng.randrange(4):
        case 0:
            return _replaced(content, _TAG, b"", rng)
        case 1:
            return _replaced(content, _TAG, rng.choice(tags) * rng.choice([1, 2]), rng)
        case 2:
            return _replaced(content, _TAG, rng.choice(MARKUP) + rng.choice(tags), rng)
        case _:
            return _replaced(content, _ENCODING, rng.choice(ENCODINGS), rng)


def change_field(content: bytes, rng: random.Random) -> bytes:
    """An element, often one of a lead's, holds something else, in one place or wherever it occurs."""
    lead = content[content.rfind(b"<LeadData>") :]
    names = sorted(set(_FIELD.findall(lead if rng.random() < 0.7 else content[:20_000]))) or [b"a"]
    field, value = re.compile(rb"(?<=<%s>)[^<]*" % rng.choice(names)), rng.choice(NUMBERS + MARKUP)
    return field.sub(lambda _: value, content) if rng.random() < 0.5 else _replaced(content, field, value, rng)


def change_lines(content: bytes, rng: random.Random) -> bytes:
    """A line goes, comes again or goes elsewhere; or a word in it does."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    words = lines[place].split(b" ")
    if rng.random() < 0.5:
        lines[place] = b" ".join(_moved(words, rng))
    else:
        lines = _moved(lines, rng)
    return b"\n".join(lines)


def change_paths(content: bytes, rng: random.Random) -> bytes:
    """The signal file that each line of a header names is another, or one line's is."""
    name = rng.choice(NAMES)
    if rng.random() < 0.3:
        return _replaced(content, re.compile(rb"(?m)^[^#\s]\S*"), name, rng)
    first, _, rest = content.partition(b"\n")
    return first + b"\n" + re.sub(rb"(?m)^[^#\s]\S*", lambda _: name, rest)


def _replaced(content: bytes, pattern: re.Pattern[bytes], by: bytes, rng: random.Random) -> bytes:
    """The content with one of what matches replaced: the first after a random place, often one near the beginning."""
    reach = rng.choice([len(content), min(8000, len(content))])
    found = pattern.search(content, rng.randrange(reach + 1)) or pattern.search(content)
    return content if found is None else content[: found.start()] + by + content[found.end() :]


def _moved(things: list[bytes], rng: random.Random) -> list[bytes]:
    changed = list(things)
    taken = changed.pop(rng.randrange(len(changed)))
    for _ in range(rng.choice([0, 1, 2, 200])):
        changed.insert(rng.randrange(len(changed) + 1), taken)
    return changed


XML_MUTATIONS: Sequence[Mutation] = (
    *(change_bytes, move_bytes, cut_short, change_number, change_tags, change_field, change_field, change_field),
)
HEADER_MUTATIONS: Sequence[Mutation] = (
    *(change_bytes, move_bytes, cut_short, change_number, change_number, change_lines, change_paths),
)
SIGNAL_MUTATIONS: Sequence[Mutation] = (change_bytes, move_bytes, cut_short)


@dataclass(frozen=True)
class Task:
    """Files to damage and read: `files` copies of a folder's files in a format, with consecutive seeds.

    originals: the folder's ECG files, by name; a PTB-XL folder has its table. work: an empty folder.
    """

    format: str
    folder: str
    originals: Sequence[str]
    work: str
    seed: int
    files: int


@dataclass
class Survey:
    """Results of a Task. failures: seed, mutation and error of each. outcomes: files by reason, and `read`.

    worst_mb: the most memory that the process had so far, beyond what it had before it read its first file.
    """

    failures: list[str] = field(default_factory=list)
    outcomes: dict[str, int] = field(default_factory=dict)
    worst_s: float = 0.0
    worst_mb: float = 0.0


def survey(tasks: Sequence[Task]) -> list[Survey]:
    """Damage and read files in a process of its own. One that ends before its time is a failure, too."""
    command = [sys.executable, "-m", "ecg_pipeline.bench.mutations", json.dumps([asdict(task) for task in tasks])]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")  # noqa: S603 - this module
    if done.returncode == 0:
        return [Survey(**found) for found in json.loads(done.stdout.splitlines()[-1])]
    now = [Path(task.work, NOW).read_text() for task in tasks if Path(task.work, NOW).exists()]
    return [Survey([f"{now[-1:]}: the process ended with {done.returncode}: {done.stderr[-2000:]}"])]


def _read_all(tasks: Sequence[Task]) -> list[Survey]:
    """Damage and read all files, in the separate process."""
    _warm_up(Path(tasks[0].work))
    opened = _watch_opened()
    before_mb, surveys = _peak_mb(), []
    for task in tasks:
        drop = DropFolder("damaged", Path(task.work, "drop"), task.format, mrn_system="damaged")
        _write_neighbours(task, drop.path)
        for name in task.originals:
            shutil.copy(Path(task.folder, name), drop.path / name)
            assert _read(drop, name) == "read", name
    _limit_memory()
    for task in tasks:
        surveys.append(_read_damaged(task, opened))
        surveys[-1].worst_mb = _peak_mb() - before_mb
    return surveys


def _warm_up(folder: Path) -> None:
    """Use the wfdb package once, so that it opens its own files before opened files are recorded."""
    samples = np.zeros((100, 1), np.int16)
    wfdb.wrsamp(
        "warm", 500, ["mV"], ["I"], d_signal=samples, fmt=["212"], adc_gain=[1.0], baseline=[0], write_dir=str(folder)
    )
    wfdb.rdrecord(str(folder / "warm"), physical=False)


def _read_damaged(task: Task, opened: list[str]) -> Survey:
    drop = DropFolder("damaged", Path(task.work, "drop"), task.format, mrn_system="damaged")
    found = Survey()
    for seed in range(task.seed, task.seed + task.files):
        name, words = _damage(task, drop.path, seed)
        Path(task.work, NOW).write_text(words)
        faulthandler.dump_traceback_later(WATCHDOG_S, exit=True)
        opened.clear()
        began = time.perf_counter()
        try:
            outcome = _read(drop, name)
        except BaseException as error:  # noqa: BLE001 - this is what is looked for
            outcome = "failed"
            found.failures.append(f"{words}: {type(error).__name__}: {str(error)[:200]}")
        found.worst_s = max(found.worst_s, time.perf_counter() - began)
        faulthandler.cancel_dump_traceback_later()
        found.failures += [f"{words}: opened {path}" for path in opened if not _may_be_opened(path, drop.path)]
        found.outcomes[outcome] = found.outcomes.get(outcome, 0) + 1
    return found


def _read(drop: DropFolder, name: str) -> str:
    """Read a file without the store's catch-all, and store its row: why it is a reject, or `read`."""
    try:
        ecg = read_ecg(drop.file(name), drop, IngestRecipe())
    except Rejected as rejected:
        return str(rejected.reason)
    row = ecg_row(name, ecg, drop=drop, key=KEY)
    pl.DataFrame([{**row, "shard": 0, "array": "", "row": 0}], schema=ECG_SCHEMA)
    return "read"


def _write_neighbours(task: Task, folder: Path) -> None:
    """What lies around the damaged file: signals, tables, and things that must not be opened or followed."""
    folder.mkdir()
    (folder.parent / "secret.dat").write_bytes(b"secret" * 1000)
    for table in FORMATS[task.format].tables:
        shutil.copy(Path(task.folder, table.name), folder)
    for name in task.originals:
        beside = _path_in_new_folder(folder, name).parent
        for suffix in (".dat", ".mat"):
            if (signals := Path(task.folder, name).with_suffix(suffix)).exists():
                shutil.copy(signals, beside)
        if not (beside / "pipe").exists():
            (beside / "link.dat").symlink_to(folder.parent / "secret.dat")
            (beside / "folder").mkdir()
            os.mkfifo(beside / "pipe")
            with (beside / "large.dat").open("wb") as file:
                file.truncate(2**34)


def _damage(task: Task, folder: Path, seed: int) -> tuple[str, str]:
    """Write one damaged file; returns its name and a description of the damage."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    name = rng.choice(task.originals)
    content, signals = Path(task.folder, name).read_bytes(), None
    mutations = XML_MUTATIONS if name.endswith(".xml") else HEADER_MUTATIONS
    done = []
    for _ in range(rng.choice([1, 1, 1, 2, 4])):
        mutation = rng.choice(mutations)
        content = mutation(content, rng)
        done.append(mutation.__name__)
    (folder / name).write_bytes(content)
    for suffix in (".dat", ".mat"):
        original = Path(task.folder, name).with_suffix(suffix)
        if not original.exists():
            continue
        signals = original.read_bytes()
        if rng.random() < 0.1:
            mutation = rng.choice(SIGNAL_MUTATIONS)
            signals = mutation(signals, rng)
            done.append(f"signals: {mutation.__name__}")
        (folder / name).with_suffix(suffix).write_bytes(signals)
    return name, f"{task.format} seed {seed}, {name}: {', '.join(done)}"


def _path_in_new_folder(folder: Path, name: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _watch_opened() -> list[str]:
    """A list to which every path is added that Python opens from now on."""
    opened: list[str] = []

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            opened.append(os.fsdecode(arguments[0]))

    sys.addaudithook(hook)
    return opened


def _may_be_opened(path: str, folder: Path) -> bool:
    """Whether a file lies in the folder, or is a module of a library that is only now imported."""
    if path.endswith((".py", ".pyc", ".so")) and any(entry and path.startswith(entry) for entry in sys.path):
        return True
    return os.path.realpath(path).startswith(f"{os.path.realpath(folder)}/")


def _limit_memory() -> None:
    """Limit the address space to its current size plus `WATCHDOG_BYTES`."""
    limit = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize() + WATCHDOG_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _peak_mb() -> float:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return int(found[1]) / 1000


if __name__ == "__main__":
    print(json.dumps([asdict(found) for found in _read_all([Task(**task) for task in json.loads(sys.argv[1])])]))
