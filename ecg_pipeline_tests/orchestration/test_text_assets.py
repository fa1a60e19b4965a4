"""Texts from private exports to tokens: the assets of a study whose model reads them, and no person in any of them."""

import json

import numpy as np
import polars as pl
import pytest
from safetensors.torch import save_file

from ecg_pipeline.cohorts.pretraining_set import pretraining_set, training_sets
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.models.small_cnn import SmallCnn
from ecg_pipeline.models.t5 import T5Encoder
from ecg_pipeline.models.t5_shape import shape_of
from ecg_pipeline.orchestration.assets import ingest as records
from ecg_pipeline.orchestration.assets.published import published_names
from ecg_pipeline.orchestration.assets.texts import embedder
from ecg_pipeline.provenance.trace import Subject, trace
from ecg_pipeline.provenance.withdraw import CHECKED
from ecg_pipeline.study import StudyError, load_study
from ecg_pipeline.synthetic.drop_folders import TYPED
from ecg_pipeline.synthetic.hospital import HospitalSystem, read_planted, write_hospital_system
from ecg_pipeline.texts.encode import TEXT_ID, TextTokens
from ecg_pipeline.texts.negatives import TextNegatives
from ecg_pipeline.texts.similarity import tf_idf
from ecg_pipeline.texts.site_texts import ClinicalTexts
from ecg_pipeline.texts.tokenizer import TextTokenizer, import_tokenizer, train_tokenizer
from ecg_pipeline.training.recipes import PretrainRecipe
from ecg_pipeline_tests.orchestration.conftest import open_runner
from ecg_pipeline_tests.orchestration.test_private_patients import KEY, databases, dump, files_below, table_text
from ecg_pipeline_tests.texts.test_tokenizer import t5_folder

PRIVATE, PUBLIC = ("mount_sinai", "beth_israel"), "ptb_xl_like"
STUDY = """\
name: texts
title: Texts
sites:
  mount_sinai: {{title: A, format: muse_xml, path: {system}/mount_sinai, mrn_system: all, pretraining: true}}
  beth_israel: {{title: B, format: muse_xml, path: {system}/beth_israel, mrn_system: all, role: external}}
  ptb_xl_like: {{title: P, format: ptb_xl, path: {system}/ptb_xl_like, patients: public, pretraining: true}}
split: {{test: 0.3, validation: 0.15}}
windows: {{ten_seconds: {{sampling_hz: 100, short: pad}}}}
models: {{small_cnn: {{family: small_cnn, window: ten_seconds, widths: [8]}}}}
pretraining: {{small_cnn: {{recipe: {{epochs: 1, warmup_epochs: 0}}}}}}
texts: {{vocabulary: 200, longest: 32, negatives: 16}}
tasks:
  norm:
    title: Normal
    sites: [ptb_xl_like]
    rule: {{kind: statement, system: scp, positive: [NORM]}}
"""


@pytest.fixture(scope="module")
def reading():
    """Small CNNs that would be pretrained on texts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SmallCnn, "targets", ("text_tokens",))
        patch.setattr(SmallCnn, "fitted", ("text_tokenizer", "text_negatives"))
        patch.setattr(SmallCnn, "pretraining", PretrainRecipe)
        yield patch


@pytest.fixture(scope="module")
def texts(reading, tmp_path_factory):
    """The workspace of a study after its text tokens were materialised, and the folder of its hospitals."""
    folder = tmp_path_factory.mktemp("texts")
    write_hospital_system(HospitalSystem(patients=100, ecgs=150, seed=3), folder / "system")
    study = folder / "study.yaml"
    study.write_text(STUDY.format(system=folder / "system"))
    reading.setenv("ECG_HOME", str(folder / "home"))
    reading.setenv("ECG_STUDY", str(study))
    reading.setenv("ECG_PSEUDONYM_KEY", KEY)
    reading.setattr(records, "SETTLE_S", 0.0)
    runner = open_runner(study)
    assert runner.run_stale(["+text_tokens"])
    assert runner.run_stale(["+text_tokens"]) == []
    return runner.workspace, folder / "system"


def made(workspace, handle, asset, site=None):
    return handle(workspace.archive.folder(workspace.archive.require(asset, site)))


def test_tokenizer_and_negatives_are_of_training_patients_alone(texts):
    workspace, _ = texts
    sites = (PRIVATE[0], PUBLIC)
    stores = [made(workspace, WaveformStore, "waveform_store", site).ecgs() for site in sites]
    said = pl.concat([made(workspace, ClinicalTexts, "clinical_texts", site).texts() for site in sites])
    wanted = pretraining_set(stores, workspace.study.split).join(said, on="ecg_id", how="semi")
    assert 0 < len(wanted) < len(said)
    for asset, handle in (("text_tokenizer", TextTokenizer), ("text_negatives", TextNegatives)):
        folder = made(workspace, handle, asset).folder
        assert training_sets(folder)[asset].sort("ecg_id").equals(wanted.sort("ecg_id"))
        assert [check.name for check in workspace.archive.require(asset, None).checks] == ["no_withdrawn_patients"]
        assert asset in CHECKED
    table = made(workspace, TextNegatives, "text_negatives").table()
    trained = said.join(wanted, on="ecg_id", how="semi")
    assert set(table["text"]) == set(trained["text"])
    assert made(workspace, TextTokenizer, "text_tokenizer").config()["texts"] == len(trained)


def test_each_site_has_tokens_and_only_tested_patients_have_texts_without_an_id(texts):
    workspace, _ = texts
    for site in workspace.study.sites:
        tokens = made(workspace, TextTokens, "text_tokens", site)
        rows = np.concatenate([array for _, array in tokens])
        assert rows.shape == (len(tokens), workspace.study.shapes["text_tokens"][0])
        store = made(workspace, WaveformStore, "waveform_store", site).ecgs()
        said = made(workspace, ClinicalTexts, "clinical_texts", site).texts()
        assert sorted(tokens.index()["ecg_id"]) == sorted(store.join(said, on="ecg_id", how="semi")["ecg_id"])
    fitted = training_sets(made(workspace, TextNegatives, "text_negatives").folder)["text_negatives"]
    own = fitted.filter(pl.col("site") == PUBLIC)["ecg_id"].to_list()
    assert (made(workspace, TextTokens, "text_tokens", PUBLIC).read_ecgs(own)[:, TEXT_ID] >= 0).all()


def test_a_patient_is_traced_to_what_was_fitted_to_their_texts(texts):
    workspace, _ = texts
    fitted = training_sets(made(workspace, TextTokenizer, "text_tokenizer").folder)["text_tokenizer"]
    patient = fitted.filter(pl.col("site") == PRIVATE[0])["patient"][0]
    found = trace(workspace.archive, Subject(patients=frozenset([patient])))
    uses = {(use.asset, use.how) for use in found.uses}
    assert {("text_tokenizer", "text tokenizer fitted to"), ("text_negatives", "text negatives fitted to")} <= uses
    assert ("clinical_texts", "holds") in uses
    assert {("text_tokens", site) for site in workspace.study.sites} <= found.newest()


def test_no_person_and_nothing_typed_is_in_anything_that_was_written(texts):
    workspace, system = texts
    planted = [name.lower().encode() for name in read_planted(system).identities]
    exports = b"".join(path.read_bytes() for path in (system / PRIVATE[0]).glob("*.xml")).lower()
    assert TYPED.encode() in exports
    assert sum(name in exports for name in planted) > 50
    contents = {path: path.read_bytes() for path in files_below(workspace.home)}
    contents |= {path / "as text": table_text(path) for path in contents if path.suffix == ".parquet"}
    contents |= {path / "as text": dump(path) for path in databases(workspace.home)}
    hidden = [*(name for name in planted if len(name) > 5), TYPED.encode(), b"edit:", b"unbest\xc3\xa4tigt"]
    for path, content in contents.items():
        assert [word for word in hidden if word in content.lower()] == [], path
    read = made(workspace, ClinicalTexts, "clinical_texts", PRIVATE[0]).texts()
    short = {name.decode() for name in planted}
    assert not short & {word for text in read["text"] for word in text.split()}


@pytest.mark.usefixtures("reading")
def test_a_t5_is_named_by_its_folder(tmp_path):
    (tmp_path / "study.yaml").write_text(STUDY.format(system=tmp_path).replace("vocabulary: 200", "t5: flan"))
    assert published_names(load_study(tmp_path / "study.yaml")) == {
        "text_tokenizer": "flan/tokenizer.json",
        "text_encoder_config": "flan/config.json",
        "text_encoder": "flan/model.safetensors",
    }


def test_texts_are_compared_by_the_t5_of_their_tokenizer(tmp_path):
    shape = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2, "feed_forward_proj": "gated-gelu"}
    folder = t5_folder(tmp_path / "flan")
    (folder / "config.json").write_text(json.dumps(shape))
    encoder = T5Encoder(shape_of(shape), vocabulary=9)
    save_file(
        {name: weight.contiguous() for name, weight in encoder.state_dict().items()}, folder / "model.safetensors"
    )
    tokenizer = import_tokenizer(folder, longest=8, texts=[], out=tmp_path / "made")
    embed = embedder(tokenizer)
    beside, alone = embed(["a", "a a a a a"]), embed(["a"])
    assert beside.shape == (2, 16)
    assert np.allclose(beside[0], alone[0], atol=1e-6)
    assert not np.allclose(beside[0], beside[1], atol=1e-3)
    trained = train_tokenizer(["a"], vocabulary=16, longest=8, out=tmp_path / "trained")
    assert embedder(trained) is tf_idf


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("texts: {t5: ../flan}", "3: texts.t5: t5 must be the name of a folder"),
        ("texts: {negatives: 0}", "3: texts.negatives: negatives must be at least 1"),
        ("texts: {longest: 513}", "3: texts.longest: longest must be at most 512"),
        (
            "sites: {mount_sinai: {format: cinc}, ptb_xl_like: {pretraining: false}}",
            "sites: texts are pretrained on, but no pretraining site has any",
        ),
    ],
)
@pytest.mark.usefixtures("reading")
def test_what_cannot_be_read_is_refused(tmp_path, change, said):
    (tmp_path / "base.yaml").write_text(STUDY.format(system=tmp_path))
    (tmp_path / "study.yaml").write_text(f"extends: base.yaml\nname: other\n{change}\n")
    with pytest.raises(StudyError) as error:
        load_study(tmp_path / "study.yaml")
    assert said in str(error.value)


def test_a_study_whose_models_read_no_texts_has_no_such_asset():
    from ecg_pipeline.orchestration.assets import study_assets
    from ecg_pipeline.study import study_file

    made = [asset for asset in study_assets(load_study(study_file("heartbeit"))) if hasattr(asset, "keys")]
    keys = {key.to_user_string() for asset in made for key in asset.keys}
    assert "clinical_labels" in keys
    assert not keys & {"clinical_texts", "text_tokenizer", "text_negatives", "text_tokens"}
