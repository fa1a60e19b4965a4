"""A machine-learning bill of materials in CycloneDX 1.6: the model with its card, its files, data and packages."""

import json
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from ecg_pipeline.provenance.export.extra import audit_extra
from ecg_pipeline.provenance.export.facts import Facts, InputFact, OutputFact, package_url, zulu
from ecg_pipeline.storage.files import write_json

FULL_DIGEST = 64


def write(facts: Facts, out: Path) -> list[Path]:
    """Write the bill of materials to the file `out`. It is checked against the strict schema first."""
    content = bill(facts)
    with audit_extra():
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator

        if error := JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(content)):
            raise ValueError(f"the bill of materials is not CycloneDX 1.6: {error}")
    return [write_json(out, content)]


def bill(facts: Facts) -> dict[str, Any]:
    """The bill of materials as JSON. The library has no model card, so that the JSON is written here."""
    output = facts.output
    packages = {package_url(*package): package for package in sorted(output.packages.items())}
    components = [_component(facts, of) for of in facts.upstream]
    components += [_source(entry) for entry in (*facts.sources, *facts.missing)]
    components += [
        {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
        for purl, (name, version) in packages.items()
    ]
    known = {component["bom-ref"] for component in components}
    depends = [{"ref": of.uri, "dependsOn": sorted({entry.uri for entry in of.inputs} & known)} for of in facts.outputs]
    depends[-1]["dependsOn"] += sorted(packages)
    tool = {"type": "application", "name": "ecg-pipeline", "version": output.version}
    root = _component(facts, output)
    root["components"] = [
        {
            "type": "file",
            "bom-ref": f"{output.uri}/{file.path}",
            "name": file.path,
            "hashes": [{"alg": "SHA-256", "content": file.sha256}],
        }
        for file in output.files
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, output.uri)}",
        "version": 1,
        "metadata": {
            "timestamp": zulu(output.ended_at),
            "tools": {"components": [tool]},
            "component": root,
        },
        "components": components,
        "dependencies": depends,
    }


def _component(facts: Facts, output: OutputFact) -> dict[str, Any]:
    component: dict[str, Any] = {
        "type": "machine-learning-model" if output.model else "data",
        "bom-ref": output.uri,
        "name": output.name,
        "version": output.build,
        "properties": _properties(output),
    }
    if len(output.data_version) == FULL_DIGEST:
        component["hashes"] = [{"alg": "SHA-256", "content": output.data_version}]
    if output.model:
        component["modelCard"] = _card(facts, output)
    else:
        component["data"] = [_data(facts, output)]
    return component


def _properties(output: OutputFact) -> list[dict[str, str]]:
    stated = {
        "record": output.record,
        "dataVersion": output.data_version,
        "gitCommit": output.git_commit,
        "uncommittedChanges": None if output.git_dirty is None else str(output.git_dirty).lower(),
        "lock": output.lock_sha256,
        "python": output.python,
        "dagsterRun": output.dagster_run_id,
        "mlflowRun": output.mlflow_run_id,
        "peakMemoryBytes": str(output.peak_memory_bytes) if output.peak_memory_bytes else None,
        "startedAt": output.started_at,
        "endedAt": output.ended_at,
        "settings": json.dumps(output.settings, sort_keys=True),
        **{f"seed:{name}": str(seed) for name, seed in output.seeds.items()},
        **{f"hardware:{name}": str(value) for name, value in output.hardware.items() if value is not None},
        **{f"check:{check.name}": "passed" if check.passed else "failed" for check in output.checks},
    }
    return [{"name": f"ecg-pipeline:{name}", "value": value} for name, value in stated.items() if value]


def _card(facts: Facts, output: OutputFact) -> dict[str, Any]:
    datasets = [{"ref": of.uri} for of in facts.data_of(output)]
    if any(count.output == output.name for count in facts.counts):
        datasets.append(_data(facts, output))
    parameters: dict[str, Any] = {"datasets": datasets}
    if output.asset.endswith("pretrained_checkpoint"):
        parameters["approach"] = {"type": "self-supervised"}
    elif output.asset.endswith("finetuned_model"):
        parameters |= {
            "approach": {"type": "supervised"},
            "task": "classification",
            "outputs": [{"format": "log-odds"}],
        }
    if "family" in output.model:
        parameters |= {"architectureFamily": str(output.model["family"]), "modelArchitecture": _plain(output.model)}
    card: dict[str, Any] = {"modelParameters": parameters, "considerations": _considerations(facts)}
    if output is facts.output and facts.metrics:
        card["quantitativeAnalysis"] = {
            "performanceMetrics": [
                {
                    "type": metric.name,
                    "value": str(metric.value),
                    "slice": metric.evaluation,
                    **(
                        {}
                        if metric.low is None or metric.high is None
                        else {"confidenceInterval": {"lowerBound": str(metric.low), "upperBound": str(metric.high)}}
                    ),
                }
                for metric in facts.metrics
            ]
        }
    return card


def _considerations(facts: Facts) -> dict[str, Any]:
    limits = ["Research software and not a medical device: no use is stated or approved."]
    if facts.study.is_synthetic:
        limits.append("Every patient is synthetic: the figures say nothing about medicine.")
    return {"technicalLimitations": limits, **({"useCases": [facts.study.task]} if facts.study.task else {})}


def _data(facts: Facts, output: OutputFact) -> dict[str, Any]:
    counts = [count for count in facts.counts if count.output == output.name]
    stated = {
        "type": "dataset",
        "name": f"patients in the tables of {output.name}",
        "contents": {
            "properties": [
                {
                    "name": f"{count.table}: {_of(count.site, count.split, count.label)}",
                    "value": f"{count.ecgs} ECGs, {count.patients} patients",
                }
                for count in counts
            ]
        },
    }
    private = [] if facts.study.is_synthetic else ["ECGs of patients under keyed pseudonyms; not part of this document"]
    return {**stated, **({"sensitiveData": private} if counts and private else {})}


def _of(site: str, split: str | None, label: int | None) -> str:
    parts = [site, split, None if label is None else f"label {label}"]
    return ", ".join(part for part in parts if part)


def _source(entry: InputFact) -> dict[str, Any]:
    what = "Files of a hospital or data set as they came" if entry.record is None else "An output whose record is gone"
    return {
        "type": "data",
        "bom-ref": entry.uri,
        "name": entry.name,
        "version": entry.data_version,
        "data": [{"type": "dataset", "name": entry.name, "description": what}],
    }


def _plain(model: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in model.items() if name != "family") or str(model["family"])
