"""Keyed pseudonyms, which are stored in place of patients' identifiers; names and birth dates are not stored at all."""

import hmac
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

MAX_STORED_AGE = 89.0
MASKED_ID = re.compile(
    r"^(?:[Xx*#?.\-\s]*|0+|9+|MASKED|UNKNOWN|UNIDENTIFIED|ANONYMOUS|ANON|NONE|N/?A|NULL|NO ?ID)$", re.I
)


@dataclass(frozen=True)
class PseudonymKey:
    """The secret that turns identifiers into pseudonyms (HMAC-SHA-256). It is never printed."""

    secret: bytes = field(repr=False)

    def pseudonym(self, mrn_system: str, patient_id: str) -> str:
        """32 hex digits for one patient. mrn_system: name of the system of identifiers that `patient_id` is from."""
        return self.digest(f"patient\0{mrn_system}\0{patient_id.strip()}")[:32]

    def digest(self, text: str) -> str:
        """64 hex digits (HMAC-SHA-256) that nobody without the key can compute."""
        # Names of files need not be UTF-8: other bytes are digested as they are.
        return hmac.digest(self.secret, text.encode(errors="surrogateescape"), "sha256").hex()


def load_key(home: Path) -> PseudonymKey:
    """The hospital's key, from `ECG_PSEUDONYM_KEY` or the file `pseudonym.key` in `home`."""
    path = home / "pseudonym.key"
    text = os.environ.get("ECG_PSEUDONYM_KEY") or (path.read_text().strip() if path.is_file() else "")
    if len(text) < 16:
        raise ValueError(
            f"no pseudonym key of 16 characters or more: set ECG_PSEUDONYM_KEY, or write one to {path} with\n"
            '    python -c "import secrets; print(secrets.token_hex(32))" > pseudonym.key\n'
            "and keep it: without it new ECGs of a patient cannot be matched to the old ones"
        )
    return PseudonymKey(text.encode())


def fixed_key(kind: str) -> PseudonymKey:
    """A public key for public and synthetic patients: the same pseudonyms everywhere, so the same split."""
    return PseudonymKey(f"ecg_pipeline {kind} patients".encode())


def known_id(patient_id: str | None) -> str | None:
    """The identifier, or None where it is missing or masked."""
    stripped = (patient_id or "").strip()
    return None if MASKED_ID.match(stripped) else stripped


def storable_age(age_years: float | None) -> float | None:
    """The age to store: over 89 becomes 90; None if it is missing or impossible."""
    if age_years is None or not 0 <= age_years < 200:
        return None
    return 90.0 if age_years > MAX_STORED_AGE else age_years
