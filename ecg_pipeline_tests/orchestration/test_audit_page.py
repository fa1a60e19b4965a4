"""The page for auditors: its commands are run in order, and what they print is compared with what it says.

One acceptance test runs them on the small study, whose numbers are others, and compares headings. The other makes the
demo, of which the page tells, and compares every line; with `ECG_AUDIT_PAGE=write` it writes them to the page.
"""

import getpass
import os
import re
import shutil
from pathlib import Path

import pytest

from ecg_pipeline.provenance.environment import git_state
from ecg_pipeline_tests.howto import DOCS, blocks, run

REPOSITORY = Path(__file__).parents[2]
PAGE = DOCS.parent / "audit.md"
WIDTH = "110"

SHAPES = (
    (r"\b\d{4}-\d\d-\d\dT[\d:.]+(?:\+00:00|Z)?", "<time>"),
    (r"\bm-[0-9a-f]{32}\b", "<model>"),
    (r"\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b", "<run>"),
    (r"\b[0-9a-f]{64}\b|\b[0-9a-f]{40}\b|\b[0-9a-f]{32}\b|\b[0-9a-f]{16}\b", "<digest>"),
    (r"\b[0-9a-f]{8} (newest|old)\b", r"<digest> \1"),
    (r"[\d,]+ bytes?|(?<=the record states )[\d,]+", "<bytes>"),
    (r"(size_bytes|peak_memory_bytes): \d+ → \d+", r"\1: <bytes>"),
    (r"seconds: [\d.]+ → [\d.]+", "seconds: <seconds>"),
    (r"\b[\d.]+ (?:s|min|h)\b", "<seconds>"),
    (r"(?<=Python )[\d.]+", "<version>"),
    (r"\d+ packages", "<number> packages"),
    (r"(?<=machine )( +)\w+", r"\1<machine>"),
    (r" with changes that are not committed", ""),
    (r"(?<= by )\S+$", "<user>"),
    (r"[━─]+", "━"),
    (r" +", " "),
)
"""What differs from one making to another, by its shape."""


def shaped(text):
    """The lines of an output, with what differs from one making to another replaced by its shape."""
    for pattern, shape in SHAPES:
        text = re.sub(pattern, shape, text, flags=re.MULTILINE)
    return [line.rstrip() for line in text.strip("\n").splitlines()]


def headings(text):
    """What does not depend on the study: headings, names of facts, and headings of tables."""
    found = set()
    for line in text.splitlines():
        if line.startswith("┃"):
            found |= {cell.strip() for cell in line.strip("┃").split("┃")}
        elif label := re.match(r"  ([a-z ]{3,12}[a-z]) {2,}\S", line):
            found.add(label[1])
        elif re.match(r"[A-Z][A-Za-z ]+(?:$|  \(|:)", line):
            found.add(re.split(r"  \(|:|\d", line)[0].strip())
    return found


def steps():
    """The commands of the page, each with what it says that they print."""
    page = [(language, file, content) for language, file, content in blocks(PAGE) if language or file]
    for (language, file, content), (following, _, printed) in zip(page, [*page[1:], ("", "", "")], strict=True):
        if language == "bash":
            yield content, printed if following == "text" else ""
        elif file:
            yield f"cat > {file} <<'END'\n{content}END\n", ""


def follow(folder, commands, **environment):
    """Run commands of the page in a folder in which `ecg_home/demo` is the home."""
    settings = {
        "PYTHONPATH": str(REPOSITORY),
        "COLUMNS": WIDTH,
        "ECG_HOME": str(folder / "ecg_home"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    return run(commands, folder, settings | environment)


def test_every_output_on_the_page_belongs_to_a_command():
    languages = [language for language, _, _ in blocks(PAGE) if language]
    assert languages.count("bash") > 10
    before = ["", *languages]
    assert {one for one, after in zip(before, languages, strict=False) if after == "text"} == {"bash"}


def test_the_page_names_every_command_on_provenance():
    from ecg_pipeline.cli import PROVENANCE, app

    text = PAGE.read_text(encoding="utf-8")
    for command in app.registered_commands:
        if command.rich_help_panel == PROVENANCE:
            name = command.name or getattr(command.callback, "__name__", "")
            assert f"ecg-pipeline {name}" in text, name


@pytest.mark.acceptance
def test_commands_of_the_page_print_its_headings_for_another_study(runner, small_study, tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shutil.copytree(runner.workspace.home, tmp_path / "ecg_home" / "demo", symlinks=True)
    study = tmp_path / "demo.yaml"
    study.write_text(small_study.read_text().replace("name: small", "name: demo"))
    made = runner.workspace.archive.require("hcm/small_cnn/finetuned_model", "1")
    is_same_code = (made.git_commit, made.git_dirty) == (git_state()[0], False)
    for commands, printed in steps():
        if "reproduce" in commands and not is_same_code:
            continue  # It says that the code is not committed, or was changed meanwhile.
        here = commands.replace("extends: demo", f"extends: {study}")
        said = follow(tmp_path, here, ECG_STUDY=str(study))
        assert headings(printed) <= headings(said), commands
        assert bool(printed.strip()) == bool(said.strip()), commands


@pytest.mark.acceptance
def test_the_printed_answers_are_those_of_the_page(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("ECG_STUDY", "demo")
    if made := os.environ.get("ECG_DEMO_HOME"):
        shutil.copytree(made, tmp_path / "ecg_home" / "demo", symlinks=True)
    else:
        follow(tmp_path, "ecg-pipeline demo")
    is_written = os.environ.get("ECG_AUDIT_PAGE") == "write"
    page = PAGE.read_text(encoding="utf-8")
    for commands, printed in steps():
        said = follow(tmp_path, commands).replace(f"{tmp_path}/", "")
        if is_written and printed:
            before = f"{commands}```\n\n```text\n"
            assert page.count(before + printed) == 1
            lines = "".join(f"{line.rstrip()}\n" for line in said.strip("\n").splitlines())
            page = page.replace(before + printed, before + lines)
        elif "reproduce" not in commands or not git_state()[1]:
            assert shaped(said) == shaped(printed), commands
    if is_written:
        PAGE.write_text(page, encoding="utf-8")


def test_shapes_hide_what_differs_and_nothing_else():
    assert shaped("made 2026-11-27T02:15:08.269+00:00, in 1.0 s, by root") == ["made <time>, in <seconds>, by <user>"]
    assert shaped("hcm/cohort cohort.parquet train: 30, 19, 16") == ["hcm/cohort cohort.parquet train: 30, 19, 16"]
    assert shaped(f"record {'a' * 64}") != shaped(f"record {'a' * 63}")
    assert getpass.getuser() not in " ".join(shaped(f"made now, by {getpass.getuser()}"))
