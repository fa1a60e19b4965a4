"""Texts of the tests."""

import csv

import polars as pl
import pytest

from ecg_pipeline.texts.clean import clean, language_of


@pytest.fixture(scope="session")
def real_texts(shared) -> pl.DataFrame:
    """The cleaned reports of real ECGs: columns ecg_id, text, language."""
    with (shared / "data" / "ptbxl" / "ptbxl_database.csv").open(newline="", encoding="utf-8") as file:
        said = [(row["ecg_id"], text) for row in csv.DictReader(file) if (text := clean(row["report"]))]
    rows = [(ecg_id, text, language_of(text)) for ecg_id, text in said]
    return pl.DataFrame(rows, ("ecg_id", "text", "language"), orient="row")
