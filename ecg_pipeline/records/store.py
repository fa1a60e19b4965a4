"""The waveform store: every ECG of a site as recorded, in Zarr, with one row an ECG and one row a file not used.

Files are taken in parts of up to 1,024 in the order of their names. A part's waveforms are int16 counts in the recorded
leads and rate, one array for each shape that occurs; what turns them into millivolts stands in the records.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from stat import S_ISLNK, S_ISREG
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Ecg, Progress, silent
from ecg_pipeline.files import write_parquet
from ecg_pipeline.parts import open_group, part_name, part_table, parts_in, read_array, scan_tables, stands, write_array
from ecg_pipeline.records.drop_folder import DropFolder, leaves_folder
from ecg_pipeline.records.muse_xml import read_muse_xml
from ecg_pipeline.records.pseudonyms import PseudonymKey, masked_name, stated_age
from ecg_pipeline.records.rejects import Rejected, RejectReason
from ecg_pipeline.records.wfdb_records import read_cinc, read_mimic_iv_ecg, read_ptb_xl
from ecg_pipeline.workers import each

REVISION = 1
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
        """One row an ECG, ordered by source; columns as in `RECORD_SCHEMA`. `patient` is null where unknown."""
        return pl.scan_parquet(self.folder / "records.parquet")

    def records(self) -> pl.DataFrame:
        """All of `scan()`."""
        return self.scan().collect()

    def rejects(self) -> pl.DataFrame:
        """One row a file not used; columns as in `REJECT_SCHEMA`. `twin` is the record that a duplicate repeats."""
        return pl.read_parquet(self.folder / "rejects.parquet")

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
        millivolts: the given leads, the first `seconds`.

        A limb lead that was not recorded is derived from I and II.
        """
        for run in rows.partition_by("array", maintain_order=True):
            samples = None if seconds is None else round(seconds * run["sampling_hz"][0])
            for chosen in run.iter_slices(block):
                yield chosen, _millivolts(self.counts(chosen)[..., :samples], chosen, leads)


def ingest_site(
    drop: DropFolder,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
    workers: int = 1,
    progress: Progress = silent,
    before: Path | None = None,
) -> WaveformStore:
    """Read every file of a drop folder into a waveform store at `out`. Whole parts that stand there are kept.

    before: an earlier store of the same code and recipe; parts whose files are as they were are taken over from it.
    The result does not depend on it, nor on the number of workers, nor on interruptions. A missing folder is a
    FileNotFoundError.
    """
    if not drop.path.is_dir():
        raise FileNotFoundError(f"site {drop.site}: there is no folder {drop.path}")
    open_group(out / "waveforms.zarr")
    parts = list(enumerate(_named_together(drop, recipe.files_per_part)))
    work = partial(_ingest_part, drop=drop, recipe=recipe, key=key, out=out, before=before)
    each(work, parts, workers, progress)
    records = scan_tables(out, "records", range(len(parts)), RECORD_SCHEMA)
    rejects = scan_tables(out, "rejects", range(len(parts)), REJECT_SCHEMA).collect()
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
    return WaveformStore(out)


def _named_together(drop: DropFolder, size: int) -> Iterator[str]:
    """The names of each part's files, joined by zero bytes: files that arrive from now on wait for the next reading,
    and those of millions are held in some tens of bytes each.
    """
    names = (drop.name(path) for path in drop.ecg_files())
    while part := list(islice(names, size)):
        yield "\0".join(part)


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
    _check_file(path, drop, recipe)
    match drop.format:
        case "muse_xml":
            ecg = read_muse_xml(path)
        case "ptb_xl":
            ecg = read_ptb_xl(path, drop.path)
        case "mimic_iv_ecg":
            ecg = read_mimic_iv_ecg(path)
        case "cinc":
            ecg = read_cinc(path)
    if drop.site_names and ecg.site_name not in drop.site_names:
        raise Rejected(RejectReason.OTHER_SITE, "its SiteName is not one of this site's")
    if ecg.seconds < recipe.minimum_seconds:
        raise Rejected(RejectReason.TOO_SHORT, f"{ecg.seconds:g} s")
    if (np.ptp(ecg.counts, axis=1) == 0).all():
        raise Rejected(RejectReason.FLAT_SIGNAL)
    return ecg


def _check_file(path: Path, drop: DropFolder, recipe: IngestRecipe) -> None:
    try:
        state = path.lstat()
    except FileNotFoundError:
        raise Rejected(RejectReason.UNREADABLE, "gone since the folder was listed") from None
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
    if state.st_size > recipe.largest_file_mb * 2**20:
        raise Rejected(RejectReason.TOO_LARGE, f"{state.st_size / 2**20:.0f} MB")


def _ingest_part(
    numbered: tuple[int, str],
    drop: DropFolder,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
    before: Path | None,
) -> None:
    """Read the files of one part and write its tables, then its arrays, then the group that says that it is whole."""
    part, names = numbered
    files = [drop.path / name for name in names.split("\0")]
    made_of = key.digest("\0".join(f"{drop.name(path)}\0{_state(path)}" for path in files))
    if stands(part, made_of, out, before, ["parts", "waveforms.zarr"]):
        return
    records: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    stacks: dict[str, NDArray[np.int16]] = {}
    height = Counter[str]()
    for path in files:
        try:
            ecg = read_ecg(path, drop, recipe)
        except Rejected as rejected:
            source = _source(drop.name(path), drop, key)
            rejects.append({"site": drop.site, "source": source, "reason": rejected.reason, "detail": rejected.detail})
            continue
        array = f"{ecg.sampling_hz}hz_{'-'.join(ecg.leads)}_{ecg.counts.shape[1]}"
        if array not in stacks:
            stacks[array] = np.empty((len(files), *ecg.counts.shape), np.int16)
        stacks[array][height[array]] = ecg.counts
        records.append(_record(ecg, drop, key, path, part, array, height[array]))
        height[array] += 1
    write_parquet(part_table(out, part, "rejects"), pl.DataFrame(rejects, schema=REJECT_SCHEMA))
    write_parquet(part_table(out, part, "records"), pl.DataFrame(records, schema=RECORD_SCHEMA))
    for array, stack in stacks.items():
        rate, leads, _ = array.split("_")
        attributes = {"leads": leads.split("-"), "sampling_hz": int(rate.removesuffix("hz")), "units": "counts"}
        write_array(out / "waveforms.zarr" / part_name(part) / array, stack[: height[array]], attributes)
    open_group(out / "waveforms.zarr" / part_name(part))


def _state(path: Path) -> str:
    try:
        state = path.lstat()
    except FileNotFoundError:  # A reject in its own time.
        return "gone"
    return f"{state.st_size} {state.st_mtime_ns}"


def _record(
    ecg: Ecg, drop: DropFolder, key: PseudonymKey, path: Path, part: int, array: str, row: int
) -> dict[str, Any]:
    name = drop.name(path)
    waveform = hashlib.sha256(repr((ecg.sampling_hz, ecg.leads, ecg.microvolts_per_count)).encode())
    waveform.update(np.ascontiguousarray(ecg.counts).data)
    return {
        "record": record_id(drop, key, path),
        "site": drop.site,
        "patient": key.pseudonym(drop.mrn_system, ecg.patient_id) if ecg.patient_id else None,
        "part": part,
        "array": array,
        "row": row,
        "microvolts_per_count": list(ecg.microvolts_per_count),
        "leads": list(ecg.leads),
        "sampling_hz": ecg.sampling_hz,
        "samples": ecg.counts.shape[1],
        "source": _source(name, drop, key, ecg.identities),
        "source_sha256": ecg.source_sha256,
        "waveform_sha256": waveform.hexdigest(),
        "acquired_at": ecg.acquired_at,
        "age_years": stated_age(ecg.age_years),
        "sex": ecg.sex,
        "device": ecg.device,
        "fold": ecg.fold,
    }


def record_id(drop: DropFolder, key: PseudonymKey, path: Path) -> str:
    """Sixteen hex digits for one file of a site: the primary key of its ECG in every later table."""
    return key.digest(f"record\0{drop.site}\0{drop.name(path)}")[:16]


def _source(name: str, drop: DropFolder, key: PseudonymKey, identities: Sequence[str] = ()) -> str:
    """A file's name as it may be stored: data sets' names are public, those of MUSE exports may name a patient."""
    return masked_name(name, key, identities) if drop.format == "muse_xml" else name


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
