"""Models that could be read but not run are refused: what they read, arms, pretraining and seeds."""

import numpy as np
import pytest
import timm
import torch

from ecg_pipeline.models import heartbeit
from ecg_pipeline.models.comparators.timm_names import _registered, is_timm_model
from ecg_pipeline.study import StudyError, load_study, study_file
from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.pixels import token_view
from ecg_pipeline.tokens.recipes import GRID
from ecg_pipeline.training.recipes import ProbeRecipe
from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
    (
        """\
extends: demo
filters:
  order: 2
  samples: 5000
""",
        [
            "4: filters.samples: 5000 samples at 500 Hz are 10 s, but recordings of 5 s are accepted: raise "
            "ingest.minimum_seconds, or filter fewer samples",
        ],
    ),
    (
        """\
extends: demo
ingest: {minimum_seconds: 4.5}
""",
        [
            "2: ingest.minimum_seconds: 2500 samples at 500 Hz are 5 s, but recordings of 4.5 s are accepted: raise "
            "ingest.minimum_seconds, or filter fewer samples",
        ],
    ),
    (
        """\
extends: demo
sheet:
  margin_px: 32
  height_px: 448
  width_px: 448
""",
        [
            "4: sheet.height_px: a sheet of 448 x 448 px cannot be compared with natural images, which are 224 x 224 "
            "px: set it to 224",
            "5: sheet.width_px: a sheet of 448 x 448 px cannot be compared with natural images, which are 224 x 224 "
            "px: set it to 224",
        ],
    ),
    (
        """\
extends: demo
models:
  resnet:
    family: timm
    image_px: 384
""",
        [
            "5: models.resnet.image_px: the model takes images of 384 x 384 px, but sheets have 224 x 224 px: make "
            "them equal",
        ],
    ),
    (
        """\
extends: demo
models:
  heartbeit:
    patch_px: 32
""",
        [
            "4: models.heartbeit.patch_px: patches of 32 px divide 224 px into 7 x 7, but an image has 14 x 14 "
            "tokens: choose patch_px = image_px / 14",
        ],
    ),
    (
        """\
extends: demo
models:
  heartbeit:
    heads: 5
""",
        [
            "4: models.heartbeit.heads: width 64 does not divide into 5 heads",
        ],
    ),
    (
        """\
extends: demo
models:
  resnet:
    family: timm
    name: resnet_of_nobody
""",
        [
            "5: models.resnet.name: timm has no model `resnet_of_nobody`; `timm.list_models()` lists them",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      mask: {patches: 196}
""",
        [
            "5: pretraining.heartbeit.recipe.mask.patches: 196 of 196 masked patches leave none visible: mask fewer",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      mask: {patches: 15, smallest_block: 15, aspect: 1.0}
""",
        [
            "5: pretraining.heartbeit.recipe.mask.smallest_block: no block of 15 to 15 patches with sides of 1 or "
            "more to 1 fits into 14 x 14, so nothing would be masked: allow smaller or longer blocks",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      mask: {patches: 190, smallest_block: 185}
""",
        [
            "5: pretraining.heartbeit.recipe.mask.smallest_block: no block of 185 to 190 patches with sides of 0.3 "
            "or more to 1 fits into 14 x 14, so nothing would be masked: allow smaller or longer blocks",
        ],
    ),
    (
        """\
extends: demo
models:
  heartbeit:
    image_px: 448
""",
        [
            "4: models.heartbeit.image_px: the model takes images of 448 x 448 px, but sheets have 224 x 224 px: "
            "make them equal",
        ],
    ),
    (
        """\
extends: demo
models:
  small_cnn:
    window: five_seconds
""",
        [
            "4: models.small_cnn.window: the study has no view `waveform_windows/five_seconds`, which `small_cnn` "
            "reads; its views are image_shards, waveform_windows/ten_seconds, waveform_windows/segments, "
            "waveform_windows/filtered_window, waveform_windows/millivolts",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds: null
""",
        [
            "2: windows: the study has no view `waveform_windows/ten_seconds`, which `small_cnn` reads; its views "
            "are image_shards, waveform_windows/segments, waveform_windows/filtered_window, "
            "waveform_windows/millivolts",
        ],
    ),
    (
        """\
extends: demo
models:
  small_cnn: {window: ten_seconds,
    leads: 8}
""",
        [
            "4: models.small_cnn.leads: the window `ten_seconds` has 12 leads, not 8",
        ],
    ),
    (
        """\
extends: demo
windows:
  ten_seconds:
    leads: [I, II, V1]
""",
        [
            "3: windows.ten_seconds: the window `ten_seconds` has 3 leads, not 12",
        ],
    ),
    # As MIMIC-IV-ECG orders them: taken-over weights would read aVF as aVL, and nothing would fail.
    (
        """\
extends: demo
windows:
  filtered_window:
    leads: [I, II, III, aVR, aVF, aVL, V1, V2, V3, V4, V5, V6]
  segments:
    leads: [V1, V2, V3, V4, V5, V6, I, II, III, aVR, aVL, aVF]
""",
        [
            "6: windows.segments.leads: `ecg_fm` takes the leads for I, II, III, aVR, aVL, aVF, V1, V2, V3, V4, V5, "
            "V6, but those of `segments` are V1, V2, V3, V4, V5, V6, I, II, III, aVR, aVL, aVF: give them in that "
            "order",
            "4: windows.filtered_window.leads: `ecgfounder` takes the leads for I, II, III, aVR, aVL, aVF, V1, V2, V3, "
            "V4, V5, V6, but those of `filtered_window` are I, II, III, aVR, aVF, aVL, V1, V2, V3, V4, V5, V6: give "
            "them in that order",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: nobody}
""",
        [
            "3: models.other.like: `nobody` is no model with a network of its own; those are heartbeit, small_cnn, "
            "ecg_fm, ecgfounder, d_beta",
        ],
    ),
    (
        """\
extends: demo
models:
  scratch: {like: heartbeit, pretrained: false}
  other:
    like: scratch
""",
        [
            "5: models.other.like: `scratch` is no model with a network of its own; those are heartbeit, small_cnn, "
            "ecg_fm, ecgfounder, d_beta",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: other}
""",
        [
            "3: models.other.like: `other` is no model with a network of its own; those are heartbeit, small_cnn, "
            "ecg_fm, ecgfounder, d_beta",
        ],
    ),
    (
        """\
extends: ptb_xl
models:
  heartbeit: null
pretraining: {heartbeit: null}
""",
        [
            "3: models.heartbeit: `heartbeit` is no model with a network of its own; those are vit_b16, "
            "efficientnet_b4, resnet_152, small_cnn",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: heartbeit}
""",
        [
            "3: models.other: the model is the same as `heartbeit`: change `pretrained`, or give it a fine-tuning of "
            "its own",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: heartbeit}
finetuning:
  models: {other: {epochs: 5}}
""",
        [
            "3: models.other: the model is the same as `heartbeit`: change `pretrained`, or give it a fine-tuning of "
            "its own",
        ],
    ),
    (
        """\
extends: demo
models:
  other: {like: small_cnn,
    pretrained: false}
finetuning: {models: {small_cnn: null}}
""",
        [
            "4: models.other.pretrained: the model is the same as `small_cnn`: give it a fine-tuning of its own",
        ],
    ),
    (
        """\
extends: demo
models:
  scratch: {like: heartbeit, pretrained: false}
  other: {like: heartbeit, pretrained: false}
""",
        [
            "4: models.other.pretrained: the model is the same as `scratch`: change `pretrained`, or give it a "
            "fine-tuning of its own",
        ],
    ),
    (
        """\
extends: demo
models:
  probe: {like: heartbeit, frozen: true}
finetuning:
  models:
    probe:
      epochs: 3
      layer_decay: 0.5
      time_shift: 0.0
""",
        [
            f"{line}: finetuning.models.probe.{key}: `probe` is frozen: a logistic regression on its features is "
            f"fitted, which has no {key}; remove it (`{key}: null` removes an inherited one)"
            for line, key in ((7, "epochs"), (8, "layer_decay"), (9, "time_shift"))
        ],
    ),
    (
        """\
extends: demo
models:
  probe: {like: heartbeit, frozen: true}
  other:
    like: heartbeit
    frozen: true
""",
        [
            "4: models.other: the model is the same as `probe`: change `pretrained`, or remove it",
        ],
    ),
    (
        """\
extends: demo
models:
  probe: {like: small_cnn, frozen: true}
  other:
    like: probe
    frozen: true
""",
        [
            "5: models.other.like: `probe` is no model with a network of its own; those are heartbeit, small_cnn, "
            "ecg_fm, ecgfounder, d_beta",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  heartbeit:
    recipe:
      seeds: [1, 2]
finetuning: {seeds: [0, 1, 2, 3]}
""",
        [
            "5: pretraining.heartbeit.recipe.seeds: fine-tuning has the seeds 0, 1, 2, 3, but no network is "
            "pretrained with 0, 3: pretrain with the same seeds, or with one",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  models:
    nobody: {epochs: 3}
""",
        [
            "4: finetuning.models.nobody: there is no model `nobody` to fine-tune; the models are heartbeit, "
            "small_cnn, ecg_fm, ecgfounder, d_beta",
        ],
    ),
    (
        """\
extends: demo
models:
  small_cnn: null
tasks: {hcm: {models: null}, stemi: {models: null}}
""",
        [
            "3: models.small_cnn: there is no model `small_cnn` to fine-tune; the models are heartbeit, ecg_fm, "
            "ecgfounder, d_beta",
        ],
    ),
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_a_wrong_model_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors


def test_a_sheet_has_as_many_tokens_as_the_checks_know():
    ink = torch.from_numpy(token_view(np.zeros((1, 224, 224), np.uint8)))[:, None]
    assert DiscreteVae(vocabulary=4, hidden=2).encode(ink).shape[2:] == (GRID, GRID)


def test_timms_names_are_those_that_timm_lists():
    assert _registered() == set(timm.list_models())
    assert is_timm_model("vit_base_patch16_224.augreg_in1k")
    assert not is_timm_model("resnet_of_nobody")


def test_a_target_without_an_asset_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(heartbeit.FAMILY, "targets", ("patch_tokens", "report_tokens"))
    with pytest.raises(StudyError, match=r"pretraining.heartbeit: its family predicts report_tokens, for which there"):
        load_study(study_file("demo"))


def test_frozen_arms_are_probes_with_the_studys_seeds_and_protocol(tmp_path):
    path = tmp_path / "study.yaml"
    arms = "probe: {like: heartbeit, frozen: true}, random: {like: heartbeit, frozen: true, pretrained: false}"
    path.write_text(
        f"extends: demo\nmodels: {{{arms}, cnn: {{like: small_cnn, frozen: true}}}}\n"
        "tasks:\n"
        "  low_lvef: {models: [heartbeit], prompts: null}\n"
        "  hcm: {models: [probe, random]}\n"
        "  stemi: {models: [cnn]}\n"
        "finetuning: {seeds: [4, 5], protocol: official}\n"
    )
    study = load_study(path)
    for name in ("probe", "random", "cnn"):
        assert study.tuning(name) == ProbeRecipe(seeds=(4, 5), protocol="official")
        assert study.tuning(name).chosen_on == "test"
    assert [study.starts_from(name) for name in ("probe", "random", "cnn")] == ["heartbeit", None, None]
    assert study.probes == {"heartbeit": ["probe", "random"], "small_cnn": ["cnn"]}
    # Features are of the sites where an arm is fitted: not of an external site, nor of another task's.
    assert study.probe_sites("heartbeit") == ["mount_sinai", "beth_israel"]
    assert study.probe_sites("small_cnn") == ["ptb_xl_like"]
    assert not load_study(study_file("demo")).probes
