"""Only the official protocol is handed test patients to choose an epoch on."""

import polars as pl
import pytest

from ecg_pipeline.cohorts.cohort import Cohort
from ecg_pipeline.orchestration.assets.training import _examples
from ecg_pipeline.study import load_study


@pytest.fixture
def cohort(tmp_path):
    parts = ["train"] * 20 + ["validation"] * 6 + ["test"] * 8 + ["external"] * 4
    table = pl.DataFrame(
        {
            "record": [f"r{number}" for number in range(len(parts))],
            "patient": [f"p{number}" for number in range(len(parts))],
            "part": parts,
            "rank": [(number + 1) / 20 if part == "train" else None for number, part in enumerate(parts)],
        }
    )
    table.write_parquet(tmp_path / "cohort.parquet")
    return Cohort(tmp_path)


@pytest.mark.parametrize(
    ("protocol", "trained", "chosen_on"),
    [("honest", {"train"}, {"validation"}), ("official", {"train", "validation"}, {"test"})],
)
@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_who_is_seen(cohort, tmp_path, protocol, trained, chosen_on, fraction):
    path = tmp_path / "study.yaml"
    path.write_text(f"extends: demo\nfinetuning: {{protocol: {protocol}}}\n")
    train, selection = _examples(cohort, load_study(path), fraction)
    assert set(train["part"]) <= trained
    assert set(selection["part"]) == chosen_on
    if fraction == 1:
        assert set(train["part"]) == trained
