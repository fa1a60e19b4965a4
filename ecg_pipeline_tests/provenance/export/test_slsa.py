"""The statement is in-toto's, its signature openssl's, and that over the files model signing's."""

import base64
import json
import shutil
import sys
from pathlib import Path

import pytest

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.export.collect import AlteredFilesError
from ecg_pipeline.provenance.export.formats import write_export
from ecg_pipeline.provenance.signing import SignatureError, verified_payload
from ecg_pipeline_tests.provenance.export.conftest import MODEL
from ecg_pipeline_tests.provenance.export.tools import run
from ecg_pipeline_tests.provenance.homes import COMMIT

PAYLOAD_TYPE = "application/vnd.in-toto+json"


def payload(folder):
    envelope = json.loads((folder / "provenance.intoto.json").read_text())
    return base64.b64decode(envelope["payload"]), envelope


def openssl_verifies(body, envelope, public, tmp_path):
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(b"DSSEv1 %d %s %d %s" % (len(PAYLOAD_TYPE), PAYLOAD_TYPE.encode(), len(body), body))
    signature.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    return run("openssl", "dgst", "-sha256", "-verify", public, "-signature", signature, message)


def model_signing(folder, signature, public):
    program = Path(sys.executable).with_name("model_signing")
    return run(program, "verify", "key", folder, "--signature", signature, "--public_key", public)


def test_the_statement_covers_the_files_the_record_and_all_upstream(archive, model, exported, keys):
    envelope = json.loads((exported("slsa") / "provenance.intoto.json").read_text())
    stated = verified_payload(envelope, payload_type=PAYLOAD_TYPE, public_key=keys[1])
    subjects = {subject["name"]: subject["digest"]["sha256"] for subject in stated["subject"]}
    assert subjects == {**model.files, "record.json": model.digest}
    dependencies = stated["predicate"]["buildDefinition"]["resolvedDependencies"]
    digests = {digest for dependency in dependencies for digest in dependency.get("digest", {}).values()}
    assert {COMMIT, model.study_text, archive.require("low_lvef/cohort", None).digest} <= digests
    assert {entry.record for entry in model.upstream} <= digests
    assert "pkg:pypi/torch@2.15.0" in {dependency.get("uri") for dependency in dependencies}


def test_openssl_verifies_the_envelope(exported, keys, tmp_path):
    body, envelope = payload(exported("slsa"))
    assert openssl_verifies(body, envelope, keys[1], tmp_path).stdout.strip() == "Verified OK"
    forged = body.replace(b'"git_commit"', b'"git_Commit"').replace(COMMIT.encode(), COMMIT[::-1].encode())
    assert forged != body
    assert openssl_verifies(forged, envelope, keys[1], tmp_path).returncode == 1


def test_in_toto_parses_the_statement(exported, tools, tmp_path):
    body, _ = payload(exported("slsa"))
    path = tmp_path / "statement.json"
    path.write_bytes(body)
    done = tools.statement(path)
    assert done.stdout.strip() == "urn:ecg-pipeline:asset:v1", done.stderr
    stated = json.loads(body)
    stated["predicate"]["runDetails"]["metadata"]["startedOn"] = "yesterday"
    path.write_text(json.dumps(stated))
    assert "Provenance.runDetails.metadata.startedOn" in tools.statement(path).stderr
    del stated["subject"]
    path.write_text(json.dumps({**stated, "predicate": json.loads(body)["predicate"]}))
    assert "subject" in tools.statement(path).stderr


def test_model_signing_verifies_the_files(archive, model, exported, keys, tmp_path):
    signature = exported("slsa") / "model.sig"
    folder = archive.folder(model)
    done = model_signing(folder, signature, keys[1])
    assert "Verification succeeded" in done.stdout, done.stderr
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert model_signing(copy, signature, keys[1]).returncode == 0
    weights = copy / "seed_0" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\0")
    done = model_signing(copy, signature, keys[1])
    assert done.returncode != 0
    assert "seed_0/weights.safetensors" in done.stdout + done.stderr


def test_files_that_differ_from_the_record_are_not_signed(archive, keys, tmp_path):
    moved = Archive(shutil.copytree(archive.home, tmp_path / "home"))
    model = moved.require(*MODEL)
    (moved.folder(model) / ".hidden").write_text("not part of the output")
    write_export(moved, model, form="slsa", out=tmp_path / "out", key=keys[0])
    (moved.folder(model) / "seed_1" / "weights.safetensors").write_bytes(b"other")
    (moved.folder(model) / "added.txt").write_text("added")
    with pytest.raises(AlteredFilesError, match=r"added\.txt, seed_1/weights\.safetensors"):
        write_export(moved, model, form="slsa", out=tmp_path / "refused", key=keys[0])
    assert not [*(tmp_path / "refused").iterdir()]


def test_a_key_that_cannot_sign_says_why(archive, model, tmp_path):
    key = tmp_path / "key.pem"
    run("openssl", "genrsa", "-out", key, "2048")
    with pytest.raises(SignatureError, match="not an ECDSA key"):
        write_export(archive, model, form="slsa", out=tmp_path / "out", key=key)


def test_a_key_with_a_password_signs(archive, model, keys, tmp_path):
    key = tmp_path / "locked.pem"
    run("openssl", "ec", "-in", keys[0], "-aes256", "-passout", "pass:of a test", "-out", key)
    written = write_export(archive, model, form="slsa", out=tmp_path / "out", key=key, password=b"of a test")
    body, envelope = payload(tmp_path / "out")
    assert openssl_verifies(body, envelope, keys[1], tmp_path).returncode == 0
    assert model_signing(archive.folder(model), written[1], keys[1]).returncode == 0
    with pytest.raises(SignatureError, match="its password is wrong"):
        write_export(archive, model, form="slsa", out=tmp_path / "other", key=key)
