"""The bill of materials is strictly CycloneDX 1.6 to the libraries for Python and for JavaScript."""

import json

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ecg_pipeline_tests.provenance.homes import METRICS, SITES


def python_error(path):
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text())


def test_both_libraries_accept_it(exported, tools):
    path = exported("cyclonedx")
    assert python_error(path) is None
    done = tools.cyclonedx(path)
    assert (done.returncode, done.stdout.strip()) == (0, "null"), done.stderr


def add_a_key(bill):
    bill["metadata"]["component"]["modelCard"]["patients"] = 12


def write_a_number(bill):
    metrics = bill["metadata"]["component"]["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    metrics[0]["value"] = 0.9


def cut_a_digest(bill):
    files = bill["metadata"]["component"]["components"]
    files[0]["hashes"][0]["content"] = files[0]["hashes"][0]["content"][:15]


@pytest.mark.parametrize("plant", [add_a_key, write_a_number, cut_a_digest])
def test_both_libraries_reject_a_defect(copied, tools, plant):
    path = copied("cyclonedx")
    bill = json.loads(path.read_text())
    plant(bill)
    path.write_text(json.dumps(bill))
    assert python_error(path) is not None
    assert tools.cyclonedx(path).returncode == 1


def test_the_model_has_its_card_files_data_and_packages(exported, model, facts):
    bill = json.loads(exported("cyclonedx").read_text())
    component = bill["metadata"]["component"]
    hashes = {file["name"]: file["hashes"][0]["content"] for file in component["components"]}
    assert hashes == model.files
    metrics = component["modelCard"]["quantitativeAnalysis"]["performanceMetrics"]
    assert len(metrics) == len(facts.metrics)
    value, low, high = METRICS["auroc"]
    assert metrics[0]["value"] == str(value)
    assert metrics[0]["confidenceInterval"] == {"lowerBound": str(low), "upperBound": str(high)}
    known = {component["bom-ref"]: component for component in bill["components"]}
    assert {entry["ref"] for entry in bill["dependencies"]} <= {*known, component["bom-ref"]}
    assert "pkg:pypi/torch@2.15.0" in known
    assert data_of(component, known) == {"low_lvef/cohort", *(f"waveform_store@{site}" for site in SITES)}
    checkpoint = next(one for one in bill["components"] if one["name"] == "heartbeit/pretrained_checkpoint")
    assert data_of(checkpoint, known) == {f"waveform_store@{site}" for site in SITES[:2]}


def data_of(component, known):
    """Names of the data that a model's card refers to; those of the model's own tables are in the card."""
    *references, own = component["modelCard"]["modelParameters"]["datasets"]
    assert component["name"] in own["name"]
    return {known[reference["ref"]]["name"] for reference in references}
