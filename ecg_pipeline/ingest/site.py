"""Reads a site's drop folder into a waveform store, shard by shard.

A file that cannot be used does not stop the site: it becomes a reject. A shard is read again when its files or the
site's reading rules have changed.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from ecg_pipeline.ecg import Progress, no_progress
from ecg_pipeline.ingest.checks import GONE, check_file
from ecg_pipeline.ingest.drop_folder import DropFolder, file_state, list_files, without_suffix
from ecg_pipeline.ingest.formats import FORMATS
from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.ingest.reading import CHANGED, read_listed_file, source_of
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.rejects import READER_ERROR, Rejected, RejectReason
from ecg_pipeline.ingest.store import ECG_SCHEMA, REJECT_SCHEMA, WAVEFORMS, WaveformStore
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.parallel import run_parallel
from ecg_pipeline.storage.shards import (
    TABLES,
    clear_leftovers,
    ensure_group,
    ensure_shard,
    forget_input,
    note_input,
    scan_tables,
    shard_name,
    shard_table,
    stored_input,
    write_array,
)

SAME = "the same waveform as its twin"
RESCALED = "the same waveform as its twin, whose file states another scale"

STACK_BYTES = 2**28
"""Limit of the first allocation for the ECGs of one shape; a shard of long recordings allocates more as needed."""


def ingest_site(
    drop: DropFolder,
    listing: pl.DataFrame,
    *,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
    workers: int = 1,
    progress: Progress = no_progress,
    previous: Path | None = None,
) -> WaveformStore:
    """Read the listed files of a drop folder into a waveform store at `out`. Complete shards in `out` are kept.

    listing: of `list_files` or `settled_files`; a file that has changed since is a reject, and is read again with the
    next listing.
    previous: an earlier store of the same code and recipe; shards whose files and reading rules have not changed are
    reused from it. The result does not depend on it, nor on the number of workers, nor on interruptions.
    A missing folder or table is a FileNotFoundError, and so is a folder whose files mostly disappear meanwhile.
    """
    if not drop.path.is_dir():
        raise FileNotFoundError(f"site {drop.site}: there is no folder {drop.path}")
    for table in FORMATS[drop.format].tables:
        drop.table_file(listing, table.name)
        table.check(drop.path)
    ensure_group(out / WAVEFORMS)
    shards = list(enumerate(_shard_files(drop, listing, recipe.files_per_shard)))
    work = partial(_ensure_shard, drop=drop, recipe=recipe, key=key, out=out, previous=previous)
    run_parallel(work, shards, workers=workers, progress=progress)
    ecgs = scan_tables(out, "ecgs", shards=range(len(shards)), schema=ECG_SCHEMA)
    rejects = scan_tables(out, "rejects", shards=range(len(shards)), schema=REJECT_SCHEMA).collect()
    _check_not_gone(drop, rejects, sum(len(files) for _, files in shards))
    duplicates = _duplicates(ecgs)
    duplicate_rejects = duplicates.select(
        "site",
        "source",
        reason=pl.lit(str(RejectReason.DUPLICATE_WAVEFORM)),
        detail="detail",
        twin="twin",
        patient="patient",
    )
    write_parquet(out / "rejects.parquet", pl.concat([rejects, duplicate_rejects]).sort("source"))
    write_parquet(out / "ecgs.parquet", ecgs.filter(~pl.col("ecg_id").is_in(duplicates["ecg_id"].implode())))
    clear_leftovers(out)
    return WaveformStore(out)


def named_rejects(drop: DropFolder, key: PseudonymKey, store: WaveformStore) -> pl.DataFrame:
    """The rejects of a site with the names of their files and of their twins, for the people who manage the files.

    Columns name, reason, detail, twin_name, in the order of the names; null where no such file is in the folder now.
    Names may identify patients: show them, but do not store them.
    """
    listed = drop.ecgs(list_files(drop)).select("name")
    named = listed.with_columns(
        source=pl.col("name").map_elements(lambda name: source_of(drop, key, name), return_dtype=pl.String)
    )
    twins = store.scan().select(twin="ecg_id", source="source").collect().join(named, on="source")
    return (
        store.rejects()
        .join(named, on="source", how="left")
        .join(twins.select("twin", twin_name="name"), on="twin", how="left")
        .sort("name", nulls_last=True)
        .select("name", "reason", "detail", "twin_name")
    )


def _shard_files(drop: DropFolder, listing: pl.DataFrame, size: int) -> Iterator[pl.DataFrame]:
    """The rows of each shard's ECGs, with a column `beside`: suffix, size and time of change of all files that have
    the ECG's name before the suffix; empty if an ECG is one file. Memory is some tens of bytes per file.
    """
    files = drop.ecgs(listing)
    if FORMATS[drop.format].signal_files is None:
        yield from files.with_columns(beside=pl.lit("")).iter_slices(size)
        return
    suffix = pl.col("name").str.extract(r"(\.[^./]*)$")
    state = pl.concat_str(suffix, "size", "mtime_ns", separator=" ", ignore_nulls=True)
    states = listing.select(ecg=without_suffix(), beside=state).group_by("ecg").agg(pl.col("beside").str.join("|"))
    files = files.with_columns(ecg=without_suffix()).join(states, on="ecg", how="left", maintain_order="left")
    yield from files.drop("ecg").iter_slices(size)


def _check_not_gone(drop: DropFolder, rejects: pl.DataFrame, files: int) -> None:
    """FileNotFoundError if most files disappeared while they were read, instead of a store of rejects."""
    gone = rejects.filter(pl.col("detail").is_in([GONE, CHANGED, f"{READER_ERROR}OSError"])).height
    if 2 * gone > files:
        raise FileNotFoundError(
            f"site {drop.site}: {gone:,} of {files:,} files of {drop.path} disappeared or changed while they were "
            "read. Is its disk mounted? Run again: what was read is kept."
        )


def _duplicates(ecgs: pl.LazyFrame) -> pl.DataFrame:
    """ECGs with the waveform of an earlier one, which is their `twin`; `detail` says if the two differ in scale.

    Memory is eight bytes an ECG.
    """
    short = pl.col("waveform_sha256").str.head(16).str.to_integer(base=16, dtype=pl.UInt64)
    digests = np.sort(ecgs.select(short).collect(engine="streaming").to_series().to_numpy())
    repeated = pl.Series(np.unique(digests[1:][digests[1:] == digests[:-1]]))
    columns = ("ecg_id", "site", "source", "patient", "waveform_sha256", "microvolts_per_count")
    candidates = ecgs.select(columns).filter(short.is_in(repeated.implode())).collect()
    twin, scale = (pl.col(name).first().over("waveform_sha256") for name in ("ecg_id", "microvolts_per_count"))
    same_scale = pl.col("microvolts_per_count") == scale
    detail = pl.when(same_scale).then(pl.lit(SAME)).otherwise(pl.lit(RESCALED))
    return candidates.with_columns(twin=twin, detail=detail).filter(pl.col("ecg_id") != pl.col("twin"))


def _ensure_shard(
    numbered: tuple[int, pl.DataFrame],
    *,
    drop: DropFolder,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
    previous: Path | None,
) -> None:
    """Read the files of one numbered shard, unless it is already there or can be reused from `previous`."""
    shard, files = numbered
    tables = [file_state(drop.path / table.name) for table in FORMATS[drop.format].tables]
    files_digest = key.digest(json.dumps([drop.reading_rules(), tables, files.rows()]))
    known = [_known_entries(shard, files_digest, folder, drop, key) for folder in (out, previous) if folder]
    input_digest = _with_entries(files_digest, frozenset[str]().union(*known))
    write = partial(_write_shard, shard, files, files_digest, drop=drop, recipe=recipe, key=key, out=out)
    ensure_shard(shard, input_digest, write, out=out, previous=previous, folders=[TABLES, WAVEFORMS])


def _with_entries(files_digest: str, entries: Iterable[str]) -> str:
    """Input digest of a shard: that of its files, and the register's entries of patients whose files it has.

    A withdrawal changes the digests of the shards that have files of the patient, and of no other.
    """
    return " ".join([files_digest, *sorted(entries)])


def _known_entries(shard: int, files_digest: str, folder: Path, drop: DropFolder, key: PseudonymKey) -> frozenset[str]:
    """Entries of the register that a shard's files are known to match, if these files were read into a folder before.

    Those that matched then are in its input digest, and the others are of patients who stand in its tables.
    """
    stored, *matched = (stored_input(shard, folder) or "").split(" ")
    if stored != files_digest:
        return frozenset()
    patients = set[str | None]()
    for table in ("ecgs", "rejects") if drop.withdrawals.everyone else ():
        path = shard_table(folder, shard, table)
        if path.exists():
            patients |= set(pl.read_parquet(path, columns=["patient"]).to_series())
    return drop.withdrawals.entries_of(key, patients) | (drop.withdrawals.everyone & set(matched))


def _write_shard(
    shard: int,
    files: pl.DataFrame,
    files_digest: str,
    *,
    drop: DropFolder,
    recipe: IngestRecipe,
    key: PseudonymKey,
    out: Path,
) -> None:
    """Read the files of one shard and write its tables, then its arrays, then the group that marks it as complete."""
    ecgs: list[dict[str, Any]] = []
    rejects: list[dict[str, Any]] = []
    stacks: dict[str, NDArray[np.int16]] = {}
    filled = Counter[str]()
    entries = set[str]()
    read_again = False
    for name, size, mtime_ns in files.select("name", "size", "mtime_ns").iter_rows():
        read_again = read_again or _has_other_signal_files(drop, name)
        try:
            ecg, row = read_listed_file(name, (size, mtime_ns), drop=drop, recipe=recipe, key=key)
        except Rejected as rejected:
            read_again = read_again or rejected.transient
            reject = {"reason": rejected.reason, "detail": rejected.detail, "patient": rejected.patient}
            if withdrawn := drop.withdrawals.entry_of(key, rejected.patient):
                entries.add(withdrawn)
                reject |= {"patient": None}
            rejects.append({"site": drop.site, "source": source_of(drop, key, name), **reject})
            continue
        array = f"{ecg.sampling_hz}hz_{'-'.join(ecg.leads)}_{ecg.counts.shape[1]}"
        stacks[array] = _with_room(stacks.get(array), filled[array], counts=ecg.counts, files=len(files))
        stacks[array][filled[array]] = ecg.counts
        ecgs.append({**row, "shard": shard, "array": array, "row": filled[array]})
        filled[array] += 1
    write_parquet(shard_table(out, shard, "rejects"), pl.DataFrame(rejects, schema=REJECT_SCHEMA))
    write_parquet(shard_table(out, shard, "ecgs"), pl.DataFrame(ecgs, schema=ECG_SCHEMA))
    for array, stack in stacks.items():
        rate, leads, _ = array.split("_")
        attributes = {"leads": leads.split("-"), "sampling_hz": int(rate.removesuffix("hz")), "units": "counts"}
        write_array(out / WAVEFORMS / shard_name(shard) / array, stack[: filled[array]], attributes)
    note_input(shard, out, _with_entries(files_digest, entries))
    ensure_group(out / WAVEFORMS / shard_name(shard))
    if read_again:
        forget_input(shard, out)


def _has_other_signal_files(drop: DropFolder, name: str) -> bool:
    """Whether an ECG's samples are in files of another name, whose changes the shard's input digest does not cover."""
    signal_files = FORMATS[drop.format].signal_files
    if signal_files is None:
        return False
    path, stem = drop.file(name), PurePosixPath(name).stem
    try:
        check_file(path, drop.path, 1)
        return any(PurePosixPath(file).stem != stem for file in signal_files(path))
    except (Rejected, OSError):
        return False


def _with_room(
    stack: NDArray[np.int16] | None, filled: int, *, counts: NDArray[np.int16], files: int
) -> NDArray[np.int16]:
    """The stack with room for one more ECG, allocated at first for all files of the shard, up to `STACK_BYTES`."""
    if stack is None:
        return np.empty((max(1, min(files, STACK_BYTES // max(1, counts.nbytes))), *counts.shape), np.int16)
    return stack if filled < len(stack) else np.concatenate([stack, np.empty_like(stack)])
