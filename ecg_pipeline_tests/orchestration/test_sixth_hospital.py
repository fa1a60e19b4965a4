"""A hospital more, or a name more of one, costs no other hospital anything: none of its files is read."""

import shutil
import sys
from pathlib import Path

import pytest

from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.orchestration.assets import ingest as records
from ecg_pipeline.orchestration.plan import is_stale
from ecg_pipeline_tests.orchestration.conftest import open_runner

STUDY = "extends: demo\nname: tiny\nsynthetic: {patients: 40, ecgs: 48}\n"
SIXTH = """\
sites:
  sixth:
    title: A hospital that came later
    format: muse_xml
    path: PATH
    site_names: [MOUNT SINAI HOSPITAL]
    label_tables: [echo_reports.csv, diagnoses.csv]
    patients: public
"""
RENAMED = "sites: {beth_israel: {site_names: [BETH ISRAEL MEDICAL CENTER, MOUNT SINAI BETH ISRAEL]}}\n"
DATA = ("waveform_store", "clinical_labels", "filtered_waveforms", "image_shards", "waveform_windows/ten_seconds")

watched: list[tuple[Path, list[Path]]] = []
"""Folders that are watched, each with the files below it that were opened. An audit hook cannot be taken away again."""


def _note(event, arguments):
    if watched and event == "open" and isinstance(arguments[0], str | bytes | Path):
        path = Path(arguments[0] if not isinstance(arguments[0], bytes) else arguments[0].decode())
        for folder, opened in watched:
            if path.is_relative_to(folder):
                opened.append(path)


sys.addaudithook(_note)


@pytest.fixture
def opened_files():
    """A function that watches a folder, and gives the list of the files below it that this process opens."""

    def watch(folder):
        watched.append((folder, []))
        return watched[-1][1]

    yield watch
    watched.clear()


@pytest.fixture
def labelled_sites(monkeypatch):
    """The sites whose tables of labels are read: polars does that, whose looks at files Python's audit does not see."""
    sites, collect = [], records.collect_labels

    def counted(drop, *arguments, **options):
        sites.append(drop.site)
        return collect(drop, *arguments, **options)

    monkeypatch.setattr(records, "collect_labels", counted)
    return sites


@pytest.fixture
def ingested(tmp_path, monkeypatch):
    """The data of four sites, made in this process."""
    monkeypatch.setenv("ECG_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ECG_WORKERS", "1")
    monkeypatch.setattr(records, "SETTLE_S", 0.0)
    study = tmp_path / "tiny.yaml"
    study.write_text(STUDY)
    runner = open_runner(study)
    runner.run_stale(["hospital_system", *DATA])
    return runner


def changed(runner, tmp_path, sections):
    study = tmp_path / "changed.yaml"
    study.write_text(STUDY + sections)
    return open_runner(study)


def stale_sites(runner):
    graph = runner.definitions.resolve_asset_graph()
    return {
        (key.to_user_string(), site)
        for key in graph.toposorted_asset_keys
        if key.to_user_string() in DATA
        for site in runner.workspace.study.sites
        if is_stale(runner.workspace, graph, (key, site))
    }


def outputs(runner, sites):
    return {(asset, site): runner.workspace.archive.require(asset, site) for asset in DATA for site in sites}


def test_a_sixth_hospital_reads_no_file_of_the_others(ingested, tmp_path, opened_files, labelled_sites):
    system, sixth = ingested.workspace.home / "hospital_system", tmp_path / "sixth"
    shutil.copytree(system / "mount_sinai", sixth)
    others, own = opened_files(system), opened_files(sixth)
    before = outputs(ingested, ingested.workspace.study.sites)
    runner = changed(ingested, tmp_path, SIXTH.replace("PATH", str(sixth)))
    assert stale_sites(runner) == {(asset, "sixth") for asset in DATA}
    runs = runner.run_stale(["hospital_system", *DATA])
    assert {run.partition for run in runs} == {"sixth"}
    assert others == []
    assert set(labelled_sites) == {"sixth"}
    read = WaveformStore(
        runner.workspace.archive.folder(runner.workspace.archive.require("waveform_store", "sixth"))
    ).ecgs()
    assert {path.name for path in own} >= set(read["source"])
    assert outputs(runner, ingested.workspace.study.sites) == before
    assert len(outputs(runner, ["sixth"])) == len(DATA)


def test_one_more_name_of_a_site_reads_no_file_of_the_others(ingested, tmp_path, opened_files, labelled_sites):
    system = ingested.workspace.home / "hospital_system"
    opened = opened_files(system)
    before = outputs(ingested, ingested.workspace.study.sites)
    runner = changed(ingested, tmp_path, RENAMED)
    assert {site for _, site in stale_sites(runner)} == {"beth_israel"}
    runs = runner.run_stale(["hospital_system", *DATA])
    assert {run.partition for run in runs} == {"beth_israel"}
    assert set(labelled_sites) == {"beth_israel"}
    assert {path.relative_to(system).parts[0] for path in opened} == {"beth_israel"}
    others = [site for site in runner.workspace.study.sites if site != "beth_israel"]
    assert outputs(runner, others).items() <= before.items()
