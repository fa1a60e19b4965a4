"""What leaks is held back: no record is written, nothing downstream goes on, and the run says what was found."""

import re
import shutil
from dataclasses import asdict

import polars as pl
import pytest

from ecg_pipeline.cohorts.cohort import Cohort, assemble_cohort
from ecg_pipeline.cohorts.pretraining_set import (
    COLUMNS,
    NETWORK,
    SETS,
    UNKNOWN,
    counts,
    save_training_set,
    training_sets,
)
from ecg_pipeline.cohorts.tasks import MeasurementRule, StatementRule
from ecg_pipeline.models.family import RANDOM
from ecg_pipeline.models.start import Start
from ecg_pipeline.orchestration.answers import pretraining_saw_no_answers
from ecg_pipeline.orchestration.assets import cohorts, training
from ecg_pipeline.orchestration.checks import blocks
from ecg_pipeline.orchestration.runs import RunsFailed
from ecg_pipeline.storage.files import read_json, write_json, write_parquet
from ecg_pipeline.training import finetune
from ecg_pipeline.training.checkpoints import FinetunedModel
from ecg_pipeline_tests.orchestration.copies import copied_runner

MODEL, FRACTION = "hcm/heartbeit/finetuned_model", "1"


@pytest.fixture(scope="module")
def runner(runner, small_study, tmp_path_factory):
    """A copy, because the tests take records and builds away, which a verification of the home would find."""
    with pytest.MonkeyPatch.context() as patch:
        yield copied_runner(runner, small_study, tmp_path_factory.mktemp("leaks"), patch)


def found_by_checks(runner, plants, asset, partition=None):
    """What a run says that was held back, with faults planted; afterwards the output is made again, as it was."""
    archive, partitions = runner.workspace.archive, [partition] if partition else []
    before, place = archive.require(asset, partition), archive.place(asset, partition)
    (place / "record.json").unlink()
    shutil.rmtree(archive.folder(before))
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module, name, faulty in plants:
                patch.setattr(module, name, faulty)
            with pytest.raises(RunsFailed) as told:
                runner.run_stale([asset], partitions)
        assert archive.newest(asset, partition) is None
        return str(told.value)
    finally:
        shutil.rmtree(archive.folder(before))
        runner.run_stale([asset], partitions)
        assert archive.require(asset, partition).data_version == before.data_version


def folder_of(runner, asset, partition=None):
    return runner.workspace.archive.folder(runner.workspace.archive.require(asset, partition))


def cohort_table(runner, task):
    return Cohort(runner.workspace.archive.folder(runner.workspace.archive.require(f"{task}/cohort", None))).table()


def test_what_was_pretrained_on_stands_beside_the_weights_and_is_not_tested(runner):
    folder = folder_of(runner, "heartbeit/pretrained_checkpoint")
    told, sets = read_json(folder / SETS / "counts.json"), training_sets(folder)
    assert set(told) == set(sets) == {NETWORK, "image_tokenizer"}
    of_tokenizer = training_sets(folder_of(runner, "image_tokenizer"))
    assert sets["image_tokenizer"].equals(of_tokenizer["image_tokenizer"])
    for seen_by, seen in sets.items():
        assert told[seen_by] == counts(seen)
        assert set(told[seen_by]) == set(runner.workspace.study.pretraining_sites)
        for task in runner.workspace.study.tasks:
            kept = cohort_table(runner, task).filter(pl.col("split") != "train")
            for column in ("ecg_id", "patient", "waveform_sha256"):
                assert not set(seen[column]) & set(kept[column])


def test_a_model_keeps_beside_it_what_its_own_start_saw(runner):
    """Whoever has the fine-tuned model alone can compare: only the one with a pretrained start has such tables."""
    start = training_sets(folder_of(runner, "heartbeit/pretrained_checkpoint"))
    kept = training_sets(folder_of(runner, "low_lvef/heartbeit/finetuned_model", "1"))
    assert set(kept) == set(start)
    assert all(kept[name].equals(start[name]) for name in start)
    for model in ("resnet", "small_cnn"):
        folder = folder_of(runner, f"low_lvef/{model}/finetuned_model", "1")
        assert not (folder / SETS).exists()
        assert FinetunedModel(folder).config()["initialisation"] == "random initialisation"


def moved(table):
    """A training patient's ECG is in the test split too, under another id."""
    copy = table.filter(pl.col("split") == "train").head(1).with_columns(ecg_id=pl.lit("new"), split=pl.lit("test"))
    return pl.concat([table, copy.with_columns(fraction_order=None).cast(dict(table.schema))])


def swapped(table):
    """Positives are negatives."""
    return table.with_columns(label=1 - pl.col("label"))


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (moved, ["patients_in_one_split found .*1 patients are", "waveforms_in_one_split found .*1 waveforms are"]),
        (swapped, ["labels_follow_the_rule found .* ECGs have another label than the rule gives them"]),
    ],
)
def test_a_cohort_that_leaks_is_held_back(runner, fault, found):
    def leaking(*arguments, **options):
        made = assemble_cohort(*arguments, **options)
        write_parquet(made.folder / "cohort.parquet", fault(made.table()))
        return made

    told = found_by_checks(runner, [(cohorts, "assemble_cohort", leaking)], "hcm/cohort")
    for sentence in found:
        assert re.search(sentence, told)


def test_a_model_that_saw_test_patients_is_held_back(runner):
    """Three at once: a test patient among those pretrained on, another among those trained on, a look at the test."""
    honest, examples = finetune.finetune, training._examples
    tested = cohort_table(runner, "hcm").filter(pl.col("split") == "test").sort("ecg_id")
    first, last = tested["ecg_id"][0], tested["ecg_id"][-1]

    def peeking(*arguments, **options):
        made = honest(*arguments, **options)
        path = made.folder / "seed_0" / "trace.parquet"
        write_parquet(path, pl.read_parquet(path).with_columns(test_auroc=pl.lit(0.9)))
        return made

    def with_one_tested(*arguments, **options):
        train, selection = examples(*arguments, **options)
        return pl.concat([train, tested.tail(1)]), selection

    def pretrained_on_one_tested(folder):
        sets = training_sets(folder)
        return {name: pl.concat([seen, tested.head(1).select(seen.columns)]) for name, seen in sets.items()}

    plants = [
        (training, "training_sets", pretrained_on_one_tested),
        (training, "_examples", with_one_tested),
        (finetune, "finetune", peeking),
    ]
    told = found_by_checks(runner, plants, MODEL, FRACTION)
    for sentence in (
        f"pretraining_never_saw_it found .*1 ECGs of the test split were seen by the pretraining: {first}",
        f"1 ECGs of the test split were seen by the image tokenizer: {first}",
        f"training_never_saw_it found .*1 ECGs of the test split were seen by the fine-tuning: {last}",
        "chosen_on_validation found .*seed 0: .* has the columns test_auroc",
    ):
        assert re.search(sentence, told)


def finetuned(folder, initialisation, **sets):
    """A fine-tuned model of which no more is known than where it started, and what was seen before."""
    write_json(folder / "config.json", {"initialisation": initialisation})
    for name, seen in sets.items():
        save_training_set(folder, name, seen)
    return FinetunedModel(folder)


def ecgs(*ids):
    return pl.DataFrame({column: [f"{one}'s {column}" for one in ids] for column in COLUMNS}).with_columns(
        ecg_id=pl.Series(ids, dtype=pl.String)
    )


@pytest.mark.parametrize(
    ("initialisation", "sets", "said", "severity"),
    [
        ("random initialisation", {}, "nothing was pretrained: random initialisation", "ERROR"),
        ("published weights", {NETWORK: None}, f"what the network saw is {UNKNOWN}", "WARN"),
        (
            "masked image modelling",
            {NETWORK: ecgs("a"), "image_tokenizer": ecgs("b")},
            "1 ECGs were pretrained",
            "ERROR",
        ),
        (
            "masked image modelling",
            {NETWORK: ecgs("a"), "image_tokenizer": None},
            f"what the image tokenizer saw is {UNKNOWN}",
            "WARN",
        ),
    ],
)
def test_what_is_known_of_a_pretraining_is_said_where_nothing_leaked(tmp_path, initialisation, sets, said, severity):
    held_out = ecgs("c").with_columns(split=pl.lit("test"))
    result = training.pretraining_never_saw_it(finetuned(tmp_path, initialisation, **sets), held_out)
    assert (result.passed, result.severity.name) == (True, severity)
    assert said in str(result.metadata["note"].value)


def test_what_the_network_saw_is_compared_though_the_tokenizer_is_a_published_one(tmp_path):
    model = finetuned(tmp_path, "masked image modelling", **{NETWORK: ecgs("a", "c"), "image_tokenizer": None})
    result = training.pretraining_never_saw_it(model, ecgs("c").with_columns(split=pl.lit("test")))
    assert blocks(result)
    assert "1 ECGs of the test split were seen by the pretraining: c" in str(result.metadata["found"].value)


STATED, MEASURED = StatementRule(positive=("IMI",)), MeasurementRule()
HERE = {"initialisation": "supervised pretraining", "start": asdict(Start(objective="supervised pretraining"))}
ELSEWHERE = {"initialisation": "published weights", "start": asdict(Start(file="a.pth", sha256="0" * 64))}


def said_of_labels(folder, rule, config, **start):
    """Whether the check of a pretraining's labels passes, how serious it is, and what it says."""
    write_json(folder / "config.json", {**config, "start": {**config["start"], **start}} if start else config)
    result = pretraining_saw_no_answers(FinetunedModel(folder), rule)
    return result.passed, result.severity.name, " ".join(str(value.value) for value in result.metadata.values())


@pytest.mark.parametrize(
    ("rule", "config", "start", "passed", "severity", "said"),
    [
        (STATED, {"initialisation": RANDOM}, {}, True, "ERROR", "nothing was pretrained"),
        (STATED, HERE, {"sees": "ECGs"}, True, "ERROR", "pretraining saw ECGs"),
        (STATED, HERE, {"sees": "ECGs, labels", "labels": ["scp:NORM", "scp:IMI"]}, False, "ERROR", "scp:IMI"),
        (STATED, HERE, {"sees": "ECGs, labels", "labels": ["scp:NORM"]}, True, "ERROR", "1 labels were pretrained on"),
        (STATED, HERE, {"labels": ["scp:NORM", "snomed:164865005"]}, True, "WARN", "1 of 2 labels"),
        (STATED, HERE, {"labels": ["scp:IMI", "snomed:164865005"]}, False, "ERROR", "scp:IMI"),
        (STATED, ELSEWHERE, {"sees": "ECGs, labels", "labels": ["NORMAL ECG"]}, True, "WARN", "cannot be compared"),
        (STATED, ELSEWHERE, {"sees": "ECGs, labels"}, True, "WARN", "is unknown"),
        (MEASURED, ELSEWHERE, {"sees": "ECGs, labels", "labels": ["NORMAL ECG"]}, True, "ERROR", "by measurement"),
    ],
)
def test_what_was_asked_for_in_a_pretraining_is_compared_with_the_task(
    tmp_path, rule, config, start, passed, severity, said
):
    found = said_of_labels(tmp_path, rule, config, **start)
    assert found[:2] == (passed, severity)
    assert said in found[2]
