"""The card says in words what the other formats say in JSON."""

from itertools import pairwise

from ecg_pipeline.provenance.export.model_card import card
from ecg_pipeline_tests.provenance.homes import METRICS


def test_the_card_states_the_facts(facts, exported):
    text = exported("model-card").read_text()
    assert text == card(facts)
    assert "**Every patient is synthetic" in text
    assert "Task: Left ventricular ejection fraction of 40 % or less." in text
    value, low, high = METRICS["auroc"]
    assert f"| auroc | {value:.3f} | {low:.3f} to {high:.3f} |" in text
    assert "| low_lvef/cohort | cohort.parquet | mount_sinai | train | 0 | 22 | 11 |" in text
    assert "| low_lvef/heartbeit/finetuned_model@1 | masked image modelling | – | – | – |" in text
    assert facts.output.record in text
    for file in facts.output.files:
        assert file.sha256 in text
    for source in facts.sources:
        assert source.name in text


def test_tables_have_as_many_cells_as_columns(exported):
    lines = exported("model-card").read_text().replace("\\|", "").splitlines()
    for above, line in pairwise(lines):
        if above.startswith("|") and line.startswith("|"):
            assert line.count("|") == above.count("|"), line
