"""Damaged real files, thousands of them: no exception but a reject, nothing opened elsewhere, a minute and a
gigabyte each. The everyday tests have a quarter of them.

A failure names its seed: `Task(..., seed=SEED, files=1)` does the same to the same file.
"""

import csv
import lzma
import random
import shutil
import subprocess
import sys

import numpy as np
import pytest

from ecg_pipeline.bench.mutations import HEADER_MUTATIONS, Task, survey
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key

FILES = {"muse_xml": 1800, "cinc": 1500, "ptb_xl": 1000}
FEWER = 4
TABLES = 300


@pytest.fixture(scope="module")
def ptb_xl(shared, tmp_path_factory):
    """The records of the smallest file of the shared PTB-XL subset, unpacked in its layout."""
    source, packed = tmp_path_factory.mktemp("packed"), shared / "data" / "ptbxl"
    waveforms = sorted(packed.glob("waveforms_*.npy.xz"))[-1]
    for path in (waveforms, packed / "scp_statements.csv", packed / "LICENSE.txt"):
        shutil.copy(path, source)
    with lzma.open(waveforms) as file:
        records = len(np.load(file))
    with (packed / "ptbxl_database.csv").open(newline="") as file:
        columns, *rows = csv.reader(file)
    with (source / "ptbxl_database.csv").open("w", newline="") as file:
        csv.writer(file).writerows([columns, *rows[-records:]])
    folder = tmp_path_factory.mktemp("ptb_xl")
    subprocess.run([sys.executable, shared / "data" / "unpack_ptbxl.py", folder, source], check=True)
    return folder


@pytest.mark.parametrize("share", [FEWER, pytest.param(1, marks=[pytest.mark.slow, pytest.mark.acceptance])])
def test_no_damage_to_a_real_file_is_more_than_a_reject(shared, ptb_xl, tmp_path, share):
    folders = {"muse_xml": shared / "data" / "muse_xml", "cinc": shared / "data" / "cinc", "ptb_xl": ptb_xl}
    tasks = []
    for form, folder in folders.items():
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*"))]
        originals = [name for name in names if name.endswith((".xml", ".hea"))]
        (tmp_path / form).mkdir()
        some, files = originals[:: max(1, len(originals) // 40)], FILES[form] // share
        tasks.append(Task(form, str(folder), some, str(tmp_path / form), 0, files))
    surveys = survey(tasks)
    assert [failure for found in surveys for failure in found.failures] == []
    for task, found in zip(tasks, surveys, strict=True):
        assert sum(found.outcomes.values()) == task.files
        assert len(found.outcomes) >= 6, "the damage does not reach far into the readers"
        assert found.outcomes["read"] > 20 // share


def test_no_damage_to_ptb_xls_table_ends_the_labels(ptb_xl, tmp_path):
    drop = DropFolder("p", tmp_path / "drop", "ptb_xl", patients="public")
    drop.path.mkdir()
    lines = (ptb_xl / "ptbxl_database.csv").read_bytes().splitlines(keepends=True)
    whole = b"".join(lines[:9])
    for seed in range(TABLES):
        chance = random.Random(seed)
        content = chance.choice(HEADER_MUTATIONS)(whole, chance)
        (drop.path / "ptbxl_database.csv").write_bytes(content)
        try:
            collect_labels(drop, list_files(drop), key=fixed_key("test"), out=tmp_path / "out")
        except ValueError as error:
            assert "ptbxl_database.csv: no column" in str(error), f"seed {seed}"  # noqa: PT017
            assert content.partition(b"\n")[0] != lines[0].strip(), f"seed {seed}"
