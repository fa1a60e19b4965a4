"""The first screen and the planned comparisons, from planted skill: what is better, what is not said, and why."""

import re
from dataclasses import replace
from html import unescape

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.evaluation.summary import by_ecg
from ecg_pipeline.metrics.comparisons import holm, smallest_difference
from ecg_pipeline.metrics.resampling import Scored, resample
from ecg_pipeline.metrics.table import AUROC
from ecg_pipeline.reporting import comparisons
from ecg_pipeline.reporting.comparisons import subjects
from ecg_pipeline.reporting.costs import fitting_costs, pretraining_costs
from ecg_pipeline.reporting.page import write_report
from ecg_pipeline.reporting.recipes import ComparisonsRecipe, Pair
from ecg_pipeline.reporting.summary import summary_of
from ecg_pipeline_tests.reporting.families import (
    RECIPE,
    SITE,
    SKILL,
    background,
    pairs_of,
    predictions,
    probe_skills,
    task_of,
)

DRAWS = 800
NOT_TRAINED = "not trained: the 12 training ECGs of this fraction hold one label"
PROBES = {"arm": "_probe", "nothing": "_random_probe", "baseline": None}


@pytest.fixture(scope="module", autouse=True)
def few_draws():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(comparisons, "DRAWS", DRAWS)
        yield


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return task_of(tmp_path_factory.mktemp("families"), "infarction", SKILL, pairs_of())


@pytest.fixture(scope="module")
def report(task, tmp_path_factory):
    return write_report("Families", [task], background(), facts={}, out=tmp_path_factory.mktemp("report"))


def summary(report, task, recipe=None):
    (subject,) = subjects([task], recipe or background().comparisons, seed=RECIPE.seed)
    return summary_of(subject, report.results(), {SITE: SITE})


def text_of(page):
    return " ".join(unescape(re.sub(r"(?s)<style>.*?</style>|<svg.*?</svg>|<[^>]*>", " ", page)).split())


def test_comparisons_are_those_of_the_draws_corrected_over_all_of_the_table(report):
    made = report.comparisons()
    assert made.schema == pl.Schema(comparisons.SCHEMA)
    assert made.height == 16
    row = made.filter(model="fm", other="fm_scratch", fraction=1.0).row(0, named=True)

    def drawn(model):
        ecgs, scores = by_ecg(predictions(model, skill=SKILL[model], fraction=1.0, ecgs=300, task="infarction"))
        scored = Scored(ecgs["label"].to_numpy(), scores, ecgs["patient"].to_numpy())
        return resample([scored], draws=DRAWS, seed=RECIPE.seed, model=model)

    one, other = drawn("fm"), drawn("fm_scratch")
    found = one.minus(other)
    assert [row[name] for name in ("difference", "low", "high", "p")] == [found.value, found.low, found.high, found.p]
    assert row["smallest"] == smallest_difference(one.error_of_difference(other), comparisons=16)
    assert made["p_holm"].to_list() == holm(made["p"].to_list())
    assert row["difference"] > 0.05


def test_the_first_screen_says_who_won_by_how_much_how_sure_and_what_it_saw(report, task):
    (population,) = summary(report, task).populations
    areas = report.results().filter(fraction=1.0).sort(AUROC.name, descending=True)
    best, leader = areas.row(0, named=True), population.leaders[0]
    assert (leader.fraction, leader.model, leader.models) == (1.0, best["model"], len(SKILL))
    assert leader.estimate.value == best["auroc"]
    (against_baseline, against_nothing) = population.findings
    assert against_baseline.words == "Against small_cnn"
    assert against_baseline.better == ["fm, founder at 100 % and 10 %"]
    better = "; ".join(against_nothing.better)
    assert re.search(r"beit\b.* at 100 %", better)
    assert "fm, founder at 100 % and 10 %" in better
    assert "dbeta at 100 % and 10 %" in against_nothing.open, "planted to be equal"
    page = report.page.read_text()
    assert page.index('<section class="summary"') < page.index('<nav aria-label="Contents">')
    words = text_of(page)
    assert f"Highest AUROC {best['model']}" in words
    assert "by Holm's correction over the 16 comparisons here" in words


def test_label_efficient_is_said_of_models_that_saw_ecgs_alone(report, task):
    """The model that saw labels is as good at a tenth of the labels, and has read the answers of the rest."""
    (population,) = summary(report, task).populations
    assert population.label_efficient == ["fm"]
    assert population.read_answers == ["founder (ECGs, 44 labels)", "dbeta (ECGs, reports)"]
    founder = report.comparisons().filter(model="founder", fraction=0.1)
    assert (founder["p_holm"] <= 0.05).all()
    words = text_of(report.page.read_text())
    assert "not said of founder (ECGs, 44 labels), dbeta (ECGs, reports)" in words


def test_every_row_says_what_its_pretraining_saw(report):
    saw = dict(report.comparisons().select("model", "pretraining_saw").iter_rows())
    assert saw == {"beit": "ECGs", "fm": "ECGs", "founder": "ECGs, 44 labels", "dbeta": "ECGs, reports"}
    results = report.results()
    for row in results.iter_rows(named=True):
        assert row["pretraining_saw"] == saw.get(row["model"])


def test_a_fraction_of_one_label_carries_its_reason_to_every_table(report, task):
    rows = report.results().filter(fraction=0.01)
    assert rows["not_trained"].to_list() == [NOT_TRAINED] * len(SKILL)
    assert rows["auroc"].null_count() == len(SKILL)
    assert rows["ecgs"].to_list() == [300] * len(SKILL)
    assert report.differences().filter(fraction=0.01)["reason"].to_list() == [NOT_TRAINED] * (len(SKILL) - 1)
    words = text_of(report.page.read_text())
    of_metrics, differences = 2, len(SKILL) - 1
    assert words.count(NOT_TRAINED) >= of_metrics + differences
    everywhere = summary(report, task, ComparisonsRecipe())
    (population,) = everywhere.populations
    assert everywhere.comparisons == 16, "what was not made is not corrected for"
    assert [leader.reason for leader in population.leaders] == [None, None, NOT_TRAINED]
    assert {row.reason for row in population.forest[0.01]} == {NOT_TRAINED}


def test_fewer_than_ten_positives_give_counts_and_no_rank(task, tmp_path):
    few = {}
    for place, made in task.evaluations.items():
        metrics = made.metrics()
        if place[1] == 0.1:
            metrics["model"] |= {"train_positives": 9}
        few[place] = _Stated(made, metrics)
    made = write_report("t", [replace(task, evaluations=few)], background(), facts={}, out=tmp_path)
    reason = "9 of 112 training ECGs are positive, fewer than 10: no rank"
    assert set(made.comparisons().filter(fraction=0.1)["reason"]) == {reason}
    assert made.comparisons().filter(fraction=1.0)["reason"].null_count() == 8
    words = text_of(made.page.read_text())
    assert f"at 10 %: {reason}" in words.replace("\u00a0", " ")
    assert "97 (9) fewer than 10: no rank" in words
    assert "#1" in words


class _Stated:
    """An evaluation whose metrics say something else."""

    def __init__(self, made, metrics):
        self._made, self._metrics = made, metrics

    def metrics(self):
        return self._metrics

    def __getattr__(self, name):
        return getattr(self._made, name)


def test_tasks_that_are_compared_together_give_their_mean(tmp_path):
    tasks = [
        task_of(tmp_path, name, probe_skills(gain), pairs_of(**PROBES), title=name, ecgs=ecgs, fractions=(1.0,))
        for name, gain, ecgs in (("norm", 0.2, 300), ("hyp", -0.2, 260))
    ]
    recipe = ComparisonsRecipe(mean_of=("norm", "hyp"))
    made = write_report("t", tasks, background(comparisons=recipe), facts={}, out=tmp_path / "page")
    (subject,) = subjects(tasks, recipe, seed=0)
    assert (subject.name, subject.title) == ("mean", "Mean over norm, hyp")
    areas = made.results().group_by("model").agg(pl.col("auroc").mean())
    by_model = dict(areas.iter_rows())
    for row in made.comparisons().iter_rows(named=True):
        assert row["difference"] == pytest.approx(by_model[row["model"]] - by_model[row["other"]], abs=1e-12)
    (population,) = summary_of(subject, made.results(), {SITE: SITE}).populations
    leader = population.leaders[0]
    assert leader.estimate.value == pytest.approx(max(by_model.values()), abs=1e-12)
    assert leader.estimate.low < leader.estimate.value < leader.estimate.high
    # On the page of one of them it stands by itself.
    assert [one.name for one in subjects(tasks[:1], recipe, seed=0)] == ["norm"]


def test_a_study_without_pretraining_plans_no_comparison_and_says_so(task, tmp_path):
    alone = replace(task, pairs=())
    words = text_of(write_report("t", [alone], background(), facts={}, out=tmp_path).page.read_text())
    assert "No comparison is planned" in words
    assert "Highest AUROC" in words


def test_operations_are_compared_with_the_least(report, task):
    costs = {cost.model: cost for cost in pretraining_costs(background())}
    assert costs["beit"].ratio == 1
    assert costs["fm"].ratio == pytest.approx(1.25)
    assert [cost.is_equal for cost in costs.values()] == [True, False, False, False]
    fitted = {cost.model: cost for cost in fitting_costs(task, report.results(), SKILL)}
    assert fitted["fm"].ratio == fitted["dbeta"].ratio == 1
    assert fitted["beit"].ratio == pytest.approx(1.4)
    assert fitted["small_cnn"].ratio is None, "the baseline need not cost the same"
    assert fitted["beit"].thread_seconds == 12
    words = text_of(report.page.read_text())
    assert re.search(r"beit [\d,]+ 4\.0e14 1\.00 yes 3 1,000", words)
    assert re.search(r"fm [\d,]+ 5\.0e14 1\.25 no 3 1,100", words)


def test_the_bars_of_the_forest_lie_where_their_numbers_say(report, task):
    made = summary(report, task)
    places = np.array([[place, value] for place, value in made.ticks])
    (population,) = made.populations
    for rows in population.forest.values():
        for row in rows:
            assert row.bar is not None
            ends = np.polyval(np.polyfit(places[:, 0], places[:, 1], 1), [row.bar.left, row.bar.left + row.bar.width])
            assert ends == pytest.approx([row.estimate.low, row.estimate.high], abs=1e-4)
            assert 0 <= row.bar.left <= row.bar.point <= row.bar.left + row.bar.width <= 100


def test_a_pair_is_compared_where_all_tasks_have_it(task):
    other = replace(task, name="second", pairs=[*task.pairs[:1], Pair("fm", "beit", "baseline")])
    recipe = ComparisonsRecipe(mean_of=("infarction", "second"))
    (subject,) = subjects([task, other], recipe, seed=0)
    assert subject.pairs == [task.pairs[0]]
