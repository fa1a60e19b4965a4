"""A home read as files alone, without the code that is tested: what its outputs hold of a patient."""

import json
import re

import numpy as np
import polars as pl
import zarr

from ecg_pipeline.ingest.withdrawals import Register
from ecg_pipeline.storage.databases import databases_below
from ecg_pipeline_tests.orchestration.test_private_patients import dump, table_text


class Home:
    """Records as JSON, and tables as Parquet."""

    def __init__(self, folder):
        self.assets = folder / "assets"

    def newest(self):
        """By asset and partition the newest record."""
        records = [json.loads(path.read_text()) for path in self.assets.rglob("record.json")]
        return {(record["asset"], record["partition"]): record for record in records}

    def folder(self, record):
        return self.assets / record["asset"] / (record["partition"] or "all").replace("|", "_") / record["build"][:16]

    def table(self, record, name):
        return pl.read_parquet(self.folder(record) / name)

    def holds(self, record, patient, ecg_ids):
        """Whether a table of a build has a patient or one of the ECGs."""
        for path in self.folder(record).rglob("*.parquet"):
            table = pl.read_parquet(path)
            for column, values in (("patient", {patient}), ("ecg_id", ecg_ids)):
                if column in table.columns and set(table[column]) & values:
                    return True
        return False

    def inodes(self, record):
        """By shard the inodes of its files."""
        found = {}
        for path in self.folder(record).rglob("*"):
            if path.is_file() and (shard := re.search(r"shard_\d+(?=/)", str(path))):
                found.setdefault(shard[0], set()).add((path.name, path.stat().st_ino))
        return found


def expected(before, patient, ecg_ids, after, home):
    """Partitions that must be made again when a patient withdraws, from the tables and records of before.

    The door of each site that has read them; and whatever reads an output whose files have changed. An output of a
    site has changed if it held them.
    """
    made, changed = set(), set()
    roots = {
        place
        for place, record in before.items()
        if place[0] in ("waveform_store", "clinical_labels") and home.holds(record, patient, ecg_ids)
    }
    sites = {site for _, site in roots}
    made |= {place for place in before if place[0] in ("waveform_store", "clinical_labels") and place[1] in sites}
    changed |= roots
    while True:
        reads = {
            place
            for place, record in before.items()
            if any((entry["asset"], entry["partition"]) in changed for entry in record["upstream"])
        }
        now = changed | {place for place in reads if after[place]["files"] != before[place]["files"]}
        if made >= reads and now == changed:
            return made, changed
        made, changed = made | reads, now


def held_of(home, patient):
    """Ids, and digests of waveforms and files, of the ECGs that the stores have of a patient."""
    rows = [
        pl.read_parquet(path, columns=["patient", "ecg_id", "waveform_sha256", "source_sha256"])
        for path in home.assets.glob("waveform_store/*/*/**/ecgs.parquet")
    ]
    rows = pl.concat(rows).filter(pl.col("patient") == patient)
    return set(rows["ecg_id"]), set(rows["waveform_sha256"]) | set(rows["source_sha256"])


def arrays_of(home, ecg_ids):
    """Decoded rows that the outputs have of some ECGs: as recorded, and as every network reads them."""
    found = []
    for path in home.assets.rglob("*.parquet"):
        table = pl.read_parquet(path)
        if not {"ecg_id", "shard", "row"} <= set(table.columns) or path.parent.parent.name == "tables":
            continue
        group = next(path.parent / name for name in ("arrays.zarr", "waveforms.zarr") if (path.parent / name).is_dir())
        for row in table.filter(pl.col("ecg_id").is_in(sorted(ecg_ids))).iter_rows(named=True):
            array = group / f"shard_{row['shard']:05d}" / row.get("array", "")
            found.append(zarr.open_array(str(array), mode="r")[row["row"]])
    return found


def rows_below(folder):
    """Bytes of every row of every array below a folder."""
    for path in folder.rglob("zarr.json"):
        if json.loads(path.read_text())["node_type"] == "array":
            yield from (row.tobytes() for row in np.asarray(zarr.open_array(str(path.parent), mode="r")[:]))


def files_naming(home, words):
    """Files below the home in which a word stands: as bytes, in a table, or in a database."""
    words = [word.encode() for word in words]
    found = []
    databases = set(databases_below(home))
    for path in home.rglob("*"):
        if path.is_file() and path != Register(home).path:
            content = path.read_bytes()
            content += table_text(path) if path.suffix == ".parquet" else b""
            content += dump(path) if path in databases else b""
            found += [path for word in words if word in content]
    return found


def rebuilt(before, after):
    names = set(before) | set(after)
    return {place for place in names if before.get(place) != after.get(place)}


def shards_holding(home, record, patient, ecg_ids):
    """Shards whose tables have a patient."""
    found = set()
    for path in home.folder(record).glob("tables/*/*.parquet"):
        table = pl.read_parquet(path)
        if ("patient" in table.columns and patient in set(table["patient"])) or (
            "ecg_id" in table.columns and set(table["ecg_id"]) & ecg_ids
        ):
            found.add(path.parent.name)
    return found
