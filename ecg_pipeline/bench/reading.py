"""From MUSE exports to the waveform store, against bare parsing and against what a user would write."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xmltodict
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from ecg_pipeline.bench.compare import Row, compare
from ecg_pipeline.bench.exports import write_exports
from ecg_pipeline.records.drop_folder import DropFolder, list_files
from ecg_pipeline.records.pseudonyms import PseudonymKey
from ecg_pipeline.records.store import IngestRecipe, ingest_site

EXPORTS = 1024


def ingest() -> list[Row]:
    """Against parsing each file with lxml and decoding its base64, and doing nothing with it: the floor."""

    def floor(files: list[Path], out: Path) -> None:
        for path in files:
            for encoded in etree.fromstring(path.read_bytes()).iter("WaveFormData"):
                base64.b64decode(encoded.text)

    unit = f"of the floor's speed, {EXPORTS} exports of 140 KB, one process, processor time"
    return [_against("ingest", "lxml and base64 alone, nothing kept", floor, 0.7, unit)]


def ingest_peer() -> list[Row]:
    """Against a reader as published notebooks have it: xmltodict, base64, one .npy file an ECG."""

    def peer(files: list[Path], out: Path) -> None:
        for path in files:
            content = xmltodict.parse(path.read_bytes(), encoding="iso-8859-1")["RestingECG"]
            rhythm = next(waveform for waveform in content["Waveform"] if waveform["WaveformType"] == "Rhythm")
            leads = [
                np.frombuffer(base64.b64decode(lead["WaveFormData"]), "<i2") * float(lead["LeadAmplitudeUnitsPerBit"])
                for lead in rhythm["LeadData"]
            ]
            np.save(out / f"{path.stem}.npy", np.stack(leads).astype(np.float32))

    unit = f"times as fast, {EXPORTS} exports of 140 KB, one process, processor time"
    return [_against("ingest-peer", "an xmltodict reader that writes .npy files", peer, 4, unit)]


def _against(name: str, words: str, other: Callable[[list[Path], Path], None], target: float, unit: str) -> Row:
    with TemporaryDirectory() as folder:
        drop = DropFolder("bench", write_exports(Path(folder, "exports"), EXPORTS), "muse_xml", mrn_system="bench")
        files = [drop.file(name) for name in list_files(drop)["name"]]
        outs = iter(Path(folder, f"store_{number}") for number in range(100))

        def ours() -> None:
            ingest_site(drop, list_files(drop), IngestRecipe(), PseudonymKey(b"bench" * 8), next(outs))

        def theirs() -> None:
            out = next(outs)
            out.mkdir()
            other(files, out)

        return compare(name, words, ours, theirs, target, unit, clock=time.process_time)
