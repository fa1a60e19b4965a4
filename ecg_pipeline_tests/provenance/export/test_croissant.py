"""mlcroissant reads the rows, checks the digests, and finds nothing to warn of."""

import json

import mlcroissant
import pytest
from mlcroissant import GenerationError, ValidationError

from ecg_pipeline_tests.provenance.homes import PATIENTS


def dataset(folder):
    return mlcroissant.Dataset(folder / "croissant.json")


def test_the_rows_are_read(exported, facts):
    read = dataset(exported("croissant"))
    assert not read.metadata.ctx.issues.errors
    assert not read.metadata.ctx.issues.warnings
    rows = [*read.records("counts")]
    assert len(rows) == len(facts.counts)
    stored = {
        row["counts/site"].decode(): row["counts/patients"]
        for row in rows
        if row["counts/output"].startswith(b"waveform_store")
    }
    assert stored == PATIENTS
    assert [row["rejects/files"] for row in read.records("rejects")] == [1, 1, 1]
    assert [row["metrics/value"] for row in read.records("metrics")] == [metric.value for metric in facts.metrics]


def test_a_table_that_was_changed_is_rejected(copied):
    folder = copied("croissant")
    path = folder / "counts.csv"
    path.write_text(path.read_text().replace(",24\n", ",25\n", 1))
    with pytest.raises(GenerationError, match=r"Download\(counts\.csv\)") as raised:
        [*dataset(folder).records("counts")]
    assert "is not identical with the reference" in str(raised.value.__cause__)


def test_a_field_of_a_missing_column_is_rejected(copied):
    folder = copied("croissant")
    path = folder / "croissant.json"
    content = json.loads(path.read_text())
    del content["recordSet"][0]["field"][0]["source"]["fileObject"]
    path.write_text(json.dumps(content))
    with pytest.raises(ValidationError):
        dataset(folder)


def test_tables_of_patients_are_named_by_their_digests(exported, archive):
    content = json.loads((exported("croissant") / "croissant.json").read_text())
    files = {file["@id"]: file["sha256"] for file in content["distribution"]}
    record = archive.require("low_lvef/cohort", None)
    assert files["low_lvef/cohort/cohort.parquet"] == record.files["cohort.parquet"]
    assert {name for name in content if name.startswith("rai:")} >= {
        "rai:dataCollection",
        "rai:dataLimitations",
        "rai:personalSensitiveInformation",
    }
    assert "http://mlcommons.org/croissant/RAI/1.0" in content["conformsTo"]
