"""The commands on provenance: the same answers without databases in a moved home, and no identity in what they do."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from typer.testing import CliRunner

from ecg_pipeline.cli import app
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.provenance.export.formats import FOLDERS, FORMATS, SIGNED
from ecg_pipeline.synthetic.hospital import read_planted
from ecg_pipeline_tests.orchestration.copies import with_changes
from ecg_pipeline_tests.orchestration.test_private_patients import databases, dump, files_below, table_text
from ecg_pipeline_tests.orchestration.test_runner import words_in

pytestmark = pytest.mark.acceptance  # each makes and remakes outputs of a copied home: minutes

REPOSITORY = Path(__file__).parents[2]
MODEL, OTHER = "hcm/small_cnn/finetuned_model@1", "low_lvef/small_cnn/finetuned_model@1"


def private_key(folder):
    path = folder / "private.pem"
    key = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


def export_commands(out, key):
    """By format the command that exports the model."""
    return {
        form: ["export", MODEL, "--format", form, "--out", str(out / form if form in FOLDERS else out / f"{form}.out")]
        + (["--key", str(key)] if form == SIGNED else [])
        for form in FORMATS
    }


def invoke(*arguments):
    """What a command prints. It may end with status 0 alone."""
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == 0, (arguments, done.output, done.exception)
    return done.stdout


def answers(home, folder, *, patient, studies, key):
    """What every command answers of a home, without what differs by the time and by the place of the home."""
    folder.mkdir()
    at = ("--home", str(home))
    commands = {
        "audit": ["audit", MODEL, "--json", *at],
        "report": ["audit", "benchmark_report", "--json", *at],
        "trace": ["trace", "--pseudonym", patient, "--json", *at],
        "diff": ["diff", MODEL, OTHER, "--json", *at],
        "verify": ["verify", "--json", *at],
        "verify one": ["verify", MODEL, "--quick", "--json", *at],
        "prune": ["prune", "--json", *at],
        "plan": ["plan", str(studies[0]), "--json"],
        "plan a change": ["plan", str(studies[1]), "--json"],
        "hold": ["hold", MODEL, "--json", *at],
    }
    found = {name: json.loads(invoke(*arguments)) for name, arguments in commands.items()}
    invoke("hold", MODEL, "--release", *at)
    del found["hold"][0]["since"], found["plan"]["home"], found["plan a change"]["home"]
    invoke("checkpoint", "--key", str(key), "--out", str(folder / "checkpoint.json"), *at)
    for form, arguments in export_commands(folder / "exports", key).items():
        invoke(*arguments, *at)
        assert form
    for path in files_below(folder):
        found[str(path.relative_to(folder))] = path.read_text(encoding="utf-8")
    found["checkpoint.json"] = payload(found["checkpoint.json"])
    del found["checkpoint.json"]["signed_at"]
    for name in ("provenance.intoto.json", "model.sig"):
        found[name] = payload(found.pop(f"exports/{SIGNED}/{name}"))
    found["page"] = invoke("audit", MODEL, "--html", str(folder / "audit.html"), *at) and (
        folder / "audit.html"
    ).read_text(encoding="utf-8")
    return found


def payload(text):
    """What an envelope holds, whose signature is another one each time."""
    content = json.loads(text)
    return json.loads(base64.b64decode(content.get("dsseEnvelope", content)["payload"]))


def test_answers_are_the_same_without_databases_in_a_moved_home(runner, small_study, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("ECG_STUDY", str(small_study))
    studies, key = (small_study, with_changes(small_study, tmp_path, saliency="{ecgs: 3}")), private_key(tmp_path)
    archive = runner.workspace.archive
    store = WaveformStore(archive.folder(archive.require("waveform_store", "mount_sinai")))
    patient = store.ecgs()["patient"][0]
    home = tmp_path / "first" / "small"
    shutil.copytree(runner.workspace.home, home, symlinks=True)
    monkeypatch.setenv("ECG_HOME", str(home.parent))
    before = answers(home, tmp_path / "before", patient=patient, studies=studies, key=key)
    assert before["verify"]["findings"] == []
    assert before["trace"]["uses"]
    assert before["plan"]["runs"] == []
    assert len(before["plan a change"]["runs"]) == 3
    moved = tmp_path / "elsewhere" / "small"
    moved.parent.mkdir()
    home.rename(moved)
    for databases_of in ("dagster", "mlflow"):
        shutil.rmtree(moved / databases_of)
    monkeypatch.setenv("ECG_HOME", str(moved.parent))
    after = answers(moved, tmp_path / "after", patient=patient, studies=studies, key=key)
    assert list(after) == list(before)
    for name, answer in before.items():
        assert after[name] == answer, name
    assert not (moved / "dagster").exists()


class Watch(threading.Thread):
    """Reads command lines and environments of this process's children, as any user may, while a block runs."""

    def __init__(self):
        super().__init__(daemon=True)
        self.seen = set[str]()
        self.over = threading.Event()

    def run(self):
        this = psutil.Process()
        while not self.over.wait(0.02):
            for child in this.children(recursive=True):
                with suppress(psutil.Error, OSError):
                    self.seen |= {*child.cmdline(), *(f"{name}={value}" for name, value in child.environ().items())}

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *error):
        self.over.set()
        self.join()


def test_no_identity_is_in_what_the_commands_print_write_or_pass_on(runner, small_study, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    home, person, work = tmp_path / "homes" / "small", tmp_path / "person", tmp_path / "work"
    shutil.copytree(runner.workspace.home, home, symlinks=True)
    person.mkdir()
    work.mkdir()
    identities = [word.encode() for word in read_planted(home / "hospital_system").identities]
    mrn = known_mrn(runner, identities)
    key = private_key(tmp_path)
    environment = os.environ | {
        "ECG_HOME": str(home.parent),
        "ECG_STUDY": str(small_study),
        "PYTHONPATH": str(REPOSITORY),
        "HOME": str(person),
        "HISTFILE": str(person / "history"),
        "XDG_CACHE_HOME": str(person / "cache"),
        "COLUMNS": "200",
    }
    commands = [
        (["audit", MODEL], 0),
        (["audit", MODEL, "--html", str(work / "audit.html")], 0),
        (["trace", "--patient"], 0),
        (["trace", "--patient", "--out", str(work / "held"), "--json"], 0),
        (["trace", "--patient", "--site", "nowhere"], 2),
        (["trace", "--file", str(home / "hospital_system" / "mount_sinai" / "ecg-0001.xml")], 0),
        (["diff", MODEL, OTHER], 0),
        (["verify"], 0),
        (["checkpoint", "--key", str(key), "--out", str(work / "checkpoint.json")], 0),
        *((arguments, 0) for arguments in export_commands(work, key).values()),
        (["hold", MODEL], 0),
        (["prune"], 0),
        (["withdraw", "--patient", "--erase"], 2),
        (["withdraw", "--patient"], 0),
        (["withdraw", "--patient", "--erase"], 2),
        (["plan"], 0),
    ]
    # A shell that keeps a history, as that of a person at a terminal does.
    shell = 'set -o history; history -r /dev/null; "$0" -m ecg_pipeline.cli "$@"; status=$?; history -a; exit $status'
    said = b""
    with Watch() as watch:
        for arguments, status in commands:
            done = subprocess.run(
                ["bash", "-c", shell, sys.executable, *arguments],
                input=mrn + b"\n" if "--patient" in arguments else b"",
                cwd=work,
                env=environment,
                capture_output=True,
            )
            assert done.returncode == status, (arguments, done.stdout, done.stderr)
            said += done.stdout + done.stderr
    assert any("withdraw" in word for word in watch.seen)
    assert words_in(identities, said) == []
    assert words_in(identities, "\n".join(sorted(watch.seen)).encode()) == []
    written = [path for path in files_below(tmp_path) if home / "hospital_system" not in path.parents]
    assert len([path for path in written if path.is_relative_to(work / "held")]) > 10
    contents = {path: path.read_bytes() for path in written}
    contents |= {path / "as text": table_text(path) for path in written if path.suffix == ".parquet"}
    contents |= {path / "as text": dump(path) for path in databases(home) if path in contents}
    found = {str(path): words for path, content in contents.items() if (words := words_in(identities, content))}
    assert found == {}
    names = "\n".join(str(path.relative_to(tmp_path)) for path in written)
    assert words_in(identities, names.encode()) == []


def known_mrn(runner, identities):
    """A patient number of which the stores hold ECGs."""
    archive = runner.workspace.archive
    store = WaveformStore(archive.folder(archive.require("waveform_store", "mount_sinai")))
    stored, key = set(store.ecgs()["patient"]), fixed_key("synthetic")
    numbers = [word for word in identities if word.isdigit() and len(word) == 8]
    return next(one for one in numbers if key.pseudonym("hospital_system", one.decode()) in stored)
