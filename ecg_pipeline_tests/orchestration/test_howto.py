"""The how-to pages, followed to the letter: their files, edits and commands, through the command line."""

import shutil
from pathlib import Path

import dagster as dg
import numpy as np
import pytest

from ecg_pipeline.ecg import INDEPENDENT_LEADS
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.synthetic.heart import sample_heart, sample_person, simulate
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.howto import follow, run

REPOSITORY = Path(__file__).parents[2]
METRIC, LABEL = "sensitivity_at_95", "Sensitivity at 95 % specificity".replace(" %", "\u00a0%")


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hospitals") / "system"
    write_hospital_system(HospitalSystem(patients=220, ecgs=360, seed=5), folder)
    return folder


@pytest.fixture
def tree(tmp_path):
    """A copy of the package, as somebody has it who adds to it."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(REPOSITORY / "ecg_pipeline", tmp_path / "tree" / "ecg_pipeline", ignore=ignored)
    return tmp_path / "tree"


def test_own_ecgs_from_their_folders_to_a_report(tree, hospitals):
    for site, folder in (("mount_sinai", "general"), ("morningside", "riverside")):
        shutil.copytree(hospitals / site, tree / "ecgs" / folder)
        (tree / "ecgs" / folder / "diagnoses.csv").unlink()
    printed = follow("use-your-own-ecgs.md", tree, {"ECG_WORKERS": "2"})
    assert "files not used" in printed
    page = Path(printed.strip().splitlines()[-1])
    assert "Riverside Hospital" in page.read_text()
    results = Report(page.parent).results()
    assert set(results["site"]) == {"general", "riverside"}
    assert results["auroc"].null_count() == 0


def write_clinic(folder):
    """A clinic's ECGs in the invented format of the page, of patients with and without hypertrophic cardiomyopathy."""
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    labels = ["patient_id,observed_at,system,code,value"]
    for number in range(72):
        is_ill = number % 3 == 0
        heart = sample_heart(sample_person(rng), disease="hcm" if is_ill else "none", severity=0.9, rng=rng)
        x_mv, _, _ = simulate(heart, seconds=5, sampling_hz=250, rng=rng)
        rows = "\n".join(",".join(f"{value:.0f}" for value in sample) for sample in (1000 * x_mv).T)
        text = f"# 250 Hz, patient 7{number:03d}\n{','.join(INDEPENDENT_LEADS)}\n{rows}\n"
        (folder / f"{number}.csv").write_text(text)
        labels.append(f"7{number:03d},2020-01-01,diagnosis,I42.1,{int(is_ill)}")
    (folder / "damaged.csv").write_text("# 250 Hz, patient 9\nI,II\n1,x\n")
    (folder / "diagnoses.csv").write_text("\n".join(labels))


def test_a_format_and_a_metric_are_a_file_a_function_and_two_lines(tree):
    write_clinic(tree / "ecgs" / "clinic")
    assert "1 files not used" in follow("add-a-format.md", tree, {"ECG_WORKERS": "2"})
    follow("add-a-metric.md", tree, {})
    settings = {"ECG_HOME": str(tree / "home"), "ECG_DATA": str(tree / "ecgs"), "ECG_WORKERS": "2"}
    run("ecg-pipeline materialize --study my_study.yaml", tree, settings)

    home = tree / "home" / "my_study"
    archive = Archive(home)
    report = Report(archive.folder(archive.require("benchmark_report", None)))
    results = report.results()
    assert {METRIC, f"{METRIC}_low", f"{METRIC}_high", f"patient_{METRIC}"} <= set(results.columns)
    assert results[METRIC].null_count() == 0
    page = report.page.read_text()
    tripod = page[page.index('id="tripod"') :]
    assert LABEL in page[: page.index('id="tripod"')]
    assert LABEL in tripod
    with dg.DagsterInstance.from_config(str(home / "dagster")) as instance:
        shown = instance.get_latest_materialization_event(dg.AssetKey(["hcm", "small_cnn", "evaluation"]))
    assert METRIC in shown.asset_materialization.metadata
