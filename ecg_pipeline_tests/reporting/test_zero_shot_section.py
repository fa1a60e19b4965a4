"""The zero-shot section of a page, from planted scores: numbers and controls, and what cannot be scored."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.zero_shot import ALL, PRETRAINED, SCHEMA, UNTRAINED, ZeroShot, summarise_scores
from ecg_pipeline.models.small_cnn.recipes import SmallCnnRecipe
from ecg_pipeline.reporting.page import write_report
from ecg_pipeline.reporting.zero_shot import SCHEMA as COLUMNS
from ecg_pipeline.reporting.zero_shot import zero_shot_rows, zero_shot_section
from ecg_pipeline.storage.files import write_json
from ecg_pipeline_tests.reporting.families import SITE, background, task_of

HOSTILE = "<b>sinus</b> & rhythm"
TURNS = [
    (network, prompts, language)
    for network, prompts in ((PRETRAINED, "t"), (PRETRAINED, "other"), (UNTRAINED, "t"))
    for language in ("de", "en", ALL)
]
SKILL = {(PRETRAINED, "t"): 2.0, (PRETRAINED, "other"): 0.5, (UNTRAINED, "t"): 0.0}


def made(folder, *, turns=TURNS, reason=None, task="t", other=("de", "en")):
    """A zero-shot of planted skill; scores are far from probabilities."""
    rng = np.random.default_rng(2)
    labels = np.arange(40) % 2
    about = {"ecg_id": [f"e{n:02d}" for n in range(40)], "site": SITE, "patient": [f"p{n}" for n in range(40)]}
    table = pl.DataFrame({**about, "label": labels}, schema_overrides={"label": pl.Int8})
    rows = [
        table.with_columns(
            seed=pl.lit(seed),
            network=pl.lit(network),
            prompts=pl.lit(task if prompts == "t" else prompts),
            language=pl.lit(language),
            score=pl.Series(300 * (SKILL[network, prompts] * labels + rng.normal(size=40))),
        )
        for network, prompts, language in turns
        for seed in (0, 1)
    ]
    predictions = pl.concat([pl.DataFrame(schema=SCHEMA), *(one.cast(SCHEMA).select(list(SCHEMA)) for one in rows)])
    said = {"words": HOSTILE, "tokens": 4, "unknown": 1}
    facts = {
        "prompts": {task: {"en": said, "de": said}, "other": dict.fromkeys(other, said)},
        "model": {"seeds": [0, 1], "weights": "pairs, seeds 0, 1", "pretraining_saw": "ECGs, reports"},
    }
    recipe = EvaluationRecipe(bootstrap_draws=20)
    write_json(folder / "metrics.json", summarise_scores(predictions, table, recipe, task=task, reason=reason) | facts)
    return ZeroShot(folder)


@pytest.fixture
def task(tmp_path):
    """A task of one small CNN, with a network that was tried on prompts."""
    alone = task_of(tmp_path, "t", {"small_cnn": 1.0}, [], ecgs=40, fractions=(1.0,))
    return replace(alone, zero_shots={("dbeta", SITE): made(tmp_path / "tried")})


def test_the_page_has_the_section_and_the_table_its_numbers(task, tmp_path):
    report = write_report("t", [task], background(models={"small_cnn": SmallCnnRecipe()}), facts={}, out=tmp_path)
    page = report.page.read_text()
    text = " ".join(unescape(re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page)).split())
    assert 'href="#t-zero_shot"' in page
    assert 'id="t-zero_shot"' in page
    assert "no probability" in text
    assert "written before anything was scored and stand in the study" in text
    assert HOSTILE not in page
    assert HOSTILE in text
    assert "dbeta, ptb_xl (transfer)" in text
    rows = report.zero_shot()
    assert rows.schema == pl.Schema(COLUMNS)
    assert rows.select("network", "prompts", "language").rows() == TURNS
    of_own = {(row["network"], row["prompts"], row["language"]): row for row in rows.iter_rows(named=True)}
    for key, row in of_own.items():
        assert f"{row['auroc']:.2f} ({row['auroc_low']:.2f}–{row['auroc_high']:.2f})" in text, key
    assert set(rows["pretraining_saw"]) == {"ECGs, reports"}
    assert set(rows["role"]) == {"transfer"}


def test_a_line_is_a_language_beside_its_controls(task):
    section = zero_shot_section(task)
    scores = {
        (row["network"], row["prompts"], row["language"]): row["auroc"]["value"]
        for row in task.zero_shots["dbeta", SITE].metrics()["scores"]
    }
    assert section.others == ["other"]
    (tried,) = section.tried
    assert [line.language for line in tried.lines] == [ALL, "de", "en"]
    for line in tried.lines:
        assert line.values["auroc"].value == scores[PRETRAINED, "t", line.language]
        assert line.untrained.value == scores[UNTRAINED, "t", line.language]
        assert [other.value for other in line.others] == [scores[PRETRAINED, "other", line.language]]
    assert tried.starts == ["pairs, seeds 0, 1", "saw ECGs, reports"]


def test_one_language_is_one_line_and_a_control_that_lacks_a_language_has_none(tmp_path, task):
    fewer = [one for one in TURNS if one[1:] != ("other", "de")]
    (tried,) = zero_shot_section(
        replace(task, zero_shots={("dbeta", SITE): made(tmp_path / "fewer", turns=fewer, other=("en",))})
    ).tried
    assert [(line.language, line.others == [None]) for line in tried.lines] == [
        (ALL, True),
        ("de", True),
        ("en", False),
    ]
    turns = [(network, prompts, language) for network, prompts, language in TURNS if language != "de"]
    turns = [one for one in turns if one[1:] != ("other", "en")]
    alone = replace(task, zero_shots={("dbeta", SITE): made(tmp_path / "alone", turns=turns)})
    (tried,) = zero_shot_section(alone).tried
    assert [line.language for line in tried.lines] == ["en"]
    assert tried.lines[0].others == [None]


def test_what_could_not_be_scored_says_why(tmp_path, task):
    silent = replace(task, zero_shots={("dbeta", SITE): made(tmp_path / "none", turns=[], reason="no text encoder")})
    (row,) = zero_shot_rows(silent).iter_rows(named=True)
    assert (row["reason"], row["auroc"], row["network"], row["ecgs"]) == ("no text encoder", None, None, 40)
    (tried,) = zero_shot_section(silent).tried
    assert (tried.lines, tried.reason) == ([], "no text encoder")
