"""Faulty files: for each reason of `ingest.rejects`, files as they occur in real drop folders.

Each fault takes a good ECG and a path, and writes there a file that is rejected for exactly that reason.
"""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.synthetic.muse import MuseEcg, muse_xml
from ecg_pipeline.synthetic.wfdb_files import write_wfdb

MuseFault = Callable[[MuseEcg, Path], object]
WfdbFault = Callable[[NDArray[np.int16], Path], object]

TOO_LARGE_BYTES = 32 * 2**20 + 4096
WFDB_SAMPLING_HZ = 500

_DOCTYPE = '<!DOCTYPE RestingECG SYSTEM "restecg.dtd">'
_LAUGHS = "".join(f'<!ENTITY ha{n} "{f"&ha{n - 1};" * 10}">' for n in range(1, 10))
_ENTITY_BOMB = f'<!DOCTYPE RestingECG [<!ENTITY ha0 "ha">{_LAUGHS}]>'
_EXTERNAL_ENTITY = '<!DOCTYPE RestingECG [<!ENTITY secret SYSTEM "file:///etc/hostname">]>'


def _content(content: bytes) -> MuseFault:
    """Fault: the file has this content instead."""
    return lambda ecg, path: path.write_bytes(content)


def _changed_ecg(change: Callable[[MuseEcg], MuseEcg]) -> MuseFault:
    """The ECG is changed before it is written, so that lengths and checksums agree with it."""
    return lambda ecg, path: path.write_bytes(muse_xml(change(ecg)))


def _changed_text(change: Callable[[str], str]) -> MuseFault:
    """Fault: the text of the finished file is changed."""
    return lambda ecg, path: path.write_bytes(change(muse_xml(ecg).decode("iso-8859-1")).encode("iso-8859-1"))


def _changed_rhythm(pattern: str, by: str) -> MuseFault:
    """The first match of a pattern within the rhythm strip is replaced."""

    def change(text: str) -> str:
        at = text.index("<WaveformType>Rhythm")
        return text[:at] + re.sub(pattern, by, text[at:], count=1)

    return _changed_text(change)


def _of_leads(count: int) -> MuseFault:
    return _changed_ecg(
        lambda ecg: replace(ecg, leads=ecg.leads[:count], median=ecg.median[:count], rhythm=ecg.rhythm[:count])
    )


def _of_site(name: str) -> MuseFault:
    return _changed_ecg(lambda ecg: replace(ecg, exporter=replace(ecg.exporter, site_name=name)))


def _of_seconds(seconds: int) -> MuseFault:
    return _changed_ecg(lambda ecg: replace(ecg, rhythm=ecg.rhythm[:, : seconds * ecg.sampling_hz]))


def _at_level(count: int) -> MuseFault:
    return _changed_ecg(lambda ecg: replace(ecg, rhythm=np.full_like(ecg.rhythm, count)))


def _without(lead: int, samples: slice) -> MuseFault:
    """Samples of a lead hold the value of a sample that was not recorded."""

    def change(ecg: MuseEcg) -> MuseEcg:
        return replace(ecg, rhythm=_with_samples(ecg.rhythm, lead, samples, -32768))

    return _changed_ecg(change)


def _with_statement(statement: str) -> MuseFault:
    """A second export of the same ECG, edited since."""
    return _changed_ecg(lambda ecg: replace(ecg, statements=(*ecg.statements, statement)))


def _with_samples(counts: NDArray[np.int16], lead: int, samples: slice, value: int) -> NDArray[np.int16]:
    changed = counts.copy()
    changed[lead, samples] = value
    return changed


def _sparse(ecg: MuseEcg, path: Path) -> None:
    """A large file that takes no space on the disk."""
    with path.open("wb") as file:
        file.truncate(TOO_LARGE_BYTES)


def _linked(name: str) -> MuseFault:
    """A link to an ECG of the next hospital, whose folder is beside this one."""

    def link(ecg: MuseEcg, path: Path) -> None:
        neighbour = "mount_sinai" if path.parent.name == "beth_israel" else "beth_israel"
        path.symlink_to(Path("..") / neighbour / name)

    return link


MUSE_FAULTS: tuple[tuple[RejectReason, MuseFault], ...] = (
    (RejectReason.EMPTY_FILE, _content(b"")),
    (RejectReason.EMPTY_FILE, _content(b"\n   \n")),
    (RejectReason.TOO_LARGE, _sparse),
    (RejectReason.OUTSIDE_FOLDER, _linked("ecg-0001.xml")),
    (RejectReason.OUTSIDE_FOLDER, _linked("ecg-0002.xml")),
    (RejectReason.UNREADABLE, _changed_text(lambda text: text[: len(text) // 2])),
    (RejectReason.UNREADABLE, _content(b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00")),
    (RejectReason.FORBIDDEN_XML, _changed_text(lambda text: text.replace(_DOCTYPE, _ENTITY_BOMB))),
    (RejectReason.FORBIDDEN_XML, _changed_text(lambda text: text.replace(_DOCTYPE, _EXTERNAL_ENTITY))),
    (RejectReason.NOT_AN_ECG, _content(b'<?xml version="1.0"?>\n<AnnotatedECG xmlns="urn:hl7-org:v3"/>\n')),
    (RejectReason.NOT_AN_ECG, _content(b'<?xml version="1.0"?>\n<StressECG><MuseInfo/></StressECG>\n')),
    (RejectReason.OTHER_SITE, _of_site("TEST HOSPITAL")),
    (RejectReason.OTHER_SITE, _of_site("")),
    (RejectReason.NO_RHYTHM_WAVEFORM, _changed_text(lambda text: text.replace(">Rhythm<", ">Continuous<"))),
    (RejectReason.NO_RHYTHM_WAVEFORM, _changed_text(lambda text: re.sub(r"(?s)\s*<Waveform>.*</Waveform>", "", text))),
    (RejectReason.MISSING_LEADS, _of_leads(7)),
    (RejectReason.MISSING_LEADS, _of_leads(3)),
    (RejectReason.BAD_ENCODING, _changed_rhythm(r"<WaveFormData>\n..", "<WaveFormData>\n%%")),
    (RejectReason.BAD_ENCODING, _changed_rhythm(r".\n(\s*</WaveFormData>)", r"\n\1")),
    (RejectReason.WRONG_SAMPLE_COUNT, _changed_rhythm(r"CountTotal>\d+</LeadS", "CountTotal>4999</LeadS")),
    (RejectReason.WRONG_SAMPLE_COUNT, _changed_rhythm(r"<WaveFormData>\n.{68}", "<WaveFormData>\n" + "AAAA" * 16)),
    (RejectReason.CHECKSUM_MISMATCH, _changed_rhythm(r"CRC32>-?\d+<", "CRC32>1<")),
    (RejectReason.CHECKSUM_MISMATCH, _changed_rhythm(r"<WaveFormData>\n.{68}", "<WaveFormData>\n" + "AAAA" * 17)),
    (RejectReason.BAD_CALIBRATION, _changed_rhythm(r"UnitsPerBit>[\d.]+<", "UnitsPerBit>0<")),
    (RejectReason.BAD_CALIBRATION, _changed_rhythm(r"Units>MICROVOLTS<", "Units>MMHG<")),
    (RejectReason.NOT_FINITE, _without(0, slice(100, 101))),
    (RejectReason.NOT_FINITE, _without(5, slice(400, None))),
    (RejectReason.TOO_SHORT, _of_seconds(2)),
    (RejectReason.TOO_SHORT, _of_seconds(4)),
    (RejectReason.FLAT_SIGNAL, _at_level(0)),
    (RejectReason.FLAT_SIGNAL, _at_level(-7)),
    (RejectReason.DUPLICATE_WAVEFORM, _with_statement("Reviewed")),
    (RejectReason.DUPLICATE_WAVEFORM, _with_statement("When compared with ECG of the same day, no change")),
)
"""Faulty files of a MUSE drop folder. Only one is too large, because copies of it would not be sparse."""


def _without_signal(counts: NDArray[np.int16], header: Path) -> None:
    write_wfdb(header, counts, WFDB_SAMPLING_HZ)
    header.with_suffix(".dat").unlink()


def _altered_signal(counts: NDArray[np.int16], header: Path) -> None:
    """A sample has changed since the checksum was taken."""
    write_wfdb(header, counts, WFDB_SAMPLING_HZ)
    signal = header.with_suffix(".dat")
    content = bytearray(signal.read_bytes())
    content[0] ^= 1
    signal.write_bytes(content)


def _lost_samples(counts: NDArray[np.int16], header: Path) -> None:
    write_wfdb(header, _with_samples(counts, 3, slice(1000, 1400), -32768), WFDB_SAMPLING_HZ)


def _empty_header(counts: NDArray[np.int16], header: Path) -> None:
    write_wfdb(header, counts, WFDB_SAMPLING_HZ)
    header.write_bytes(b"")


WFDB_FAULTS: tuple[tuple[RejectReason, WfdbFault], ...] = 2 * (
    (RejectReason.MISSING_SIGNAL_FILE, _without_signal),
    (RejectReason.CHECKSUM_MISMATCH, _altered_signal),
    (RejectReason.NOT_FINITE, _lost_samples),
    (RejectReason.EMPTY_FILE, _empty_header),
)
"""Faulty files of a folder of WFDB records."""
