"""From MUSE exports to the waveform store, against bare parsing and against what a user would write."""

import base64
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import xmltodict
from lxml import etree  # pyright: ignore[reportAttributeAccessIssue]

from ecg_pipeline.bench.compare import Row, compare, within
from ecg_pipeline.bench.exports import write_exports
from ecg_pipeline.bench.mutations import Task, survey
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import PseudonymKey
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.synthetic.wfdb_files import write_wfdb

EXPORTS = 1024
DAMAGED_FORMATS = ("muse_xml", "cinc", "ptb_xl")
DAMAGED = 3000
"""Files of each format."""
ORIGINALS = 6


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


def damaged() -> list[Row]:
    """Reading files of each format after something in them was changed: the worst that one takes."""
    with TemporaryDirectory() as name:
        tasks = _damaged_files(Path(name))
        found = survey(tasks)
    if failures := [failure for each in found for failure in each.failures]:
        raise RuntimeError("\n".join(failures))
    files = f"at most, the worst of {sum(task.files for task in tasks):,} damaged files, a format each"
    seconds, memory = [each.worst_s for each in found], [each.worst_mb for each in found]
    return [
        within("damaged-time", against="a limit", measured=[max(seconds)], limit=2, unit=f"seconds {files}"),
        within("damaged-memory", against="a limit", measured=[max(memory)], limit=200, unit=f"MB {files}"),
    ]


def _damaged_files(folder: Path) -> list[Task]:
    """Exports and WFDB records, in the two layouts that need nothing but headers or a table beside them."""
    write_exports(folder / "muse_xml", ORIGINALS)
    columns, rng = "filename_hr,patient_id,scp_codes", np.random.default_rng(0)
    for form in ("cinc", "ptb_xl"):
        for number in range(ORIGINALS):
            counts = rng.integers(-2000, 2000, (12, 5000)).astype(np.int16)
            (folder / form / "records").mkdir(parents=True, exist_ok=True)
            write_wfdb(folder / form / "records" / f"{number}.hea", counts, 500)
    rows = [f"records/{number},{number},{{}}" for number in range(ORIGINALS)]
    (folder / "ptb_xl" / "ptbxl_database.csv").write_text("\n".join([columns, *rows]))
    tasks = []
    for form in DAMAGED_FORMATS:
        suffix = "*.xml" if form == "muse_xml" else "*.hea"
        names = sorted(path.relative_to(folder / form).as_posix() for path in (folder / form).rglob(suffix))
        work = folder / "work" / form
        work.mkdir(parents=True)
        tasks.append(Task(form, str(folder / form), names, str(work), seed=0, files=DAMAGED))
    return tasks


def _against(name: str, words: str, other: Callable[[list[Path], Path], None], target: float, unit: str) -> Row:
    with TemporaryDirectory() as folder:
        drop = DropFolder("bench", write_exports(Path(folder, "exports"), EXPORTS), "muse_xml", mrn_system="bench")
        files = [drop.file(name) for name in list_files(drop)["name"]]
        outs = iter(Path(folder, f"store_{number}") for number in range(100))

        def ours() -> None:
            key = PseudonymKey(b"bench" * 8)
            ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=key, out=next(outs))

        def theirs() -> None:
            out = next(outs)
            out.mkdir()
            other(files, out)

        return compare(name, against=words, ours=ours, theirs=theirs, target=target, unit=unit, clock=time.process_time)
