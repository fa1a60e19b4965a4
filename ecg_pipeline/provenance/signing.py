"""Signatures with a key of one's own, offline: ECDSA over DSSE envelopes (Dead Simple Signing Envelope, v1.0.2).

A key is made with `openssl ecparam -name prime256v1 -genkey -noout -out private.pem`, its public half with
`openssl ec -in private.pem -pubout -out public.pem`. No service is asked.
"""

import base64
import json
from pathlib import Path
from typing import Any

from ecg_pipeline.storage.files import sha256_bytes

Envelope = dict[str, Any]


class SignatureError(ValueError):
    """A key cannot be used, or a signature is not that of the content."""


def sign(payload: Any, *, payload_type: str, key: Path, password: bytes | None = None) -> Envelope:
    """A DSSE envelope around a JSON payload, signed with the ECDSA private key in a PEM file."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        private = load_pem_private_key(key.read_bytes(), password)
    except (ValueError, TypeError) as error:
        raise SignatureError(f"{key}: not a private key in PEM, or its password is wrong: {error}") from None
    if not isinstance(private, EllipticCurvePrivateKey):
        raise SignatureError(f"{key}: not an ECDSA key; make one with openssl ecparam -name prime256v1 -genkey")
    body = json.dumps(payload, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    signature = private.sign(_signed_bytes(payload_type, body), ECDSA(hashes.SHA256()))
    signed = {"keyid": _key_id(private.public_key()), "sig": base64.b64encode(signature).decode()}
    return {"payloadType": payload_type, "payload": base64.b64encode(body).decode(), "signatures": [signed]}


def verified_payload(envelope: Envelope, *, payload_type: str, public_key: Path) -> Any:
    """The payload of an envelope that was signed with the private half of a key. A SignatureError if it was not."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        public = load_pem_public_key(public_key.read_bytes())
    except ValueError as error:
        raise SignatureError(f"{public_key}: not a public key in PEM: {error}") from None
    if not isinstance(public, EllipticCurvePublicKey):
        raise SignatureError(f"{public_key}: not an ECDSA key")
    try:
        body = base64.b64decode(envelope["payload"], validate=True)
        signatures = [base64.b64decode(one["sig"], validate=True) for one in envelope["signatures"]]
        stated = envelope["payloadType"]
    except (KeyError, TypeError, ValueError):
        raise SignatureError("not a DSSE envelope") from None
    if stated != payload_type:
        raise SignatureError(f"the envelope holds {stated}, not {payload_type}")
    for signature in signatures:
        try:
            public.verify(signature, _signed_bytes(payload_type, body), ECDSA(hashes.SHA256()))
        except InvalidSignature:
            continue
        return json.loads(body)
    raise SignatureError(f"no signature of the envelope is by the key in {public_key}")


def _signed_bytes(payload_type: str, body: bytes) -> bytes:
    """DSSE's pre-authentication encoding, which is what the signature covers."""
    return b"DSSEv1 %d %s %d %s" % (len(payload_type), payload_type.encode(), len(body), body)


def _key_id(public: Any) -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return sha256_bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
