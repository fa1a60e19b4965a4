"""Withdrawal of a patient: what is affected, and afterwards the erasure of old builds that hold them.

A withdrawal is a line in the register of the hospital (`ingest.withdrawals`), which changes the version of the files of
each site that had read the patient. So everything made of them is stale and is made again, without the patient. Exact
retraining is the only unlearning that is claimed: a model that saw the patient is replaced by one that never did, and
no weights are edited. A copy of a recording that is filed under another patient counts as that patient's, and stays.
"""

import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.builds import stored_builds
from ecg_pipeline.provenance.lease import hold
from ecg_pipeline.provenance.ledger import Kind
from ecg_pipeline.provenance.record import CUT, CheckOutcome, Record
from ecg_pipeline.provenance.trace import Trace

CHECK = "no_withdrawn_patients"
"""Blocking check of models and of what they are made of and tested on."""

CHECKED = (
    "waveform_store",
    "image_tokenizer",
    "statement_codes",
    "text_tokenizer",
    "text_negatives",
    "pretrained_checkpoint",
    "finetuned_model",
    "evaluation",
    "zero_shot",
)
"""Last parts of the keys of assets that have the check."""

TOMBSTONE = "withdrawn"
"""Stands where an identifier of a patient who withdrew was."""

_BUILD = re.compile(rf"[0-9a-f]{{{CUT}}}")


def enter_withdrawal(archive: Archive, found: Trace, *, withdrawal: str) -> list[tuple[str, str | None]]:
    """Enter a withdrawal and the outputs that it concerns in the ledger; return the newest outputs that it flags.

    withdrawal: its random id in the register. No identifier of the patient is entered.
    """
    outputs = {(one.asset, one.partition, one.record) for one in (*found.uses, *found.made_from) if one.is_newest}
    concerned = [{"asset": asset, "partition": partition, "record": record} for asset, partition, record in outputs]
    concerned.sort(key=lambda one: (one["asset"], one["partition"] or ""))
    archive.ledger.append((Kind.WITHDRAWN, {"withdrawal": withdrawal, "outputs": concerned}))
    flagged = sorted(
        {(asset, partition) for asset, partition in found.newest() if asset.split("/")[-1] in CHECKED},
        key=lambda place: (place[0], place[1] or ""),
    )
    for asset, partition in flagged:
        archive.note_failed_checks(asset, partition, [CheckOutcome(CHECK, passed=False, warns=False)])
    return flagged


def purge(archive: Archive, found: Trace, *, withdrawal: str) -> list[Record]:
    """Delete the builds that a trace found, and builds without a record; return the records of the former.

    The records stay, and the ledger says of each that its files were purged. Call it for old builds only.
    """
    purged = old_records(archive, found)
    for record in purged:
        with hold(archive.place(record.asset, record.partition)):
            facts = {"asset": record.asset, "partition": record.partition, "build": record.build}
            archive.ledger.append((Kind.PURGED, {**facts, "record": record.digest, "reason": withdrawal}))
            shutil.rmtree(archive.folder(record))
    recorded = {archive.folder(build.record) for build in stored_builds(archive)}
    for place in archive.places():
        with hold(place):
            for folder in place.iterdir():
                if folder.is_dir() and _BUILD.fullmatch(folder.name) and folder not in recorded:
                    shutil.rmtree(folder)
    return purged


def old_records(archive: Archive, found: Trace) -> list[Record]:
    """The records of the builds that a trace found and that are not the newest."""
    wanted = found.builds()
    return [
        build.record
        for build in stored_builds(archive)
        if (build.record.asset, build.partition, build.record.build) in wanted and not build.is_newest
    ]


def purged_builds(archive: Archive) -> dict[tuple[str, str | None, str], str]:
    """Asset, partition and build of everything that was purged, and why: the id of a withdrawal."""
    return {
        (entry.facts["asset"], entry.facts["partition"], entry.facts["build"]): entry.facts["reason"]
        for entry in archive.ledger.entries()
        if entry.kind == Kind.PURGED
    }


def erase_in_files(folders: Iterable[Path], words: Iterable[str], *, databases: Iterable[Path]) -> int:
    """Replace words in the files below some folders that are no databases, such as logs; return how many had them."""
    pattern = _any_of(words)
    skipped, changed = set(databases), 0
    for path in _files(folders):
        if path not in skipped and pattern.search(content := path.read_bytes()):
            path.write_bytes(pattern.sub(TOMBSTONE.encode(), content))
            changed += 1
    return changed


def files_with(folders: Iterable[Path], words: Iterable[str]) -> list[Path]:
    """Files below some folders in which one of the words stands, byte for byte."""
    pattern = _any_of(words)
    return [path for path in _files(folders) if pattern.search(path.read_bytes())]


def _any_of(words: Iterable[str]) -> re.Pattern[bytes]:
    """Pattern of any of some words; without a word, of nothing."""
    return re.compile("|".join(map(re.escape, sorted(words))).encode() or rb"(?!)")


def _files(folders: Iterable[Path]) -> Iterator[Path]:
    for folder in folders:
        yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.is_symlink())
