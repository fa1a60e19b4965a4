"""Private patients: from their files to a report, no identity, no file's name and no picture of them is where it must
not be."""

import base64
import json
import re
import sqlite3
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration.assets import ingest as records
from ecg_pipeline.storage.shards import ArrayShards
from ecg_pipeline.synthetic.drop_folders import TYPED
from ecg_pipeline.synthetic.hospital import HospitalSystem, read_planted, write_hospital_system
from ecg_pipeline_tests.orchestration.conftest import open_runner
from ecg_pipeline_tests.orchestration.test_runner import words_in
from ecg_pipeline_tests.orchestration.test_zero_shot_assets import SIZES

pytestmark = pytest.mark.acceptance

SITES = ("mount_sinai", "beth_israel", "morningside")
MARK = "quixjav"
"""Stands in the name of every file of the sites."""
KEY = "a secret of this test alone"

SITE = """\
  {name}:
    title: A hospital
    format: muse_xml
    path: {path}
    mrn_system: hospital_system
    label_tables: [echo_reports.csv, diagnoses.csv]
    role: {role}
    pretraining: {pretraining}
"""
STUDY = """\
name: private
title: Private patients
sites:
{sites}
split: {{test: 0.3, validation: 0.15}}
tokenizer: {{vocabulary: 32, hidden: 8, steps: 40, batch: 8}}
windows:
  ten_seconds: {{sampling_hz: 100, standardise: lead, short: pad}}
  millivolts: {{sampling_hz: 100, short: pad}}
texts: {{vocabulary: 120, longest: 32, negatives: 4}}
models:
  heartbeit: {{family: heartbeit, width: 32, depth: 2, heads: 2}}
  resnet: {{family: timm, name: test_resnet}}
  small_cnn: {{family: small_cnn, window: ten_seconds, widths: [8, 16]}}
  d_beta: {{family: d_beta, window: millivolts, {sizes}}}
pretraining:
  heartbeit: {{recipe: {{epochs: 1, batch: 16, warmup_epochs: 0}}}}
  d_beta: {{recipe: {{epochs: 1, batch: 16, group: 8, warmup_epochs: 0, equal_reports: ignored}}}}
tasks:
  hcm:
    title: Hypertrophic cardiomyopathy
    sites: [mount_sinai, beth_israel]
    external: [morningside]
    rule: {{kind: diagnosis, code: I42.1}}
    prompts: {{en: Left ventricular hypertrophy with repolarization abnormality.}}
fractions: [1.0]
finetuning: {{epochs: 1, batch: 8}}
evaluation: {{bootstrap_draws: 20}}
image_distance: {{images: 10}}
saliency: {{ecgs: 2, errors: 1}}
"""
PICTURES = (b"\x89PNG", b"iVBORw0KGgo", b"data:image/png", b"data:image/jpeg", b"\xff\xd8\xff\xe0", b"/9j/4AAQ")
"""How pictures begin, as files and as base64."""


def renamed(system: Path) -> None:
    """Name the exports as a hospital might: after the patient, and each with a mark that occurs nowhere else."""
    for site in SITES:
        for path in sorted((system / site).glob("*.xml")):
            found = re.search(rb"<PatientID>(\d{8})</PatientID>", path.read_bytes()) if path.is_file() else None
            path.rename(path.with_name(f"{found[1].decode() if found else 'nobody'}_{MARK}_{path.name}"))


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    """A runner of private MUSE files after everything in it was materialised, and the folder of the files."""
    folder = tmp_path_factory.mktemp("private")
    system = folder / "hospitals"
    write_hospital_system(HospitalSystem(patients=120, ecgs=180, seed=3), system)
    renamed(system)
    sites = "".join(
        SITE.format(
            name=site,
            path=system / site,
            role="external" if site == "morningside" else "internal",
            pretraining=str(site != "morningside").lower(),
        )
        for site in SITES
    )
    study = folder / "private.yaml"
    study.write_text(STUDY.format(sites=sites, sizes=SIZES))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_HOME", str(folder / "home"))
        patch.setenv("ECG_PSEUDONYM_KEY", KEY)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.setattr(records, "SETTLE_S", 0.0)
        runner = open_runner(study)
        assert runner.run_stale()
        yield runner, system


def files_below(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def table_text(path: Path) -> bytes:
    return str(pl.read_parquet(path).to_dict(as_series=False)).encode()


def dump(path: Path) -> bytes:
    with sqlite3.connect(path) as database:
        return "\n".join(database.iterdump()).encode()


def databases(home: Path) -> list[Path]:
    return [path for path in files_below(home) if path.read_bytes()[:15] == b"SQLite format 3"]


def test_everything_was_made_of_files_named_after_patients(private):
    runner, system = private
    for asset, partition in (
        ("hcm/report", None),
        ("hcm/saliency", None),
        ("hcm/heartbeit/evaluation", "1|morningside"),
        ("hcm/d_beta/zero_shot", "morningside"),
        ("text_tokenizer", None),
    ):
        assert runner.workspace.archive.require(asset, partition)
    words = [word.encode() for word in read_planted(system).identities]
    exports = list((system / "mount_sinai").glob(f"*{MARK}*.xml"))
    assert len(exports) > 40
    assert all(words_in(words, path.read_bytes()) for path in exports[:3])
    assert words_in(words, "\n".join(path.name.replace("_", " ") for path in exports).encode())
    assert any(TYPED.encode() in path.read_bytes() for path in exports)


def test_no_identity_and_no_file_name_is_in_anything_that_was_written(private):
    runner, system = private
    home = runner.workspace.home
    words = [word.encode() for word in read_planted(system).identities]
    found = {}
    tables = [path for path in files_below(home) if path.suffix == ".parquet"]
    assert len(tables) > 20
    assert len(databases(home)) > 3
    contents = {path: path.read_bytes() for path in files_below(home)}
    contents |= {path / "as text": table_text(path) for path in tables}
    contents |= {path / "as text": dump(path) for path in databases(home)}
    for path, content in contents.items():
        said = [*words_in(words, content), *(secret for secret in (MARK, KEY, TYPED) if secret.encode() in content)]
        if said:
            found[str(path.relative_to(home))] = said
    assert found == {}
    names = " ".join(str(path.relative_to(home)) for path in home.rglob("*"))
    assert MARK not in names
    assert not words_in(words, names.encode())


def test_stores_name_their_files_by_digests(private):
    runner, _ = private
    for site in SITES:
        store = WaveformStore(runner.workspace.archive.folder(runner.workspace.archive.require("waveform_store", site)))
        sources = [*store.ecgs()["source"], *store.rejects()["source"]]
        assert sources
        assert all(re.fullmatch(r"~[0-9a-f]{16}(\.xml)?", source) for source in sources)


def test_no_picture_is_in_a_database_nor_in_mlflow(private):
    runner, _ = private
    home = runner.workspace.home
    assert any(path.read_bytes().startswith(PICTURES[0]) for path in files_below(home / "assets"))
    contents = {path: path.read_bytes() for path in [*files_below(home / "dagster"), *files_below(home / "mlflow")]}
    # Long values lie in pieces in a database's file.
    texts = {path / "as text": dump(path) for path in databases(home)}
    for path, content in (contents | texts).items():
        assert [picture for picture in PICTURES if picture in content and path.suffix != ".safetensors"] == []
    drawn = [found for text in texts.values() for found in re.findall(rb"data:image/svg\+xml;base64,([\w+/=]+)", text)]
    assert drawn
    curves = [base64.b64decode(picture) for picture in drawn]
    assert all(curve.startswith(b"<svg") and b"<image" not in curve for curve in curves)


def examples_of(runner, view) -> np.ndarray:
    """(n, ...) examples of a view, of all sites."""
    archive = runner.workspace.archive
    shards = [ArrayShards(archive.folder(archive.require(view, site))) for site in SITES]
    return np.concatenate([examples for made in shards for _, examples in made])


def numbers_in(content) -> list[np.ndarray]:
    """Every list of numbers of a JSON document, with those inside of it, flat."""
    if isinstance(content, dict):
        return [array for value in content.values() for array in numbers_in(value)]
    if not isinstance(content, list):
        return []
    try:
        flat = np.asarray(content, dtype=float).ravel()
    except (TypeError, ValueError):
        return [array for value in content for array in numbers_in(value)]
    return [flat] if flat.size else []


def examples_in(path: Path, examples: np.ndarray) -> int:
    """How many of the examples a file holds: as bytes, as numbers of four bytes, or as a list of JSON."""
    content, size = path.read_bytes(), examples[0].size
    rows = [example.ravel()[size // 2 : size // 2 + size // 10] for example in examples]
    held = sum(row.tobytes() in content or row.astype("<f4").tobytes() in content for row in rows)
    if path.suffix == ".json":
        flat = [array for array in numbers_in(json.loads(content)) if array.size >= size]
        held += sum(
            np.array_equal(array[at : at + size].astype(examples.dtype), example.ravel())
            for example in examples
            for array in flat
            for at in range(0, array.size - size + 1, size)
        )
    return held


@pytest.mark.parametrize("view", ["image_shards", "waveform_windows/ten_seconds"])
def test_no_example_of_a_patient_is_in_mlflow(private, tmp_path, view):
    runner, _ = private
    examples = examples_of(runner, view)
    logged = files_below(runner.workspace.home / "mlflow")
    given = [numbers_in(json.loads(path.read_text())) for path in logged if "input_example" in path.name]
    assert any(array.size == examples[0].size for arrays in given for array in arrays)
    for path in logged:
        assert examples_in(path, examples) == 0, path
    planted = tmp_path / "input_example.json"
    planted.write_text(json.dumps({"inputs": {"examples": examples[3:4].tolist()}}))
    assert examples_in(planted, examples) >= 1
