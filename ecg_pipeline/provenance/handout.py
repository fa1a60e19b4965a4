"""All that is held of a patient, as files that a person can read: tables, waveforms and arrays."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.trace import Subject, Trace, condition
from ecg_pipeline.storage.files import write_text
from ecg_pipeline.storage.shards import ARRAYS, TABLES, ArrayShards


def hand_out(archive: Archive, found: Trace, out: Path) -> None:
    """Write what the stored outputs hold of a subject to a new folder.

    `tables`: the rows of every table, as CSV. `waveforms`: each ECG as recorded, one CSV an ECG, in millivolts.
    `arrays`: what networks read of each ECG, as NumPy files.
    """
    out.mkdir(parents=True)
    done = set[Path]()
    for use in found.uses:
        folder = archive.build_folder(use.asset, use.partition, use.build)
        place = Path(use.asset, (use.partition or "all").replace("|", "_"), folder.name)
        table = folder / use.table
        rows = _rows(table, found.subject)
        _write_csv(out / "tables" / place / Path(use.table).with_suffix(".csv"), rows)
        if table.name == "ecgs.parquet":
            _write_waveforms(WaveformStore(folder), rows, out / "waveforms" / (use.partition or "all"))
        if table.name == "rejects.parquet":
            for path in sorted(folder.glob(f"{TABLES}/*/ecgs.parquet")):
                repeated = _rows(path, found.subject)
                _write_waveforms(WaveformStore(folder), repeated, out / "waveforms" / (use.partition or "all"))
        if table.name == "index.parquet" and (table.parent / ARRAYS).is_dir() and table.parent not in done:
            done.add(table.parent)
            _write_arrays(ArrayShards(table.parent), rows, out / "arrays" / place / Path(use.table).parent)


def _rows(table: Path, subject: Subject) -> pl.DataFrame:
    wanted = condition(pl.read_parquet_schema(table), subject)
    assert wanted is not None  # the table was found to hold them
    return pl.scan_parquet(table).filter(wanted).collect(engine="streaming")


def _write_csv(path: Path, rows: pl.DataFrame) -> None:
    lists = [name for name, kind in rows.schema.items() if isinstance(kind, pl.List)]
    flat = rows.with_columns(pl.col(name).cast(pl.List(pl.String)).list.join(" ") for name in lists)
    write_text(path, flat.write_csv())


def _write_waveforms(store: WaveformStore, rows: pl.DataFrame, out: Path) -> None:
    for (row,) in ((rows[place],) for place in range(len(rows))):
        path = out / f"{row['ecg_id'][0]}.csv"
        if path.exists():
            continue
        leads, rate = row["leads"][0].to_list(), row["sampling_hz"][0]
        for _, x_mv in store.millivolts(row, leads):
            table = pl.DataFrame(
                {"seconds": np.arange(x_mv.shape[-1]) / rate, **dict(zip(leads, x_mv[0], strict=True))}
            )
            write_text(path, table.write_csv())


def _write_arrays(shards: ArrayShards, rows: pl.DataFrame, out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name, array in _arrays(shards, rows):
        np.save(out / name, array)


def _arrays(shards: ArrayShards, rows: pl.DataFrame) -> Iterator[tuple[str, np.ndarray]]:
    for (shard,), of_shard in rows.group_by("shard", maintain_order=True):
        array = shards.read(int(shard))  # type: ignore[call-overload]
        for number, (ecg_id, row) in enumerate(of_shard.select("ecg_id", "row").iter_rows()):
            yield f"{ecg_id}_{number}.npy", array[row]
