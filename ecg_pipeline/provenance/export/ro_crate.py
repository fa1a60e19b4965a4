"""The runs behind an output as a Process Run Crate (RO-Crate): what each read, what it made, with what software."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from ecg_pipeline.provenance.export import model_card
from ecg_pipeline.provenance.export.extra import audit_extra
from ecg_pipeline.provenance.export.facts import Facts, InputFact, OutputFact
from ecg_pipeline.provenance.export.tables import DESCRIPTIONS, write_tables
from ecg_pipeline.storage.files import sha256_file, write_json

METADATA = "ro-crate-metadata.json"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"
CARD = "model-card.md"
LICENCE = "#licence"


def write(facts: Facts, out: Path) -> list[Path]:
    """Write the crate to the folder `out`: its metadata, the model card, and tables of counts and figures."""
    card = model_card.write(facts, out / CARD)
    tables = write_tables(facts, out)
    descriptions = {path: DESCRIPTIONS[name] for name, path in tables.items()}
    with audit_extra():
        content = metadata(facts, {**dict.fromkeys(card, "The same facts for people."), **descriptions})
    return [write_json(out / METADATA, content), *card, *tables.values()]


def metadata(facts: Facts, files: dict[Path, str]) -> dict[str, Any]:
    """The content of the crate's metadata. files: the files of the crate, with a description."""
    from rocrate.model.contextentity import ContextEntity
    from rocrate.rocrate import ROCrate

    crate = ROCrate(version="1.1")
    crate.metadata.extra_terms["sha256"] = "https://w3id.org/ro/terms/workflow-run#sha256"
    output = facts.output

    def add(name: str, kind: str, stated: dict[str, Any]) -> Any:
        return crate.add(ContextEntity(crate, name, properties={"@type": kind, **stated}))

    profile = add(PROFILE, "CreativeWork", {"name": "Process Run Crate", "version": "0.5"})
    why = "The export states facts and grants nothing: ask the owner of the model and the hospitals of the data."
    licence = add(LICENCE, "CreativeWork", {"name": "No licence is stated", "description": why})
    crate.name = f"Provenance of {output.name}"
    crate.description = f"Runs, inputs and software behind {output.name} of the study {facts.study.title}."
    crate.datePublished = output.ended_at
    crate.license = licence
    crate.root_dataset["conformsTo"] = profile
    for path, description in files.items():
        stated = {
            "name": path.name,
            "description": description,
            "encodingFormat": "text/markdown" if path.suffix == ".md" else "text/csv",
            "contentSize": str(path.stat().st_size),
            "sha256": sha256_file(path),
        }
        crate.add_file(dest_path=path.name, properties=stated)

    made: dict[str, Any] = {}
    for entry in facts.named:
        made[entry.uri] = add(entry.uri, "CreativeWork", _input(entry))
    for one in facts.described:
        made[one.uri] = add(one.uri, "CreativeWork", _output(one))
    for file in output.files:
        size = {} if file.size_bytes is None else {"contentSize": str(file.size_bytes)}
        stated = {"name": file.path, "sha256": file.sha256, "isPartOf": {"@id": output.uri}, **size}
        add(f"#file/{quote(file.path)}", "CreativeWork", stated)
    for one in facts.described:
        agent = {"agent": add(f"#user/{quote(one.user)}", "Person", {"name": one.user})} if one.user else {}
        version = f"urn:ecg-pipeline:version:{one.version}"
        software = add(version, "SoftwareApplication", {"name": "ecg-pipeline", "softwareVersion": one.version})
        read = [made[entry.uri] for entry in one.inputs]
        about = {**_action(one), **agent, "instrument": software, "result": made[one.uri]}
        if read:
            about["object"] = read if len(read) > 1 else read[0]
        crate.root_dataset.append_to("mentions", add(f"#run/{one.record}", "CreateAction", about))
    return crate.metadata.generate()


def _input(entry: InputFact) -> dict[str, Any]:
    files = "Files of a hospital or data set as they came, which the crate does not name."
    why = "An output of which the crate states nothing more."
    return {"name": entry.name, "description": why if entry.record else files, "version": entry.data_version}


def _output(output: OutputFact) -> dict[str, Any]:
    return {
        "name": output.name,
        "description": f"{len(output.files)} files, {output.size_bytes} bytes; sha256 is that of its record.",
        "version": output.data_version,
        "identifier": output.build,
        "sha256": output.record,
        "dateCreated": output.ended_at,
    }


def _action(output: OutputFact) -> dict[str, Any]:
    code = f"commit {output.git_commit}" + (" with changes" if output.git_dirty else "") if output.git_commit else ""
    checks = "; ".join(f"check {check.name} {'passed' if check.passed else 'failed'}" for check in output.checks)
    seeds = f"seeds {output.seeds}" if output.seeds else ""
    stated = [part for part in (code, f"Python {output.python}", seeds, checks) if part]
    return {
        "name": f"Making {output.name}",
        "description": "; ".join(stated),
        "startTime": output.started_at,
        "endTime": output.ended_at,
        "actionStatus": "http://schema.org/CompletedActionStatus",
    }
