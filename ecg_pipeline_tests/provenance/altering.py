"""Ways to alter a home of outputs, and what a verification then finds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import zarr

from ecg_pipeline.provenance.hashing import Hasher
from ecg_pipeline.provenance.record import build_id, content_version
from ecg_pipeline.provenance.verify import Scope, verify
from ecg_pipeline.storage.files import folder_digests, read_json

MODEL, PARTITION = "low_lvef/heartbeit/finetuned_model", "1"
EVALUATION = "low_lvef/heartbeit/evaluation", "1|morningside"


def findings(archive, **scope):
    return verify(archive, Scope(**scope), hasher=Hasher(), workers=2).findings


def folder_of(archive, asset, partition=None):
    return archive.folder(archive.require(asset, partition))


def record_file(archive, asset=MODEL, partition=PARTITION):
    return archive.record_files(asset, partition)[0]


def edit(path, change):
    """Change a JSON file in place."""
    content = read_json(path)
    change(content)
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def edit_record(archive, change):
    """Change the newest record of the model in both of its files."""
    for path in (record_file(archive), archive.place(MODEL, PARTITION) / "record.json"):
        edit(path, change)


def flip_byte(path, at=-1):
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def change_pixel(archive):
    folder = folder_of(archive, "image_shards", "mount_sinai") / "arrays.zarr" / "shard_00000"
    array = zarr.open_array(str(folder), mode="r+")
    array[3, 5, 7] = int(np.asarray(array[3, 5, 7])) ^ 1


def change_table(path, **columns):
    pl.read_parquet(path).with_columns(**columns).write_parquet(path)


def first_row(column, value):
    return pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(value)).otherwise(pl.col(column)).alias(column)


def swap(one: Path, other: Path):
    held = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(held)


def replace_by_link(path):
    elsewhere = path.parent.parent.parent / "elsewhere"
    elsewhere.write_bytes(path.read_bytes())
    path.unlink()
    path.symlink_to(elsewhere)


def replace_folder_by_link(folder, elsewhere):
    shutil.move(folder, elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)


def edit_ledger(archive, change):
    lines = archive.ledger.path.read_bytes().splitlines()
    change(lines)
    archive.ledger.path.write_bytes(b"".join(line + b"\n" for line in lines))


def edit_line(lines, number, **facts):
    content = json.loads(lines[number])
    lines[number] = json.dumps({**content, **facts}, separators=(",", ":")).encode()


def weights(archive):
    return folder_of(archive, MODEL, PARTITION) / "seed_0" / "weights.safetensors"


def document(archive, name):
    return archive.documents.path(getattr(archive.require(MODEL, PARTITION), name))


def evaluation(archive, name):
    return folder_of(archive, *EVALUATION) / name


def made_again(archive, asset, partition=None, day=1, change=lambda folder: None):
    """Make an output once more as another build: its newest one with other settings."""
    record = archive.require(asset, partition)
    identity = {**record.identity, "again": day}
    code_version = content_version(identity)
    build = build_id(code_version, record.upstream)
    folder = archive.build_folder(asset, partition, build)
    shutil.copytree(archive.folder(record), folder)
    change(folder)
    files = folder_digests(folder)
    return archive.save(
        replace(
            record,
            build=build,
            identity=identity,
            code_version=code_version,
            files=files,
            sizes={name: (folder / name).stat().st_size for name in files},
            data_version=content_version(files),
            started_at=f"2026-02-{day:02}T00:00:00.000+00:00",
            ended_at=f"2026-02-{day:02}T00:00:01.000+00:00",
        )
    )
