"""A home that a test may change: a copy of one in which everything was made."""

import os
import shutil
from pathlib import Path

from ecg_pipeline_tests.orchestration.conftest import open_runner


def copied_runner(runner, study: Path, folder: Path, monkeypatch):
    """A runner of a study file of the same name, in a copy of another runner's home below `folder`.

    Files of outputs are linked, as none is ever changed in place; the ledger, which grows, and Dagster's databases are
    copied. MLflow begins anew, because its experiment knows the place of the home.
    """
    home = folder / runner.workspace.home.name

    def skip(where: str, names: list[str]) -> list[str]:
        return ["mlflow", "dagster", "provenance"] if Path(where) == runner.workspace.home else []

    shutil.copytree(runner.workspace.home, home, ignore=skip, copy_function=os.link)
    for copied in ("dagster", "provenance"):
        shutil.copytree(runner.workspace.home / copied, home / copied)
    monkeypatch.setenv("ECG_HOME", str(folder))
    # MLflow sets it to the store that a process used before.
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return open_runner(study)


def with_changes(study: Path, folder: Path, **changes: str) -> Path:
    """A study file beside another: `extends` it, with the given sections as YAML text."""
    path = folder / f"changed_{'_'.join(changes)}.yaml"
    lines = [f"extends: {study}", *(f"{section}: {text}" for section, text in changes.items())]
    path.write_text("\n".join(lines) + "\n")
    return path
