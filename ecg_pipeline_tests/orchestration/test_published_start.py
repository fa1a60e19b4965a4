"""Models that start from a published file: what is printed of one, and one whose labels were the task's answers."""

from html import unescape

import mlflow
import pytest
from safetensors.torch import save_file

from ecg_pipeline.models.comparators import Comparators
from ecg_pipeline.models.comparators.network import comparator
from ecg_pipeline.models.comparators.recipes import TimmRecipe
from ecg_pipeline.orchestration.runs import RunsFailed
from ecg_pipeline.provenance.audit import audit
from ecg_pipeline.provenance.export.collect import facts_of
from ecg_pipeline.provenance.export.model_card import card
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.storage.files import read_json, sha256_file, write_json
from ecg_pipeline.tracking import tracking_uri
from ecg_pipeline.training.checkpoints import FinetunedModel
from ecg_pipeline_tests.orchestration.copies import copied_runner, with_changes

FILE, FRACTION, CHECK = "from_elsewhere.safetensors", "1", "pretraining_saw_no_answers"
LICENCE = "apache-2.0, if the file is timm's test_resnet.r160_in1k"
NETWORK = "family: timm, name: test_resnet"
RULE = "{kind: statement, positive: [INJAS, INJAL, INJIL, INJLA, INJIN]}"
CODES = f"{{title: Injury, sites: [ptb_xl_like], rule: {RULE}, models: [told]}}"
CHANGES = {
    "models": f"{{taken: {{{NETWORK}}}, told: {{{NETWORK}}}}}",
    "pretraining": f"{{taken: {{weights: {FILE}}}, told: {{weights: {FILE}}}}}",
    "tasks": "{low_lvef: {models: [resnet], prompts: null}, stemi: {models: [heartbeit, resnet, taken]}, "
    f"injury: {CODES}}}",
}


def with_labels(self, file, recipe, out, *, read=Comparators.import_weights):
    """Take over a file as if its network had been pretrained on two statements."""
    made = read(self, file, recipe, out)
    labels = {"sees": "ECGs, labels", "labels": ["scp:NORM", "scp:INJAL"]}
    write_json(out / "config.json", {**read_json(out / "config.json"), **labels})
    return made


@pytest.fixture(scope="module")
def again(runner, small_study, tmp_path_factory):
    """The small study in a home of its own, with models more that start from a file: `told` from one with labels."""
    folder = tmp_path_factory.mktemp("published")
    save_file(comparator(TimmRecipe(name="test_resnet"), None, outputs=1, seed=5).state_dict(), folder / FILE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECG_WEIGHTS", str(folder))
        opened = copied_runner(runner, with_changes(small_study, folder, **CHANGES), folder / "home", patch)
        with patch.context() as planted:
            planted.setattr(Comparators, "import_weights", with_labels)
            assert opened.run_stale(["told/pretrained_checkpoint"])
        yield opened, sha256_file(folder / FILE)


def test_file_digest_and_licence_are_said_wherever_the_model_is(again):
    runner, digest = again
    assert runner.run_stale(["+stemi/report"])
    archive = runner.workspace.archive
    record = archive.require("stemi/taken/finetuned_model", FRACTION)
    start = FinetunedModel(archive.folder(record)).config()["start"]
    assert (start["file"], start["sha256"], start["licence"]) == (FILE, digest, LICENCE)
    weights = f"published file {FILE}, SHA-256 {digest[:12]}"

    text = card(facts_of(archive, lineage(archive, record)))
    assert f"| stemi/taken/finetuned_model@1 | {weights} | natural images" in text
    assert LICENCE in text
    said = {one.record.asset: one.start for one in audit(archive, record).audited if one.start}
    assert said.keys() == {"taken/pretrained_checkpoint", record.asset}
    assert all((words["weights"], words["licence"]) == (weights, LICENCE) for words in said.values())
    run = mlflow.MlflowClient(tracking_uri(runner.workspace.home)).get_run(record.mlflow_run_id)
    assert (run.data.tags["weights"], run.data.tags["licence"]) == (weights, LICENCE)

    made = Report(archive.folder(archive.require("stemi/report", None)))
    rows = {row["model"]: row for row in made.results().iter_rows(named=True)}
    assert (rows["taken"]["weights"], rows["taken"]["licence"]) == (weights, LICENCE)
    assert (rows["heartbeit"]["weights"], rows["heartbeit"]["licence"]) == ("masked image modelling, seed 0", None)
    assert rows["heartbeit"]["pretraining_saw"] == "ECGs"
    assert rows["resnet"]["weights"] == "random initialisation"
    page = unescape(made.page.read_text())
    for line in (weights, LICENCE, "masked image modelling, seed 0", "saw ECGs", "random initialisation"):
        assert line in page


def test_answers_among_the_labels_of_a_published_file_hold_a_model_back(again):
    runner, _ = again
    with pytest.raises(RunsFailed, match=f"{CHECK} found .*were labels of the pretraining: scp:INJAL"):
        runner.run_stale(["+injury/told/finetuned_model"], [FRACTION])
    assert runner.workspace.archive.newest("injury/told/finetuned_model", FRACTION) is None
