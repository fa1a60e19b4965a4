"""The how-to pages as programs: their files, edits and commands, in the order of the page."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs" / "howto"

_BLOCK = re.compile(r"^```(\w*)(?: file=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def follow(page: str, tree: Path, environment: dict[str, str]) -> str:
    """Do what a page says in the folder `tree`; return what its commands printed."""
    printed, exports = [], ""
    for language, file, content in blocks(DOCS / page):
        if language == "bash":
            printed.append(run(exports + content, tree, environment))
            # One terminal: what a block exports, the next ones have.
            exports += "".join(f"{line}\n" for line in content.splitlines() if line.startswith("export "))
        elif language == "diff":
            edit(tree / file, content)
        elif file:
            (tree / file).parent.mkdir(parents=True, exist_ok=True)
            (tree / file).write_text(content, encoding="utf-8")
    return "".join(printed)


def run(commands: str, tree: Path, environment: dict[str, str]) -> str:
    """Run bash commands in a tree, where `ecg-pipeline` is that of the tree."""
    tool = f'ecg-pipeline() {{ {sys.executable} -m ecg_pipeline.cli "$@"; }}\n'
    done = subprocess.run(
        ["bash", "-euc", tool + commands],
        cwd=tree,
        env=os.environ | {"PYTHONPATH": str(tree), "COLUMNS": "200"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def edit(file: Path, diff: str) -> None:
    """Apply the lines of a diff, whose context and removed lines occur exactly once in the file."""
    lines = diff.splitlines(keepends=True)
    before = "".join(line[1:] for line in lines if line[0] in " -")
    after = "".join(line[1:] for line in lines if line[0] in " +")
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{file} holds {content.count(before)} times\n{before}"
    file.write_text(content.replace(before, after), encoding="utf-8")


def blocks(page: Path) -> Iterator[tuple[str, str, str]]:
    """The fenced blocks of a page: language, file that it names or nothing, and content."""
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        language, file, content = block.groups()
        yield language, file or "", content
