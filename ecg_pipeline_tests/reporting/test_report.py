"""The page and its numbers, from planted predictions: equal to what they are made of, escaped, whole, and alone."""

import re
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from ecg_pipeline.cohorts.splits import SplitRecipe
from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule
from ecg_pipeline.evaluation.evaluate import NO_VALIDATION, write_evaluation
from ecg_pipeline.evaluation.recipes import EvaluationRecipe
from ecg_pipeline.evaluation.summary import by_ecg, compute_metrics, validation_thresholds
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.metrics.comparisons import delong, paired_difference
from ecg_pipeline.metrics.decision import confusion
from ecg_pipeline.metrics.discrimination import auroc, average_precision
from ecg_pipeline.models.recipes import BeitRecipe, TimmRecipe
from ecg_pipeline.reporting.page import outcome, write_report
from ecg_pipeline.reporting.papers.heartbeit.deviations import deviations
from ecg_pipeline.reporting.papers.heartbeit.tables import published
from ecg_pipeline.reporting.results import Background, TaskResults
from ecg_pipeline.reporting.tables import TOGETHER, compute_cells, result_rows
from ecg_pipeline.reporting.tripod import ITEMS, tripod_items
from ecg_pipeline.tokens.recipes import TokenizerRecipe
from ecg_pipeline.training.recipes import FinetuneRecipe, PretrainRecipe

RECIPE = EvaluationRecipe(bootstrap_draws=40)
ROLES = {"north": "internal", "south": "internal", "abroad": "external"}
HOSTILE = '<script>alert("x")</script> & <img src=http://evil.example/x.png>'
SKILL = {"heartbeit": 1.5, "other": 0.5}


def predictions(model, site, fraction=1.0, ecgs=60, seeds=(0, 1)):
    """Scores of planted skill; patients have two ECGs. Labels depend on the site alone."""
    labels = np.random.default_rng(list(site.encode())).integers(0, 2, ecgs)
    tables = []
    for seed in seeds:
        rng = np.random.default_rng([seed, *model.encode(), *site.encode()])
        odds = SKILL[model] * fraction * (2 * labels - 1) + rng.normal(size=ecgs)
        tables.append(
            pl.DataFrame(
                {
                    "record": [f"{site}{number:03d}" for number in range(ecgs)],
                    "site": site,
                    "patient": [f"{site}{number // 2}" for number in range(ecgs)],
                    "label": labels,
                    "age_years": [30.0 + number % 60 for number in range(ecgs)],
                    "sex": ["F" if number % 2 else "M" for number in range(ecgs)],
                    "device": "MAC55",
                    "seed": seed,
                    "score": 1 / (1 + np.exp(-odds)),
                },
                schema_overrides={"label": pl.Int8, "seed": pl.Int64},
            )
        )
    return pl.concat(tables)


def evaluation(table, out, reason=None):
    thresholds = {} if reason else {seed: {"youden": 0.5, "sensitivity_90": 0.3} for seed in (0, 1)}
    about = {
        "operating_points": {"by_seed": {str(seed): points for seed, points in thresholds.items()}, "reason": reason},
        "model": {
            "seeds": [0, 1],
            "initialisation": "random initialisation",
            "chosen_by": "highest AUROC on validation patients",
            "optimistic": False,
            "chosen_epochs": [1, 2],
            "train_ecgs": 90,
            "train_patients": 45,
            "train_positives": 44,
        },
    }
    return write_evaluation(table, compute_metrics(table, thresholds, RECIPE), about, out)


def flow(ecgs):
    steps = {"ecgs_in_store": ecgs + 9, "without_patient_id": 4, "a_step_to_come": 3, "without_label": 2}
    return steps | {
        f"{part}_{what}": ecgs if part == "test" else 0
        for part in ("train", "validation", "test", "external")
        for what in ("ecgs", "patients", "positives")
    }


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluations")
    places = [(model, fraction, site) for model in SKILL for fraction in (0.5, 1.0) for site in ROLES]
    return TaskResults(
        name="low_lvef",
        title=f"Low ejection fraction {HOSTILE}",
        outcome=outcome(MeasurementRule()),
        evaluations={
            place: evaluation(predictions(place[0], place[2], place[1]), folder / str(number))
            for number, place in enumerate(places)
        },
        evaluation_counts={place: 3 if place == ("other", 1.0, "abroad") else 1 for place in places},
        flow={site: flow(60) for site in ROLES},
        rejects={site: {"empty_file": 71, "flat_signal": 72} for site in ROLES},
        roles=ROLES,
        titles={site: f"{site} {HOSTILE}" for site in ROLES},
    )


@pytest.fixture(scope="module")
def background():
    return Background(
        synthetic=False,
        pretrained="heartbeit",
        models={"heartbeit": BeitRecipe(), "other": TimmRecipe()},
        tokenizer=TokenizerRecipe(),
        pretraining=PretrainRecipe(),
        pretraining_trace=pl.DataFrame(
            {
                "step": [1, 2],
                "loss": [9.0, 8.0],
                "accuracy": [0.0, 0.1],
                "accuracy_drawn": [0.0, 0.2],
                "accuracy_of_background": [0.1, 0.1],
            }
        ),
        split=SplitRecipe(),
        finetuning=FinetuneRecipe(seeds=(0, 1)),
        evaluation=RECIPE,
        distances={
            "ecg_ecg": 2.5,
            "natural_natural": 50.25,
            "ecg_natural": 120.75,
            "ecg_images": 20,
            "natural_images": 10,
            "natural_source": "three photographs",
        },
        recorded=("1990-01", "2001-12"),
    )


@pytest.fixture(scope="module")
def report(task, background, tmp_path_factory):
    return write_report(HOSTILE, [task], background, {"Study": HOSTILE}, tmp_path_factory.mktemp("report"))


@pytest.fixture
def text(report):
    return report.page.read_text()


def test_figures_are_those_of_the_predictions_at_each_site_and_over_the_inside_ones(task):
    rows = result_rows(task, compute_cells(task, RECIPE))
    pooled = pl.concat([predictions("other", site, 0.5) for site in ("north", "south")]).sort("seed", "record")
    for population, table in ((TOGETHER, pooled), ("abroad", predictions("other", "abroad", 0.5))):
        row = rows.filter(site=population, model="other", fraction=0.5).row(0, named=True)
        ecgs, scores = by_ecg(table)
        labels = ecgs["label"].to_numpy()
        assert (row["ecgs"], row["patients"]) == (len(ecgs), len(ecgs) // 2)
        assert row["auroc"] == pytest.approx(auroc(labels, scores), abs=1e-12)
        assert row["average_precision"] == pytest.approx(average_precision(labels, scores), abs=1e-12)
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
        assert None not in row.values()
    assert rows["site"].unique(maintain_order=True).to_list() == [TOGETHER, "north", "south", "abroad"]


def test_differences_are_those_of_the_paired_bootstrap_and_delong(report):
    made = report.differences()
    row = made.filter(site="abroad", fraction=1.0).row(0, named=True)
    ecgs, one = by_ecg(predictions("heartbeit", "abroad"))
    other = by_ecg(predictions("other", "abroad"))[1]
    asked = ecgs["label"].to_numpy(), one, other, ecgs["patient"].to_numpy()
    area, precision = paired_difference(*asked, RECIPE.bootstrap_draws, RECIPE.seed)
    assert [row[f"auroc{end}"] for end in ("", "_low", "_high", "_p")] == [area.value, area.low, area.high, area.p]
    assert row["average_precision"] == precision.value
    assert row["delong_p"] == delong(*asked).p
    assert row["auroc"] > 0
    assert made.height == 2 * 2


def test_nothing_of_a_name_becomes_markup(text):
    assert "<script" not in text
    assert "<img" not in text
    assert "&lt;script&gt;alert(" in text


def test_the_page_needs_no_network(text):
    text = text.replace("http://evil.example", "")
    assert set(re.findall(r"https?://[^\"' >]*", text)) <= {
        "http://www.w3.org/1999/xlink",
        "http://www.w3.org/2000/svg",
    }
    assert not re.search(r"(?i)@import|url\((?!#)|<link|<iframe| src=", text.replace("&lt;img src=", ""))
    assert set(re.findall(r'<a href="(.)', text)) == {"#"}
    for anchor in re.findall(r'<a href="#([^"]*)"', text):
        assert f'id="{anchor}"' in text


def test_every_reject_reason_and_exclusion_is_counted(text):
    for words, count in (("rejected: empty file", 71), ("rejected: flat signal", 72), ("left out: a step to come", 3)):
        assert f"<td>{words}</td><td>{count}</td><td>{count}</td><td>{count}</td>" in text
    for reason in RejectReason:
        assert reason.value.replace("_", " ") in text
    assert "<td>Files read</td><td>212</td>" in text
    assert "<td>ECGs used</td><td>60</td>" in text


def test_every_part_of_a_paper_is_there(text):
    for words in (*(f"Table {number}." for number in range(1, 8)), "TRIPOD+AI", "by DeLong", "random initialisation"):
        assert words in text
    assert text.count("<svg") == 2 * 8 + 2
    assert ">Net benefit an ECG</text>" in text
    assert "<td>abroad</td><td>4</td><td>6 times</td><td>3</td>" in text
    assert "0.86 <small>(0.86–0.86)" in text
    assert "120.75" in text
    assert "Synthetic ECGs." not in text
    assert "Optimistic figures." not in text


def test_without_validation_patients_there_are_no_operating_points_and_it_is_said(task, background, tmp_path):
    evaluations = {
        place: evaluation(predictions(place[0], place[2], place[1]), tmp_path / str(number), NO_VALIDATION)
        for number, place in enumerate(task.evaluations)
    }
    invented = replace(background, synthetic=True)
    text = write_report("t", [replace(task, evaluations=evaluations)], invented, {}, tmp_path).page.read_text()
    assert "Synthetic ECGs." in text
    assert NO_VALIDATION.capitalize() in text
    assert "Table 5." not in text


def test_ecgs_of_one_label_leave_dashes_and_a_reason(task, background, tmp_path):
    healthy = {}
    for place in task.evaluations:
        if place[2] == "abroad":
            table = predictions(place[0], place[2]).with_columns(label=pl.lit(0, pl.Int8))
            healthy[place] = evaluation(table, tmp_path / "healthy" / f"{place[0]}_{place[1]}")
    made = write_report("t", [replace(task, evaluations=task.evaluations | healthy)], background, {}, tmp_path)
    assert made.results().filter(site="abroad")["auroc"].null_count() == 4
    assert made.differences().filter(site="abroad")["reason"].null_count() == 0
    assert "one label alone" in made.page.read_text()


def test_scores_that_separate_the_labels_have_no_slope_but_a_reason():
    table = predictions("other", "north").with_columns(score=0.2 + 0.6 * pl.col("label"))
    metrics = compute_metrics(table, {}, RECIPE).metrics
    assert metrics["auroc"]["value"] == 1
    assert all("separate" in values["reason"] for values in metrics["calibration"].values())


def test_operating_points_come_from_validation_and_count_test_patients():
    validation = {0: pl.DataFrame({"label": [0, 0, 1, 1], "score": [0.1, 0.4, 0.35, 0.8]})}
    thresholds, reason = validation_thresholds(validation)
    assert reason is None
    table = predictions("other", "north", seeds=(0,))
    points = compute_metrics(table, thresholds, RECIPE).operating_points
    for row in points.iter_rows(named=True):
        counted = confusion(table["label"].to_numpy(), table["score"].to_numpy(), thresholds[0][row["point"]])
        assert row["true_positives"] == counted.true_positives
        assert row["npv"] == counted.npv
    assert points["point"].to_list() == ["youden", "sensitivity_90", "specificity_90"]
    nobody = {0: validation[0].clear()}
    assert validation_thresholds(nobody)[0] == {}
    assert "validation patients" in (validation_thresholds(nobody)[1] or "")


def test_only_deviations_that_apply_are_listed(task, background):
    rows = result_rows(task, compute_cells(task, RECIPE))
    said = " ".join(deviation.here for deviation in deviations([task], rows, background))
    assert "validation patients" in said
    assert "transfer" not in said
    assert "random initialisation" in said
    official = replace(background, finetuning=FinetuneRecipe(protocol="official"), pretraining=None)
    said = [deviation.effect for deviation in deviations([task], rows, official)]
    assert any("optimistic" in effect for effect in said)


def test_tripod_items_that_records_cannot_answer_stay_blank(task, background):
    rows = result_rows(task, compute_cells(task, RECIPE))
    items = {item.number: item for item in tripod_items([task], rows, background)}
    assert list(items) == [number for number, _ in ITEMS]
    assert [items[number].text for number in ("1", "17", "18a", "19", "25")] == [""] * 5
    assert "1990-01" in items["5b"].text


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (MeasurementRule(), "at most 40"),
        (DiagnosisRule(), "I42.1"),
        (StatementRule(positive=("IMI", "AMI"), exclude=("NORM",), minimum_likelihood=50), "IMI, AMI"),
    ],
)
def test_a_label_is_said_in_words(rule, words):
    assert words in outcome(rule)


def test_the_papers_tables_are_whole():
    paper = published()
    assert paper["auroc"]["low_lvef"]["internal"]["vit_b16"][0] == [0.67, 0.67, 0.67]
    assert paper["auroc"]["stemi"]["internal"]["heartbeit"][4] == [0.95, 0.95, 0.95]
    assert paper["auprc"]["hcm"]["external"]["efficientnet_b4"][0] == [0.61, 0.60, 0.61]
    assert paper["auprc"]["stemi"]["internal"]["resnet_152"][4] == [0.68, 0.67, 0.68]
    for metric in ("auroc", "auprc"):
        assert paper[metric].keys() == paper["cohorts"].keys()
        for task, by_part in paper[metric].items():
            assert ("external" in by_part) == ("external" in paper["cohorts"][task])
            for by_model in by_part.values():
                assert by_model.keys() == paper["models"].keys()
                for values in by_model.values():
                    assert len(values) == len(paper["fractions"])
                    assert all(low <= value <= high for value, low, high in values)
