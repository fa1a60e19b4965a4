"""The waveform store: every ECG of a site as recorded, in Zarr, with one row an ECG and one row a file not used.

A file that cannot be used never ends a site: whatever its reader raises makes it a reject.

Files are taken in parts of up to 1,024 in the order of their names. A part's waveforms are int16 counts in the recorded
leads and rate, one array for each shape that occurs; what turns them into millivolts stands in the records.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from math import ceil
from pathlib import Path, PurePosixPath
from stat import S_ISLNK, S_ISREG
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Ecg, Progress, no_progress
from ecg_pipeline.ingest.drop_folder import DropFolder, file_state, leaves_folder, list_files, wfdb_record
from ecg_pipeline.ingest.formats.muse_xml import read_muse_xml
from ecg_pipeline.ingest.formats.wfdb import (
    PTB_XL_TABLE,
    ptb_xl_rows,
    read_cinc,
    read_mimic_iv_ecg,
    read_ptb_xl,
    signal_files,
)
from ecg_pipeline.ingest.pseudonyms import PseudonymKey, stated_age
from ecg_pipeline.ingest.rejects import READER_ERROR, Rejected, RejectReason, reader_error
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.parallel import run_parallel
from ecg_pipeline.storage.shards import (
    clear_leftovers,
    forget_made_of,
    open_group,
    part_name,
    part_table,
    parts_in,
    read_array,
    scan_tables,
    stands,
    write_array,
)

REVISION = 2
"""Bumped by hand when this module's results change."""

RECORD_SCHEMA = {
    "record": pl.String,
    "site": pl.String,
    "patient": pl.String,
    "part": pl.Int32,
    "array": pl.String,
    "row": pl.Int32,
    "microvolts_per_count": pl.List(pl.Float64),
    "leads": pl.List(pl.String),
    "sampling_hz": pl.Int32,
    "samples": pl.Int32,
    "source": pl.String,
    "source_sha256": pl.String,
    "waveform_sha256": pl.String,
    "acquired_at": pl.Datetime,
    "age_years": pl.Float64,
    "sex": pl.String,
    "device": pl.String,
    "fold": pl.Int32,
}
REJECT_SCHEMA = {
    "site": pl.String,
    "source": pl.String,
    "reason": pl.String,
    "detail": pl.String,
    "twin": pl.String,
}
BLOCK = 64
"""ECGs turned into millivolts at once: bounds memory, changes no result."""

STACK_BYTES = 2**28
"""Memory that is asked for at once for the ECGs of one shape: a part of long recordings grows as they come."""

GONE = "gone since the folder was listed"
CHANGED = "changed since the folder was listed"

PLAIN_SUFFIXES = {".xml", ".hea", ".txt", ".csv", ".pdf", ".dat", ".mat", ".zip"}
"""What may follow the last dot of a private file's name in a table: elsewhere a name may stand there."""


@dataclass(frozen=True)
class IngestRecipe:
    """What a file must be to be used, and how many files make a part."""

    minimum_seconds: float = 5.0
    largest_file_mb: float = 32.0
    files_per_part: int = 1024

    def __post_init__(self) -> None:
        if not (self.minimum_seconds > 0 and self.largest_file_mb > 0 and self.files_per_part > 0):
            raise ValueError("minimum_seconds, largest_file_mb and files_per_part must be positive")


@dataclass(frozen=True)
class WaveformStore:
    """A site's ECGs as recorded. Files: `waveforms.zarr`, `records.parquet`, `rejects.parquet`."""

    folder: Path

    def scan(self) -> pl.LazyFrame:
        """One row an ECG, in the order of the files' names; columns as in `RECORD_SCHEMA`.

        patient: null where unknown. source: the file's name, or at a private site its keyed digest.
        """
        return pl.scan_parquet(self.folder / "records.parquet")

    def records(self) -> pl.DataFrame:
        """All of `scan()`."""
        return self.scan().collect()

    def rejects(self) -> pl.DataFrame:
        """One row a file not used; columns as in `REJECT_SCHEMA`. `twin` is the record that a duplicate repeats."""
        return pl.read_parquet(self.folder / "rejects.parquet")

    def files_seen(self) -> int:
        """How many files should each have been an ECG: those used and those not."""
        return self.scan().select(pl.len()).collect().item() + len(self.rejects())

    def reader_errors(self) -> dict[str, int]:
        """Files that a reader failed on, by the name of the exception: faults of the readers or of the disk."""
        name = pl.col("detail").str.extract(rf"^{READER_ERROR}([\w.]+)$").alias("exception")
        return dict(self.rejects().select(name).drop_nulls().group_by("exception").len().sort("exception").iter_rows())

    def parts(self) -> list[int]:
        """Numbers of the parts that hold at least one ECG."""
        return parts_in(self.scan())

    def counts(self, rows: pl.DataFrame) -> NDArray[np.int16]:
        """(n, L, T) counts of rows of `records()` that share a part and an array."""
        if rows.select("part", "array").n_unique() != 1:
            raise ValueError("counts are read from one part and one array at a time")
        array = read_array(self.folder / "waveforms.zarr" / part_name(rows["part"][0]) / rows["array"][0])
        wanted = rows["row"].to_numpy()
        # Zarr gathers single rows a hundred times slower than it reads a stretch.
        first, last = wanted.min(), wanted.max()
        stretch = np.asarray(array[first : last + 1])
        return stretch if np.array_equal(wanted, np.arange(first, last + 1)) else stretch[wanted - first]

    def millivolts(
        self, rows: pl.DataFrame, leads: Sequence[str], seconds: float | None = None, block: int = BLOCK
    ) -> Iterator[tuple[pl.DataFrame, NDArray[np.float32]]]:
        """The rows of one part, up to `block` that share an array at a time, each time with their (n, L, T)
        millivolts: the given leads, at least the first `seconds` where they were recorded.

        A limb lead that was not recorded is derived from I and II.
        """
        for run in rows.partition_by("array", maintain_order=True):
            samples = None if seconds is None else ceil(seconds * run["sampling_hz"][0])
            for chosen in run.iter_slices(block):
                yield chosen, _millivolts(self.counts(chosen)[..., :samples], chosen, leads)


def ingest_site(
    drop: DropFolder,
    listing: pl.DataFrame,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
    workers: int = 1,
    progress: Progress = no_progress,
    before: Path | None = None,
) -> WaveformStore:
    """Read the listed files of a drop folder into a waveform store at `out`. Whole parts that stand there are kept.

    listing: of `list_files` or `settled_files`; a file that is no longer as it says is a reject, and read again as soon
    as it is listed anew.
    before: an earlier store of the same code and recipe; parts whose files and reading rules are as they were are taken
    over from it. The result does not depend on it, nor on the number of workers, nor on interruptions.
    A missing folder or table is a FileNotFoundError, and so is a folder most of whose files go while it is read.
    """
    if not drop.path.is_dir():
        raise FileNotFoundError(f"site {drop.site}: there is no folder {drop.path}")
    if drop.format == "ptb_xl":
        drop.table_file(listing, PTB_XL_TABLE)
        ptb_xl_rows(drop.path)
    open_group(out / "waveforms.zarr")
    parts = list(enumerate(_parts(drop, listing, recipe.files_per_part)))
    work = partial(_ingest_part, drop=drop, recipe=recipe, key=key, out=out, before=before)
    run_parallel(work, parts, workers, progress)
    records = scan_tables(out, "records", range(len(parts)), RECORD_SCHEMA)
    rejects = scan_tables(out, "rejects", range(len(parts)), REJECT_SCHEMA).collect()
    _check_still_there(drop, rejects, sum(len(files) for _, files in parts))
    repeated = _repeated(records)
    duplicates = repeated.select(
        "site",
        "source",
        reason=pl.lit(str(RejectReason.DUPLICATE_WAVEFORM)),
        detail=pl.lit("the same waveform as its twin"),
        twin="twin",
    )
    write_parquet(out / "rejects.parquet", pl.concat([rejects, duplicates]).sort("source"))
    write_parquet(out / "records.parquet", records.filter(~pl.col("record").is_in(repeated["record"].implode())))
    clear_leftovers(out)
    return WaveformStore(out)


def named_rejects(drop: DropFolder, key: PseudonymKey, store: WaveformStore) -> pl.DataFrame:
    """The rejects of a site with the names of their files and of their twins, for those who look after the files.

    Columns name, reason, detail, twin_name, in the order of the names; null where no such file is in the folder now.
    The names are those of the folder: they are to be shown, and stored nowhere.
    """
    listed = drop.ecg_files(list_files(drop)).select("name")
    named = listed.with_columns(
        source=pl.col("name").map_elements(lambda name: source_of(drop, key, name), return_dtype=pl.String)
    )
    twins = store.scan().select(twin="record", source="source").collect().join(named, on="source")
    return (
        store.rejects()
        .join(named, on="source", how="left")
        .join(twins.select("twin", twin_name="name"), on="twin", how="left")
        .sort("name", nulls_last=True)
        .select("name", "reason", "detail", "twin_name")
    )


def _parts(drop: DropFolder, listing: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """The rows of each part's files, with a text `beside` that says in which state a record's other files are.

    Files that arrive from now on wait for the next reading, and those of millions are held in some tens of bytes each.
    """
    files = drop.ecg_files(listing)
    if drop.format == "muse_xml":
        yield from files.with_columns(beside=pl.lit("")).iter_slices(size)
        return
    suffix = pl.col("name").str.extract(r"(\.[^./]*)$")
    state = pl.concat_str(suffix, "size", "mtime_ns", separator=" ", ignore_nulls=True)
    records = listing.select(record=wfdb_record(), beside=state).group_by("record").agg(pl.col("beside").str.join("|"))
    files = files.with_columns(record=wfdb_record()).join(records, on="record", how="left", maintain_order="left")
    yield from files.drop("record").iter_slices(size)


def _check_still_there(drop: DropFolder, rejects: pl.DataFrame, files: int) -> None:
    """FileNotFoundError if most files went away while they were read, instead of a store of rejects."""
    gone = rejects.filter(pl.col("detail").is_in([GONE, CHANGED, f"{READER_ERROR}OSError"])).height
    if 2 * gone > files:
        raise FileNotFoundError(
            f"site {drop.site}: {gone:,} of {files:,} files of {drop.path} went or changed while they were read. "
            "Is its disk mounted? Run again: what was read is kept."
        )


def _repeated(records: pl.LazyFrame) -> pl.DataFrame:
    """Records whose waveform an earlier one has, with it as their `twin`. Memory is eight bytes a record."""
    short = pl.col("waveform_sha256").str.head(16).str.to_integer(base=16, dtype=pl.UInt64)
    every = np.sort(records.select(short).collect(engine="streaming").to_series().to_numpy())
    candidates = pl.Series(np.unique(every[1:][every[1:] == every[:-1]]))
    known = records.select("record", "site", "source", "waveform_sha256").filter(short.is_in(candidates.implode()))
    twins = known.collect().with_columns(twin=pl.col("record").first().over("waveform_sha256"))
    return twins.filter(pl.col("record") != pl.col("twin"))


def read_ecg(path: Path, drop: DropFolder, recipe: IngestRecipe) -> Ecg:
    """Read one file of a drop folder, with the checks that do not depend on its format. Raises `Rejected`."""
    check_file(path, drop, recipe.largest_file_mb)
    match drop.format:
        case "muse_xml":
            ecg = read_muse_xml(path)
        case "ptb_xl":
            ecg = read_ptb_xl(path, drop.path, recipe.largest_file_mb)
        case "mimic_iv_ecg":
            ecg = read_mimic_iv_ecg(path, recipe.largest_file_mb)
        case "cinc":
            ecg = read_cinc(path, recipe.largest_file_mb)
    if drop.site_names and ecg.site_name not in drop.site_names:
        raise Rejected(RejectReason.OTHER_SITE, "its SiteName is not one of this site's")
    if ecg.seconds < recipe.minimum_seconds:
        raise Rejected(RejectReason.TOO_SHORT, f"{ecg.seconds:g} s")
    if (np.ptp(ecg.counts, axis=1) == 0).all():
        raise Rejected(RejectReason.FLAT_SIGNAL)
    return ecg


def check_file(path: Path, drop: DropFolder, largest_mb: float) -> None:
    """Refuse what must not be opened: links out of the folder, pipes and devices, what is empty or too large."""
    try:
        state = path.lstat()
    except FileNotFoundError:
        raise Rejected(RejectReason.UNREADABLE, GONE, passing=True) from None
    if S_ISLNK(state.st_mode):
        if leaves_folder(path, drop.path):
            raise Rejected(RejectReason.OUTSIDE_FOLDER, "a link that leaves the drop folder")
        if not path.is_file():
            raise Rejected(RejectReason.UNREADABLE, "a link that leads to no file")
        state = path.stat()
    if not S_ISREG(state.st_mode):
        raise Rejected(RejectReason.UNREADABLE, "not a regular file")
    if state.st_size == 0:
        raise Rejected(RejectReason.EMPTY_FILE)
    if state.st_size > largest_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{state.st_size / 2**20:.0f} MB")


def _ingest_part(
    numbered: tuple[int, pl.DataFrame],
    drop: DropFolder,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
    before: Path | None,
) -> None:
    """Read the files of one part and write its tables, then its arrays, then the group that says that it is whole."""
    part, files = numbered
    tables = [file_state(drop.path / PTB_XL_TABLE)] if drop.format == "ptb_xl" else []
    made_of = key.digest(json.dumps([drop.reading_rules(), tables, files.rows()]))
    if stands(part, made_of, out, before, ["parts", "waveforms.zarr"]):
        return
    records: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    stacks: dict[str, NDArray[np.int16]] = {}
    height = Counter[str]()
    again = False
    for name, size, mtime_ns in files.select("name", "size", "mtime_ns").iter_rows():
        try:
            ecg, row = read_row(drop, recipe, key, name, (size, mtime_ns))
        except Rejected as rejected:
            again = again or rejected.passing or _is_read_elsewhere(drop, name)
            source = source_of(drop, key, name)
            rejects.append({"site": drop.site, "source": source, "reason": rejected.reason, "detail": rejected.detail})
            continue
        again = again or _is_read_elsewhere(drop, name)
        array = f"{ecg.sampling_hz}hz_{'-'.join(ecg.leads)}_{ecg.counts.shape[1]}"
        stacks[array] = _with_room(stacks.get(array), height[array], ecg.counts, len(files))
        stacks[array][height[array]] = ecg.counts
        records.append({**row, "part": part, "array": array, "row": height[array]})
        height[array] += 1
    write_parquet(part_table(out, part, "rejects"), pl.DataFrame(rejects, schema=REJECT_SCHEMA))
    write_parquet(part_table(out, part, "records"), pl.DataFrame(records, schema=RECORD_SCHEMA))
    for array, stack in stacks.items():
        rate, leads, _ = array.split("_")
        attributes = {"leads": leads.split("-"), "sampling_hz": int(rate.removesuffix("hz")), "units": "counts"}
        write_array(out / "waveforms.zarr" / part_name(part) / array, stack[: height[array]], attributes)
    open_group(out / "waveforms.zarr" / part_name(part))
    if again:
        forget_made_of(part, out)


def read_row(
    drop: DropFolder, recipe: IngestRecipe, key: PseudonymKey, name: str, listed: tuple[int, int]
) -> tuple[Ecg, dict[str, Any]]:
    """Read a listed file, and make its row of the records but for its place. Raises `Rejected`, whatever a reader does.

    listed: size and time of change by which the file is to be known.
    """
    path = drop.file(name)
    try:
        ecg = read_ecg(path, drop, recipe)
        outcome = ecg, record_row(ecg, drop, key, name)
    except MemoryError:
        raise
    except Rejected as rejected:
        outcome = rejected
    except Exception as error:  # noqa: BLE001 - one file never ends a site; `reader_errors` tells what happened
        outcome = reader_error(error)
    if _has_changed(path, listed):
        outcome = Rejected(RejectReason.UNREADABLE, CHANGED, passing=True)
    if isinstance(outcome, Rejected):
        raise outcome
    return outcome


def _has_changed(path: Path, listed: tuple[int, int]) -> bool:
    try:
        return file_state(path) not in (listed, None)
    except OSError:
        return True


def _is_read_elsewhere(drop: DropFolder, name: str) -> bool:
    """Whether a record's samples are in files of another name, whose state does not stand beside it."""
    if drop.format == "muse_xml":
        return False
    stem = PurePosixPath(name).stem
    try:
        check_file(drop.file(name), drop, 1)
        return any(PurePosixPath(file).stem != stem for file in signal_files(drop.file(name)))
    except (Rejected, OSError):
        return False


def _with_room(
    stack: NDArray[np.int16] | None, height: int, counts: NDArray[np.int16], files: int
) -> NDArray[np.int16]:
    """The stack with room for one more ECG: that of all files at first, unless they are long."""
    if stack is None:
        return np.empty((max(1, min(files, STACK_BYTES // max(1, counts.nbytes))), *counts.shape), np.int16)
    return stack if height < len(stack) else np.concatenate([stack, np.empty_like(stack)])


def record_row(ecg: Ecg, drop: DropFolder, key: PseudonymKey, name: str) -> dict[str, Any]:
    """An ECG's row of the records, but for its place in the arrays: what may be stored of it."""
    waveform = hashlib.sha256(repr((ecg.sampling_hz, ecg.leads, ecg.microvolts_per_count)).encode())
    waveform.update(np.ascontiguousarray(ecg.counts).data)
    return {
        "record": record_id(drop, key, name),
        "site": drop.site,
        "patient": key.pseudonym(drop.mrn_system, ecg.patient_id) if ecg.patient_id else None,
        "microvolts_per_count": list(ecg.microvolts_per_count),
        "leads": list(ecg.leads),
        "sampling_hz": ecg.sampling_hz,
        "samples": ecg.counts.shape[1],
        "source": source_of(drop, key, name),
        "source_sha256": ecg.source_sha256,
        "waveform_sha256": waveform.hexdigest(),
        "acquired_at": ecg.acquired_at,
        "age_years": stated_age(ecg.age_years),
        "sex": ecg.sex,
        "device": ecg.device,
        "fold": ecg.fold,
    }


def record_id(drop: DropFolder, key: PseudonymKey, name: str) -> str:
    """Sixteen hex digits for one file of a site: the primary key of its ECG in every later table."""
    return key.digest(f"record\0{drop.site}\0{name}")[:16]


def source_of(drop: DropFolder, key: PseudonymKey, name: str) -> str:
    """A file's name as it may be stored: at a private site, where files are named after patients, its keyed digest."""
    if not drop.private:
        return name
    suffix = PurePosixPath(name).suffix
    digest = key.digest(f"source\0{drop.site}\0{name}")[:16]
    return f"~{digest}{suffix if suffix.lower() in PLAIN_SUFFIXES else ''}"


def _millivolts(counts: NDArray[np.int16], rows: pl.DataFrame, leads: Sequence[str]) -> NDArray[np.float32]:
    recorded: list[str] = rows["leads"][0].to_list()
    scales = np.array(rows["microvolts_per_count"].to_list())[:, :, None] / 1000

    def recorded_mv(lead: str) -> NDArray[np.float64]:
        place = recorded.index(lead)
        return counts[:, place] * scales[:, place]

    x_mv = np.empty((len(rows), len(leads), counts.shape[-1]), np.float32)
    for place, lead in enumerate(leads):
        x_mv[:, place] = recorded_mv(lead) if lead in recorded else _derived(lead, recorded_mv("I"), recorded_mv("II"))
    return x_mv


def _derived(lead: str, one: NDArray, two: NDArray) -> NDArray:
    """(n, T) of a limb lead, from leads I and II (Einthoven, Goldberger)."""
    match lead:
        case "III":
            return two - one
        case "aVR":
            return -(one + two) / 2
        case "aVL":
            return one - two / 2
        case "aVF":
            return two - one / 2
    raise ValueError(f"lead {lead} was not recorded and cannot be derived")
