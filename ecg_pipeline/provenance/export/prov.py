"""Provenance of an output in W3C PROV: entities, the activities that made them, and who ran these, as PROV-JSON."""

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ecg_pipeline.provenance.export.extra import audit_extra
from ecg_pipeline.provenance.export.facts import Facts, InputFact, OutputFact
from ecg_pipeline.storage.files import write_json

if TYPE_CHECKING:
    from prov.model import ProvDocument

NAMESPACES = {name: f"urn:ecg-pipeline:{name}:" for name in ("fact", "record", "files", "made", "file", "agent")}


def write(facts: Facts, out: Path) -> list[Path]:
    """Write the document to the file `out`."""
    with audit_extra():
        text = document(facts).serialize(format="json")
    return [write_json(out, _sorted(json.loads(text or "{}")))]


def document(facts: Facts) -> "ProvDocument":
    """An entity for every output and every source, an activity for the making of each, software and users as agents."""
    from prov.constants import PROV
    from prov.model import ProvDocument

    made = ProvDocument()
    for name, uri in NAMESPACES.items():
        made.add_namespace(name, uri)
    for version in sorted({output.version for output in facts.described}):
        of_software = {"prov:label": f"ecg-pipeline {version}", "prov:type": PROV["SoftwareAgent"]}
        made.agent(f"agent:ecg-pipeline-{version}", of_software)
    for user in sorted({output.user for output in facts.described if output.user}):
        made.agent(f"agent:user-{quote(user, safe='')}", {"prov:label": user, "prov:type": PROV["Person"]})
    for entry in facts.named:
        of_entry = {"prov:label": entry.name, "fact:dataVersion": entry.data_version}
        made.entity(_name(entry), {**of_entry, "prov:type": PROV["Collection"]})
    for output in facts.described:
        _add(made, output)
    for file in facts.output.files:
        of_file = {"prov:label": file.path, "fact:sha256": file.sha256}
        entity = made.entity(f"file:{facts.output.record}/{quote(file.path)}", of_file)
        made.hadMember(f"record:{facts.output.record}", entity)
    return made


def _add(made: "ProvDocument", output: OutputFact) -> None:
    from prov.constants import PROV

    name, began, ended = f"record:{output.record}", *map(datetime.fromisoformat, (output.started_at, output.ended_at))
    facts = {
        "prov:label": output.name,
        "fact:dataVersion": output.data_version,
        "fact:build": output.build,
        "fact:files": len(output.files),
        "fact:bytes": output.size_bytes,
    }
    made.entity(name, {**facts, "prov:type": PROV["Collection"]})
    settings = json.dumps(output.settings, sort_keys=True)
    of_making = {"prov:label": f"making {output.name}", "fact:settings": settings, **_optional(output)}
    made.activity(f"made:{output.record}", began, ended, of_making)
    made.wasGeneratedBy(name, f"made:{output.record}", ended)
    made.wasAssociatedWith(f"made:{output.record}", f"agent:ecg-pipeline-{output.version}")
    if output.user:
        made.wasAssociatedWith(f"made:{output.record}", f"agent:user-{quote(output.user, safe='')}")
    for entry in output.inputs:
        made.used(f"made:{output.record}", _name(entry), None, None, {"prov:label": entry.name})
        made.wasDerivedFrom(name, _name(entry), f"made:{output.record}")


def _name(entry: InputFact) -> str:
    return entry.uri.removeprefix("urn:ecg-pipeline:")


def _optional(output: OutputFact) -> dict[str, Any]:
    stated = {"fact:gitCommit": output.git_commit, "fact:dagsterRun": output.dagster_run_id}
    return {name: value for name, value in stated.items() if value}


def _sorted(stated: dict[str, Any]) -> dict[str, Any]:
    """A document in an order that does not depend on the run: the library numbers relations by their order."""
    return {kind: dict(sorted(entries.items())) for kind, entries in sorted(stated.items())}
