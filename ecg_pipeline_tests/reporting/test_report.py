"""The page and its numbers, from planted predictions: equal to what they are made of, escaped, whole, and alone."""

import re
from dataclasses import replace
from html import unescape

import polars as pl
import pytest

from ecg_pipeline.evaluation.evaluate import NO_VALIDATION
from ecg_pipeline.evaluation.summary import by_ecg, compute_metrics, validation_thresholds
from ecg_pipeline.ingest.rejects import RejectReason
from ecg_pipeline.metrics.comparisons import delong, paired_difference
from ecg_pipeline.metrics.decision import confusion
from ecg_pipeline.metrics.table import METRICS, WITH_INTERVAL
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.heartbeit.recipes import HeartBeitPretraining
from ecg_pipeline.models.start import FROZEN, START_WORDS
from ecg_pipeline.reporting.outline import HEADINGS, TABLE_NUMBERS, table_words
from ecg_pipeline.reporting.page import write_report
from ecg_pipeline.reporting.papers.heartbeit.deviations import deviations
from ecg_pipeline.reporting.tables import DIFFERENCE_SCHEMA, RESULT_SCHEMA, TOGETHER, compute_cells, result_rows
from ecg_pipeline.reporting.tripod import tripod_items
from ecg_pipeline_tests.reporting.two_models import (
    RECIPE,
    STARTS,
    evaluation,
    of_waveforms,
    predictions,
    printed,
    study_results,
    words,
)


@pytest.fixture
def text(report):
    return report.page.read_text()


def test_metrics_are_those_of_the_predictions_at_each_site_and_over_the_internal_ones(task):
    rows = result_rows(task, compute_cells(task, RECIPE))
    pooled = pl.concat([predictions("other", site, 0.5) for site in ("north", "south")]).sort("seed", "ecg_id")
    for population, table in ((TOGETHER, pooled), ("abroad", predictions("other", "abroad", 0.5))):
        row = rows.filter(site=population, model="other", fraction=0.5).row(0, named=True)
        ecgs, scores = by_ecg(table)
        labels = ecgs["label"].to_numpy()
        assert (row["ecgs"], row["patients"]) == (len(ecgs), len(ecgs) // 2)
        for metric in METRICS:
            assert row[metric.name] == pytest.approx(metric.value(labels, scores), abs=1e-12)
        assert row["auroc_low"] < row["auroc"] < row["auroc_high"]
        absent = {"pretraining_saw", "licence", "not_trained"}  # nothing was pretrained
        absent |= {"parameters", "flops"}  # an evaluation of before they were counted
        assert {name for name, value in row.items() if value is None} == absent
    assert rows["site"].unique(maintain_order=True).to_list() == [TOGETHER, "north", "south", "abroad"]


def test_differences_are_those_of_the_paired_bootstrap_and_delong(report):
    made = report.differences()
    row = made.filter(site="abroad", fraction=1.0).row(0, named=True)
    ecgs, one = by_ecg(predictions("heartbeit", "abroad"))
    other = by_ecg(predictions("other", "abroad"))[1]
    scored, patients = (ecgs["label"].to_numpy(), one, other), ecgs["patient"].to_numpy()
    found = paired_difference(*scored, patients=patients, draws=RECIPE.bootstrap_draws, seed=RECIPE.seed)
    for name, one in found.items():
        assert [row[f"{name}{end}"] for end in ("", "_low", "_high", "_p")] == [one.value, one.low, one.high, one.p]
    assert row["delong_p"] == delong(*scored, patients=patients).p
    assert row["auroc"] > 0
    assert made.height == 2 * 2


def test_columns_of_the_results_follow_the_table_of_metrics(report):
    by_fraction = [metric.name for metric in WITH_INTERVAL]
    assert report.results().schema == pl.Schema(RESULT_SCHEMA)
    assert report.differences().schema == pl.Schema(DIFFERENCE_SCHEMA)
    values = [name for name, kind in RESULT_SCHEMA.items() if kind == pl.Float64 and name != "fraction"]
    expected = []
    for metric in METRICS:
        expected += [metric.name, *(f"{metric.name}_{end}" for end in ("low", "high", "sd") if metric.interval)]
    expected += ["slope", "intercept", "in_the_large"]
    expected += [f"patient_{name}{end}" for name in by_fraction for end in ("", "_low", "_high")]
    assert values == expected
    compared = [name for name, kind in DIFFERENCE_SCHEMA.items() if kind == pl.Float64 and name != "fraction"]
    assert [name for name in compared if not name.startswith("delong")] == [
        f"{name}{end}" for name in by_fraction for end in ("", "_low", "_high", "_p")
    ]
    assert compared[4:7] == ["delong_low", "delong_high", "delong_p"]


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
    for said, count in (("rejected: empty file", 71), ("rejected: flat signal", 72), ("left out: a step to come", 3)):
        assert f"<td>{said}</td><td>{count}</td><td>{count}</td><td>{count}</td>" in text
    for reason in RejectReason:
        assert reason.value.replace("_", " ") in text
    assert "<td>Files read</td><td>212</td>" in text
    assert "<td>ECGs used</td><td>60</td>" in text


def test_every_part_of_a_paper_is_there(text):
    for said in ("TRIPOD+AI", "by DeLong", "random initialisation"):
        assert said in text
    of_a_population = 2 * len(WITH_INTERVAL) + len(("ROC", "precision and recall", "calibration", "decision"))
    assert text.count("<svg") == 2 * of_a_population + len(("loss", "accuracy"))
    assert text.count(">Net benefit per ECG</text>") == 2
    assert "<td>abroad</td><td>4</td><td>6 times</td><td>3</td>" in text
    assert "0.86 <small>(0.86–0.86)" in text
    assert "120.75" in text
    assert "Synthetic ECGs." not in text
    assert "Optimistic results." not in text


def test_every_table_of_models_says_what_they_start_from(text, report):
    for row in report.results().iter_rows(named=True):
        assert {name: row[name] for name in START_WORDS if row[name]} == STARTS[row["model"]]
    tables = [unescape(re.sub("<[^>]*>", " ", table)) for table in re.findall(r"(?s)<table.*?</table>", text)]
    of_models = [table for table in tables if re.search(r"\bother\b.*\d\.\d\d", table, re.DOTALL)]
    of_models = [table for table in of_models if "the paper" not in table.lower()]
    assert len(of_models) >= len(WITH_INTERVAL) + len(("measures", "differences", "points", "subgroups"))
    for table in of_models:
        assert f"{RANDOM}; {FROZEN}" in table
        if re.search(r"\bheartbeit\b", table) and "minus the other" not in table:
            assert "published file a.pth" in table
            assert "saw ECGs, 150 labels; licence MIT" in table
    (starts,) = [" ".join(table.split()) for table in tables if "What the models start from" in table]
    assert "ECGs, 150 labels 1,234 ECGs of 567 patients of" in starts
    assert f"other {RANDOM} – – – {FROZEN}" in starts


def test_captions_and_the_checklist_give_the_same_table_numbers(text, task, background):
    numbers = TABLE_NUMBERS
    captions = {int(n): words for n, words in re.findall(r"<caption>Table (\d+)\. ([^<]*)", unescape(text))}
    assert list(captions) == list(range(1, numbers.published + 1))
    assert "by site and split" in captions[numbers.studied]
    for metric in WITH_INTERVAL:
        assert captions[numbers.metrics[metric.name]].startswith(f"{printed(metric.label)} by the fraction")
    assert "Calibration" in captions[numbers.measures]
    assert "thresholds" in captions[numbers.operating_points]
    assert "subgroups" in captions[numbers.subgroups]
    items = {item.number: item for item in tripod_items(study_results(task, background))}
    assert items["8a"].where == table_words(numbers.studied)
    assert items["12d"].where == table_words(min(numbers.metrics.values()), max(numbers.metrics.values()))
    assert items["12e"].where == table_words(min(numbers.metrics.values()), numbers.subgroups)
    for metric in METRICS:
        assert metric.label in items["12e"].text


def test_a_study_without_a_paper_mentions_none(task, background, tmp_path):
    alone = replace(background, paper=None)
    text = write_report("t", [task], alone, facts={}, out=tmp_path).page.read_text()
    assert "paper" not in re.sub(r"(?s)<style>.*?</style>", "", text)
    assert "HeartBEiT" not in text
    for heading in ("published", "deviations"):
        assert HEADINGS[heading] not in text
        assert f'href="#{task.name}-{heading}"' not in text
        assert f'href="#{heading}"' not in text
    assert "120.75" in text
    assert {item.number: item.text for item in tripod_items(study_results(task, alone))}["26"] == ""


def test_a_study_without_images_and_pretraining_says_what_it_has(task, background, tmp_path):
    alone = of_waveforms(background, paper=None)
    page = write_report("t", [task], alone, facts={}, out=tmp_path).page.read_text()
    assert "<p>No model is pretrained.</p>" in page
    assert "published checkpoint" not in page
    assert "Wasserstein" not in page
    assert not re.search(r"\b(image|images|sheet|sheets|token|tokens|tokenizer)\b", words(page))
    items = {item.number: item.text for item in tripod_items(study_results(task, alone))}
    assert items["9a"] == "The waveform of the leads I, V2; no other predictor."
    assert items["9b"] == "Waveforms `ten`: 2 leads of 2.5 s at 100 Hz, in standard deviations."
    assert "heartbeit: residual 1D CNN" in items["12c"]


def test_what_a_report_says_of_a_start_is_that_of_the_model(task, background, tmp_path):
    """Weights of a comparator, from no ECG at all, do not make HeartBEiT's patients unknown."""
    seen = {**background.pretrained_on, "other": None}
    both = replace(background, pretraining={**background.pretraining, "other": None}, pretrained_on=seen)
    text = write_report("t", [task], both, facts={}, out=tmp_path / "both").page.read_text()
    starts = text.split('<section id="pretraining">')[1]
    (of_heartbeit, of_other) = re.findall(
        r"<tr><td>(heartbeit|other)</td>(?:<td>[^<]*</td>){2}<td>([^<]*)</td>", starts
    )
    assert of_heartbeit[1].startswith("1,234 ECGs of 567 patients of")
    assert of_other[1] == "unknown"
    assert "No model is pretrained." not in text
    assert "Tested patients were never seen by the model" in text
    assert "Tested patients may have been seen" not in text
    published_start = replace(background, pretraining={"heartbeit": None}, pretraining_traces={})
    said = " ".join(one.effect for one in deviations(study_results(task, published_start)))
    assert "Tested patients may have been seen without labels." in said
    assert "never seen by the model" not in said


def test_each_model_that_is_pretrained_here_has_its_figures(task, background, tmp_path):
    other = pl.DataFrame({"step": [1, 2], "loss": [3.0, 2.0]})
    two = replace(
        background,
        pretraining={"heartbeit": HeartBeitPretraining(), "other": HeartBeitPretraining(seeds=(1, 2))},
        pretraining_traces={**background.pretraining_traces, "other": other},
    )
    section = (
        write_report("t", [task], two, facts={}, out=tmp_path).page.read_text().split('<section id="pretraining">')[1]
    )
    section = section.split("</section>")[0]
    assert section.count("<svg") == len(("loss", "accuracies", "loss"))
    titles = [title for title in re.findall(r">(Pretraining of [^<]*)<", section) if title]
    assert [title.split(":")[0] for title in dict.fromkeys(titles)] == [
        "Pretraining of heartbeit",
        "Pretraining of heartbeit",
        "Pretraining of other",
    ]


def test_the_reference_of_a_task_that_lacks_it_is_the_tasks_first_model(task, background, tmp_path):
    alone = {place: one for place, one in task.evaluations.items() if place[0] == "other"}
    counts = {place: task.evaluation_counts[place] for place in alone}
    one_model = replace(task, name="hcm", evaluations=alone, evaluation_counts=counts)
    made = write_report("t", [task, one_model], background, facts={}, out=tmp_path)
    assert made.differences()["task"].unique().to_list() == ["low_lvef"]
    assert made.results().filter(task="hcm")["model"].unique().to_list() == ["other"]


def test_a_study_of_one_model_has_no_differences(task, background, tmp_path):
    alone = {place: one for place, one in task.evaluations.items() if place[0] == "other"}
    counts = {place: task.evaluation_counts[place] for place in alone}
    one_model = replace(task, evaluations=alone, evaluation_counts=counts)
    made = write_report("t", [one_model], of_waveforms(background, reference="other"), facts={}, out=tmp_path)
    assert made.differences().is_empty()
    assert made.differences().schema == pl.Schema(DIFFERENCE_SCHEMA)
    assert made.results()["model"].unique().to_list() == ["other"]


def test_without_validation_patients_there_are_no_operating_points_and_it_is_said(task, background, tmp_path):
    evaluations = {
        place: evaluation(predictions(place[0], place[2], place[1]), tmp_path / str(number), NO_VALIDATION)
        for number, place in enumerate(task.evaluations)
    }
    invented = replace(background, synthetic=True)
    text = write_report(
        "t", [replace(task, evaluations=evaluations)], invented, facts={}, out=tmp_path
    ).page.read_text()
    assert "Synthetic ECGs." in text
    assert NO_VALIDATION.capitalize() in text
    assert f"Table {TABLE_NUMBERS.operating_points}." not in text
    assert f"Table {TABLE_NUMBERS.subgroups}." in text


def test_ecgs_of_one_label_leave_dashes_and_a_reason(task, background, tmp_path):
    healthy = {}
    for place in task.evaluations:
        if place[2] == "abroad":
            table = predictions(place[0], place[2]).with_columns(label=pl.lit(0, pl.Int8))
            healthy[place] = evaluation(table, tmp_path / "healthy" / f"{place[0]}_{place[1]}")
    results = [replace(task, evaluations=task.evaluations | healthy)]
    made = write_report("t", results, background, facts={}, out=tmp_path)
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
