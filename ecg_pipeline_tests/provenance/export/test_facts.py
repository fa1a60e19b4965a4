"""The facts are those of the records and tables, and of nothing that was altered."""

import json
import shutil
from dataclasses import replace

import polars as pl
import pytest

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.export.collect import AlteredFilesError, facts_of
from ecg_pipeline.provenance.export.facts import dimensions, package_url
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline_tests.provenance import homes
from ecg_pipeline_tests.provenance.export.conftest import MODEL
from ecg_pipeline_tests.provenance.homes import ENVIRONMENT, EXTERNAL, METRICS, SITES, cohort_of, ecgs_of


def test_counts_are_those_of_the_cohort(facts):
    cohort = cohort_of({site: ecgs_of(site) for site in SITES})
    counted = [count for count in facts.counts if count.table == "cohort.parquet"]
    assert sum(count.ecgs for count in counted) == cohort.height
    for count in counted:
        rows = cohort.filter(
            pl.col("site") == count.site, pl.col("split") == count.split, pl.col("label") == count.label
        )
        assert (count.ecgs, count.patients) == (rows.height, rows["patient"].n_unique())


def test_figures_are_those_of_the_evaluations_that_read_the_model(facts):
    assert {output.partition for output in facts.evaluations} == {f"1|{site}" for site in SITES}
    cohort = cohort_of({site: ecgs_of(site) for site in SITES})
    found = {(metric.site, metric.name): metric for metric in facts.metrics}
    assert {name for _, name in found} == {*METRICS, "trapezoid_auprc", "brier"}
    external = found[EXTERNAL, "auroc"]
    assert (external.value, external.low, external.high) == METRICS["auroc"]
    assert external.ecgs == homes.tested(cohort, EXTERNAL).height


def test_the_study_and_the_environment_come_from_the_documents(facts):
    assert facts.study.name == "demo"
    assert facts.study.task == "Left ventricular ejection fraction of 40 % or less"
    assert facts.study.is_synthetic
    assert facts.output.packages == ENVIRONMENT["packages"]
    assert facts.output.lock_sha256 == ENVIRONMENT["lock_sha256"]
    assert {source.asset for source in facts.sources} == {"raw_ecg_files"}
    assert not facts.missing


def test_partitions_are_of_sites_and_fractions():
    assert dimensions("0.25|north", ("north",)) == {"fraction": "0.25", "site": "north"}
    assert dimensions("1", ("north",)) == {"fraction": "1"}
    assert dimensions("2", ("2",)) == {"site": "2"}
    assert dimensions(None, ()) == {}


@pytest.fixture
def moved(archive, tmp_path):
    return Archive(shutil.copytree(archive.home, tmp_path / "elsewhere"))


def test_an_altered_table_or_document_states_nothing(moved):
    cohort, model = moved.require("low_lvef/cohort", None), moved.require(*MODEL)
    path = moved.folder(cohort) / "cohort.parquet"
    stored = path.read_bytes()
    pl.read_parquet(path).head(9).write_parquet(path)
    with pytest.raises(AlteredFilesError, match=r"cohort\.parquet is not as its record says"):
        facts_of(moved, lineage(moved, model))
    path.write_bytes(stored)
    document = moved.documents.path(model.study_text)
    document.write_text(document.read_text().replace("synthetic", "private"))
    with pytest.raises(AlteredFilesError):
        facts_of(moved, lineage(moved, model))


def test_a_home_without_builds_documents_and_upstream_records_still_has_facts(moved, facts):
    model = moved.require(*MODEL)
    shutil.rmtree(moved.documents.folder)
    for asset, partition in (("low_lvef/cohort", None), *(("waveform_store", site) for site in SITES)):
        shutil.rmtree(moved.build_folder(asset, partition, moved.require(asset, partition).build))
    shutil.rmtree(moved.place("clinical_labels", EXTERNAL))
    found = facts_of(moved, lineage(moved, model))
    assert [entry.name for entry in found.missing] == [f"clinical_labels@{EXTERNAL}"]
    assert found.output == replace(facts.output, packages=found.output.packages, lock_sha256=None)
    assert found.output.packages == {"ecg-pipeline": "0.1.0", "torch": "2.15.0"}
    assert not found.study.title
    assert {count.output.split("@")[0] for count in found.counts}.isdisjoint({"low_lvef/cohort", "waveform_store"})


def test_every_name_is_of_one_thing(facts):
    same = [replace(source, data_version="1" * 64) for source in facts.sources]
    assert len({source.uri for source in same}) == len(same)
    assert package_url("Torch_Vision", "0.2+cpu") == "pkg:pypi/torch-vision@0.2%2Bcpu"


def test_settings_are_json(facts):
    assert json.loads(json.dumps(facts.output.settings)) == facts.output.settings
