"""What leaks is held back: no record is written, nothing downstream goes on, and the run says what was found."""

import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from ecg_pipeline.cohorts.cohort import Cohort, assemble_cohort
from ecg_pipeline.cohorts.pretraining_set import counts, read_training_set
from ecg_pipeline.orchestration.assets import cohorts, training
from ecg_pipeline.orchestration.runs import RunsFailed
from ecg_pipeline.storage.files import read_json, write_parquet
from ecg_pipeline.training import finetune

MODEL, FRACTION = "hcm/heartbeit/finetuned_model", "1"


def found_by_checks(runner, plants, asset, partition=None):
    """What a run says that was held back, with faults planted; afterwards the output is made again, as it was."""
    archive, partitions = runner.workspace.archive, [partition] if partition else []
    before, place = archive.require(asset, partition), archive.place(asset, partition)
    (place / "record.json").unlink()
    shutil.rmtree(place / before.build)
    try:
        with pytest.MonkeyPatch.context() as patch:
            for module, name, faulty in plants:
                patch.setattr(module, name, faulty)
            with pytest.raises(RunsFailed) as told:
                runner.run_stale([asset], partitions)
        assert archive.newest(asset, partition) is None
        return str(told.value)
    finally:
        shutil.rmtree(place / before.build)
        runner.run_stale([asset], partitions)
        assert archive.require(asset, partition).data_version == before.data_version


def checkpoint_folder(runner):
    return runner.workspace.archive.folder(runner.workspace.archive.require("heartbeit/pretrained_checkpoint", None))


def cohort_table(runner, task):
    return Cohort(runner.workspace.archive.folder(runner.workspace.archive.require(f"{task}/cohort", None))).table()


def test_what_was_pretrained_on_stands_beside_the_weights_and_is_not_tested(runner):
    folder = checkpoint_folder(runner)
    told = read_json(folder / "config.json")["pretrained_on"]
    for below, seen_by in (("", "network"), ("tokenizer", "tokenizer")):
        seen = read_training_set(folder / below)
        assert seen is not None
        assert told[seen_by] == counts(seen)
        assert set(told[seen_by]) == set(runner.workspace.study.pretraining_sites)
        for task in runner.workspace.study.tasks:
            kept = cohort_table(runner, task).filter(pl.col("split") != "train")
            for column in ("ecg_id", "patient", "waveform_sha256"):
                assert not set(seen[column]) & set(kept[column])


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
        seen = read_training_set(folder)
        return None if seen is None else pl.concat([seen, tested.head(1).select(seen.columns)])

    plants = [
        (training, "read_training_set", pretrained_on_one_tested),
        (training, "_examples", with_one_tested),
        (finetune, "finetune", peeking),
    ]
    told = found_by_checks(runner, plants, MODEL, FRACTION)
    for sentence in (
        f"pretraining_never_saw_it found .*1 ECGs of the test split were seen by the pretraining: {first}",
        f"1 ECGs of the test split were seen by the tokenizer: {first}",
        f"training_never_saw_it found .*1 ECGs of the test split were seen by the fine-tuning: {last}",
        "chosen_on_validation found .*seed 0: .* has the columns test_auroc",
    ):
        assert re.search(sentence, told)


@pytest.mark.parametrize(("start", "said"), [(None, "random initialisation"), (Path("weights"), "unknown: published")])
def test_where_nothing_is_known_of_a_pretraining_the_check_says_so(start, said):
    result = training.pretraining_never_saw_it(start, pl.DataFrame({"split": []}))
    assert result.passed
    assert said in str(result.metadata["note"].value)
