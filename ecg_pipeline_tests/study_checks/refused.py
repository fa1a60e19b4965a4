"""What a study file is refused for."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from ecg_pipeline.study import StudyError, load_study

Case = tuple[str, list[str]]
"""The text of a study file, and its errors, each from the line on."""


def refused(text: str, folder: Path) -> list[str]:
    """The errors of a study file, each from the line on; all of them are of that file."""
    path = folder / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as error:
        load_study(path)
    lines = str(error.value).split("\n")
    assert all(line.startswith(f"{path}:") for line in lines), lines
    return [line.removeprefix(f"{path}:") for line in lines]


def names(cases: Sequence[Case]) -> list[str]:
    """Names of test cases: the key of the first error."""
    return [errors[0].split(": ")[1] for _, errors in cases]
