"""An envelope is by the key that signed it, says what it is, and is what `openssl` verifies, too."""

import base64
import json
import subprocess

import pytest

from ecg_pipeline.provenance.signing import SignatureError, sign, verified_payload

TYPE = "application/vnd.test+json"


def openssl(*arguments):
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


@pytest.fixture
def keys(tmp_path):
    pairs = []
    for name in ("own", "other"):
        private, public = tmp_path / f"{name}.pem", tmp_path / f"{name}.pub"
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private)
        openssl("ec", "-in", private, "-pubout", "-out", public)
        pairs.append((private, public))
    return pairs


def test_a_signed_payload_comes_back(keys):
    (private, public), _ = keys
    payload = {"head": "é", "entries": 3}
    assert (
        verified_payload(sign(payload, payload_type=TYPE, key=private), payload_type=TYPE, public_key=public) == payload
    )


def test_openssl_verifies_an_envelope(keys, tmp_path):
    (private, public), _ = keys
    envelope = sign({"entries": 3}, payload_type=TYPE, key=private)
    body = base64.b64decode(envelope["payload"])
    message, signature = tmp_path / "message", tmp_path / "signature"
    message.write_bytes(f"DSSEv1 {len(TYPE)} {TYPE} {len(body)} ".encode() + body)
    signature.write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    done = openssl("dgst", "-sha256", "-verify", public, "-signature", signature, message)
    assert done.stdout.strip() == b"Verified OK"


def test_what_was_changed_is_refused(keys):
    (private, public), (_, other) = keys
    envelope = sign({"entries": 3}, payload_type=TYPE, key=private)
    payload = base64.b64encode(json.dumps({"entries": 2}).encode()).decode()
    cases = [
        ({**envelope, "payload": payload}, TYPE, public, "no signature"),
        (envelope, TYPE, other, "no signature"),
        (envelope, "text/other", public, "the envelope holds"),
        ({**envelope, "signatures": []}, TYPE, public, "no signature"),
        ({"payload": "?"}, TYPE, public, "not a DSSE envelope"),
    ]
    for changed, kind, key, why in cases:
        with pytest.raises(SignatureError, match=why):
            verified_payload(changed, payload_type=kind, public_key=key)


def test_a_key_that_cannot_sign_says_why(tmp_path):
    path = tmp_path / "key.pem"
    path.write_text("no key")
    with pytest.raises(SignatureError, match="not a private key"):
        sign({}, payload_type=TYPE, key=path)
    openssl("genrsa", "-out", path, "2048")
    with pytest.raises(SignatureError, match="not an ECDSA key"):
        sign({}, payload_type=TYPE, key=path)
