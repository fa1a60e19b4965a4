"""The register of patients who withdrew: a file beside the pseudonym key, outside the outputs, read at the door.

It shows no pseudonym: an entry is a digest of one that nobody without the site's key can compute. Files and label rows
of a patient in the register are not used, whenever they come.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.storage.files import locked, read_json, write_json

REGISTER = "withdrawals.json"
"""Name of the register in a study's home."""


def register_entry(key: PseudonymKey, pseudonym: str) -> str:
    """How a patient stands in the register: 64 hex digits that nobody without the key can compute."""
    return key.digest(f"withdrawn\0{pseudonym}")


@dataclass(frozen=True)
class Withdrawals:
    """The register as one site reads it.

    everyone: the entries of all patients. here: those of patients whom the site had read when they were entered, which
    are part of the version of its files: what was made of them is made again.
    """

    everyone: frozenset[str] = frozenset()
    here: frozenset[str] = frozenset()

    def entry_of(self, key: PseudonymKey, pseudonym: str | None) -> str | None:
        """The entry of a patient; None if they did not withdraw."""
        if not self.everyone or pseudonym is None:
            return None
        entry = register_entry(key, pseudonym)
        return entry if entry in self.everyone else None

    def entries_of(self, key: PseudonymKey, pseudonyms: Iterable[str | None]) -> frozenset[str]:
        """The entries of those patients who withdrew."""
        return frozenset(entry for one in pseudonyms if (entry := self.entry_of(key, one)))


NOBODY = Withdrawals()


@dataclass(frozen=True)
class Withdrawal:
    """One entry of the register. withdrawal: a random id. sites: those that had read the patient."""

    entry: str
    withdrawal: str
    sites: tuple[str, ...]
    at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


@dataclass(frozen=True)
class Register:
    """The register in a study's home; no file is an empty register."""

    home: Path

    @property
    def path(self) -> Path:
        """The file."""
        return self.home / REGISTER

    def withdrawals(self) -> tuple[Withdrawal, ...]:
        """All entries, in the order in which they were made."""
        if not self.path.exists():
            return ()
        entries = read_json(self.path)["withdrawals"]
        return tuple(Withdrawal(**{**entry, "sites": tuple(entry["sites"])}) for entry in entries)

    def of_site(self, site: str) -> Withdrawals:
        """The register as a site reads it."""
        entries = self.withdrawals()
        here = frozenset(one.entry for one in entries if site in one.sites)
        return Withdrawals(frozenset(one.entry for one in entries), here)

    def enter(self, key: PseudonymKey, pseudonym: str, *, sites: Collection[str]) -> Withdrawal:
        """Enter a patient, or add sites to the entry that there is already. sites: those that have read the patient."""
        entry = register_entry(key, pseudonym)
        with locked(self.path.with_name(f".{REGISTER}.lock")):
            entries = {one.entry: one for one in self.withdrawals()}
            known = entries.get(entry) or Withdrawal(entry, uuid4().hex, ())
            made = replace(known, sites=tuple(sorted({*known.sites, *sites})))
            write_json(self.path, {"withdrawals": [asdict(one) for one in {**entries, entry: made}.values()]})
        return made
