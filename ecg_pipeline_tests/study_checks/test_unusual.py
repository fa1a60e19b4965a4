"""Studies that are unusual but can be run are not refused, and what is wrong in an extended file is said there."""

import pytest

from ecg_pipeline.study import StudyError, load_study
from ecg_pipeline.study_checks import problems

ANY_MODEL = "tasks: {low_lvef: {prompts: null}, hcm: {models: null}, stemi: {models: null}}\n"
NO_IMAGES = f"extends: demo\npaper: null\n{ANY_MODEL}models: {{heartbeit: null}}\npretraining: null\n"


@pytest.mark.parametrize(
    "text",
    [
        # One folder of exports for two hospitals that their exports tell apart.
        "extends: heartbeit\nsites: {brooklyn: {path: '${ECG_DATA}/beth_israel'}}\n",
        # A data set whose folder holds exports of another site, which it passes by.
        "extends: ptb_xl_small\nsites: {muse_xml: {path: '${ECG_DATA}/ptb_xl/muse'}}\n",
        # Longer recordings, and filters to match.
        "extends: heartbeit\nfilters: {samples: 5000}\ningest: {minimum_seconds: 10.0}\n",
        # Every task with fractions of its own.
        "extends: ptb_xl_small\nfractions: []\ntasks: {myocardial_infarction: {fractions: [1.0]}}\n",
        # Folds where there are some, and hashes elsewhere.
        "extends: heartbeit\nsplit: {kind: ptb_xl_folds}\n",
        # Another grid, of a network that is not pretrained.
        "extends: ptb_xl\nmodels: {coarse: {family: heartbeit, patch_px: 32}}\n",
        # A network with a tag of timm's.
        "extends: ptb_xl\nmodels: {resnet_152: {name: resnet152.a1_in1k}}\n",
        # Without images, no sheet is compared with natural images, and no recording must be as long as a sheet.
        f"{NO_IMAGES}sheet: {{height_px: 448, width_px: 448, margin_px: 32}}\nfilters: {{samples: 5000}}\n",
        # Without pretraining here, no site must be pretrained on.
        f"{NO_IMAGES}sites: {{mount_sinai: {{pretraining: false}}, beth_israel: {{pretraining: false}}}}\n",
        # A name that is an asset's where a tokenizer is fitted.
        f"extends: demo\n{ANY_MODEL}models: {{heartbeit: null, image_tokenizer: {{family: timm}}}}\npretraining:\n",
        # Two arms that fine-tuning alone distinguishes.
        "extends: demo\nmodels: {long: {like: heartbeit}}\nfinetuning: {models: {long: {epochs: 9}}}\n",
        # One pretraining for all seeds of fine-tuning, and one for each.
        "extends: demo\nfinetuning: {seeds: [3, 1]}\n",
        "extends: demo\nfinetuning: {seeds: [3, 1]}\npretraining: {heartbeit: {recipe: {seeds: [1, 2, 3]}}}\n",
        # Pretraining with the defaults of its family.
        "extends: demo\npretraining: {heartbeit: {recipe: null}}\n",
        # A null in a section that the extended study does not have.
        "extends: demo\nwindows: {raw: {filter: null}}\npretraining: {small_cnn: null}\n",
        # Two windows, each with a model for its leads.
        "extends: demo\nwindows: {two: {leads: [I, II]}}\nmodels: {two: {family: small_cnn, window: two, leads: 2}}\n",
    ],
)
def test_an_unusual_study_is_not_refused(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert problems(load_study(path)) == []


def test_what_is_wrong_in_a_file_that_is_extended_is_told_there(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: demo\nfilters:\n  samples: 5000\n")
    (tmp_path / "study.yaml").write_text("extends: base.yaml\ntitle: One more\n")
    with pytest.raises(StudyError, match=r"base\.yaml:3: filters\.samples: 5000 samples"):
        load_study(tmp_path / "study.yaml")


def test_a_model_that_is_removed_is_missed_where_it_is_pretrained(tmp_path):
    (tmp_path / "study.yaml").write_text("extends: demo\nmodels: {heartbeit: null}\n")
    with pytest.raises(StudyError) as error:
        load_study(tmp_path / "study.yaml")
    (line,) = str(error.value).split("\n")
    place, said = line.split(": ", 1)
    assert "demo.yaml:" in place
    assert said == (
        "pretraining.heartbeit: there is no model `heartbeit` to pretrain; the models are small_cnn, ecg_fm, "
        "ecgfounder, d_beta (`heartbeit: null` removes an inherited pretraining)"
    )
