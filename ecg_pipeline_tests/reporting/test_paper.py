"""What a page says of the paper and of TRIPOD+AI: deviations, items of the checklist, published tables."""

from dataclasses import asdict, replace

import pytest

from ecg_pipeline.cohorts.tasks import DiagnosisRule, MeasurementRule, StatementRule
from ecg_pipeline.reporting.estimate import Estimate
from ecg_pipeline.reporting.papers.heartbeit.deviations import deviations
from ecg_pipeline.reporting.papers.heartbeit.tables import published
from ecg_pipeline.reporting.tripod import ITEMS, tripod_items
from ecg_pipeline.reporting.words import outcome
from ecg_pipeline.training.recipes import FinetuneRecipe, ProbeRecipe
from ecg_pipeline_tests.reporting.two_models import of_waveforms, study_results


def test_a_study_without_images_differs_from_the_paper_in_what_it_has(task, background):
    said = " ".join(" ".join(asdict(one).values()) for one in deviations(study_results(task, of_waveforms(background))))
    assert "sheet" not in said
    assert "by a tokenizer" not in said.lower()
    assert "Pretraining, and a tokenizer" not in said
    assert "ImageNet weights" not in said


def test_a_fine_tuning_of_its_own_is_said(task, background):
    own = replace(background, own_finetuning={"other": FinetuneRecipe(epochs=33, seeds=(0, 1))})
    items = {item.number: item.text for item in tripod_items(study_results(task, own))}
    assert "20 epochs, other 33, protocol honest, 2 seeds" in items["12c"]
    said = {one.paper: one for one in deviations(study_results(task, own))}
    (one,) = [deviation for paper, deviation in said.items() if "Adam for the others" in paper]
    assert "other: with settings of their own" in one.here
    assert "none is tuned separately" not in one.effect


def test_a_probe_is_said(task, background):
    probing = replace(background, probes={"other": ProbeRecipe(c=(0.5, 1.0))})
    items = {item.number: item.text for item in tripod_items(study_results(task, probing))}
    assert "other: linear probe of a frozen " in items["12c"]
    assert "no tuning of hyperparameters, except that of the logistic regression" in items["12c"]
    assert "C is one of 0.5, 1, by AUROC on validation patients" in items["12c"]
    assert "or the chosen C of a probe, of each seed" in items["12g"]
    assert any(one.here.startswith("other: a logistic regression") for one in deviations(study_results(task, probing)))
    plain = {item.number: item.text for item in tripod_items(study_results(task, background))}
    assert "probe" not in plain["12c"] + plain["12g"]


def test_only_deviations_that_apply_are_listed(task, background):
    study = study_results(task, background)
    said = " ".join(deviation.here for deviation in deviations(study))
    assert "validation patients" in said
    assert "transfer" not in said
    assert "random initialisation" in said
    official = replace(background, finetuning=FinetuneRecipe(protocol="official"), pretraining={})
    said = [deviation.effect for deviation in deviations(replace(study, background=official))]
    assert any("optimistic" in effect for effect in said)


def test_tripod_items_that_records_cannot_answer_stay_blank(task, background):
    items = {item.number: item for item in tripod_items(study_results(task, background))}
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
    auroc, auprc = paper.metrics["auroc"], paper.metrics["average_precision"]
    assert auroc["low_lvef"]["internal"]["vit_b16"][0] == Estimate(0.67, 0.67, 0.67)
    assert auroc["stemi"]["internal"]["heartbeit"][4] == Estimate(0.95, 0.95, 0.95)
    assert auprc["hcm"]["external"]["efficientnet_b4"][0] == Estimate(0.61, 0.60, 0.61)
    assert auprc["stemi"]["internal"]["resnet_152"][4] == Estimate(0.68, 0.67, 0.68)
    for by_task in (auroc, auprc):
        assert by_task.keys() == paper.cohorts.keys()
        for task, by_split in by_task.items():
            assert ("external" in by_split) == ("external" in paper.cohorts[task])
            for by_model in by_split.values():
                assert by_model.keys() == paper.models.keys()
                for values in by_model.values():
                    assert len(values) == len(paper.fractions)
                    assert all(one.low <= one.value <= one.high for one in values)
