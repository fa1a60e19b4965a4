"""How an output was built, as an in-toto statement with SLSA provenance v1 in a signed DSSE envelope.

Beside it stands a signature over the files of the output (OpenSSF model signing), whose predicate type is fixed, so
that it cannot carry the statement.
"""

import base64
import json
from pathlib import Path
from typing import Any

from ecg_pipeline.provenance.export.collect import AlteredFilesError
from ecg_pipeline.provenance.export.extra import audit_extra
from ecg_pipeline.provenance.export.facts import Facts, InputFact, OutputFact, package_url, zulu
from ecg_pipeline.provenance.signing import SignatureError, sign
from ecg_pipeline.storage.files import write_atomically, write_json

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT, SIGNATURE = "provenance.intoto.json", "model.sig"


def write(facts: Facts, out: Path, *, folder: Path, key: Path, password: bytes | None = None) -> list[Path]:
    """Write the signed statement and the signature over `folder`, the output's files, to the folder `out`.

    key, password: ECDSA private key in PEM, and what it is encrypted with, if it is. Files that differ from the record
    are not signed: an AlteredFilesError.
    """
    with audit_extra():
        envelope = sign(statement(facts), payload_type=PAYLOAD_TYPE, key=key, password=password)
        signature = write_atomically(
            out / SIGNATURE, lambda path: _sign_folder(facts.output, folder, path, key, password)
        )
    return [write_json(out / STATEMENT, envelope), signature]


def statement(facts: Facts) -> dict[str, Any]:
    """The in-toto statement: its subjects are the output's files and its record."""
    output, study = facts.output, facts.study
    subjects = [{"name": file.path, "digest": {"sha256": file.sha256}} for file in output.files]
    direct = {entry.record for entry in output.inputs}
    return {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [*subjects, {"name": "record.json", "digest": {"sha256": output.record}}],
        "predicateType": "https://slsa.dev/provenance/v1",
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:ecg-pipeline:asset:v1",
                "externalParameters": {
                    "asset": output.asset,
                    "partition": output.partition,
                    "study": {"name": study.name, "fingerprint": study.fingerprint},
                    "settings": output.settings,
                },
                "internalParameters": {
                    "seeds": output.seeds,
                    "hardware": output.hardware,
                    "build": output.build,
                    "dataVersion": output.data_version,
                },
                "resolvedDependencies": [
                    *_code(facts),
                    *(_dependency(of, direct=of.record in direct) for of in facts.upstream),
                    *(_source(of) for of in facts.sources),
                    *(_missing(of) for of in facts.missing),
                ],
            },
            "runDetails": {
                "builder": {
                    "id": "urn:ecg-pipeline:builder",
                    "version": {"ecg-pipeline": output.version, "python": output.python},
                },
                "metadata": {
                    **({"invocationId": output.dagster_run_id} if output.dagster_run_id else {}),
                    "startedOn": zulu(output.started_at),
                    "finishedOn": zulu(output.ended_at),
                },
            },
        },
    }


def _code(facts: Facts) -> list[dict[str, Any]]:
    output, found = facts.output, []
    if output.git_commit:
        note = {"annotations": {"uncommittedChanges": True}} if output.git_dirty else {}
        found.append({"name": "ecg-pipeline", "digest": {"gitCommit": output.git_commit}, **note})
    if output.lock_sha256:
        found.append({"name": "requirements.lock", "digest": {"sha256": output.lock_sha256}})
    if facts.study.text:
        found.append({"name": "study", "digest": {"sha256": facts.study.text}})
    return [*found, *({"uri": package_url(*package), "name": package[0]} for package in output.packages.items())]


def _dependency(output: OutputFact, *, direct: bool) -> dict[str, Any]:
    return {
        "uri": output.uri,
        "name": output.name,
        "digest": {"sha256": output.record},
        "annotations": {"dataVersion": output.data_version, "direct": direct},
    }


def _source(source: InputFact) -> dict[str, Any]:
    note = "files as they came: digest of their list and of the rules by which they are read"
    return {"uri": source.uri, "name": source.name, "annotations": {"dataVersion": source.data_version, "is": note}}


def _missing(entry: InputFact) -> dict[str, Any]:
    digest = {"digest": {"sha256": entry.record}} if entry.record else {}
    note = "an output whose record is gone"
    return {
        "uri": entry.uri,
        "name": entry.name,
        **digest,
        "annotations": {"dataVersion": entry.data_version, "is": note},
    }


def _sign_folder(output: OutputFact, folder: Path, signature: Path, key: Path, password: bytes | None) -> None:
    from model_signing import hashing, signing

    hidden = [path for path in folder.rglob(".*") if path.name not in (".", "..")]
    hashed = hashing.Config().set_ignored_paths(paths=hidden)
    try:
        # Declared as text, and handed on to what takes bytes alone.
        secret: Any = password
        signer = signing.Config().use_elliptic_key_signer(private_key=key, password=secret)
        signer.set_hashing_config(hashed).sign(folder, signature)
    except ValueError as error:
        raise SignatureError(f"{folder}: {error}") from None
    signed = json.loads(base64.b64decode(json.loads(signature.read_text(encoding="utf-8"))["dsseEnvelope"]["payload"]))
    found = {resource["name"]: resource["digest"] for resource in signed["predicate"]["resources"]}
    stated = {file.path: file.sha256 for file in output.files}
    if altered := sorted(name for name in {*found, *stated} if found.get(name) != stated.get(name)):
        names = ", ".join(altered[:5]) + (f" and {len(altered) - 5} more" if len(altered) > 5 else "")
        raise AlteredFilesError(f"{output.name}: not signed, as these files are not those of its record: {names}")
