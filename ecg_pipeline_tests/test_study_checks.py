"""Studies that could be read but not run are refused when they are loaded, at the line to change, in one sentence."""

import numpy as np
import polars as pl
import pytest
import timm
import torch

from ecg_pipeline.models.timm_names import _registered, is_timm_model
from ecg_pipeline.study import StudyError, built_in_studies, load_study, study_file
from ecg_pipeline.study_checks import problems
from ecg_pipeline.study_checks.hospital_system import SYNTHETIC_CODES, SYNTHETIC_TABLES
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline.tokens.discrete_vae import DiscreteVae
from ecg_pipeline.tokens.pixels import token_view
from ecg_pipeline.tokens.recipes import GRID

IMPOSSIBLE = [
    (
        """\
extends: demo
paper: einthoven
""",
        [
            "2: paper: there is no paper `einthoven`; the papers are heartbeit",
        ],
    ),
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
            "2: ingest.minimum_seconds: 2500 samples at 500 Hz are 5 s, but recordings of 4.5 s are accepted: "
            "raise ingest.minimum_seconds, or filter fewer samples",
        ],
    ),
    (
        """\
extends: demo
filters:
  samples: 2500
  high_hz: 300.0
""",
        [
            "4: filters.high_hz: band-pass 0.5-300.0 Hz must lie between 0 and half of 500 Hz",
        ],
    ),
    (
        """\
extends: demo
filters:
  high_hz: 30.0
  sampling_hz: 80
""",
        [
            "4: filters.sampling_hz: 80 Hz is too slow: noise is measured above 40 Hz, which takes more than 80 Hz",
        ],
    ),
    (
        """\
extends: demo
filters:
  order: 2
  median_samples: 2501
""",
        [
            "4: filters.median_samples: a median of 2501 samples is longer than the 2500 of a waveform",
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
            "4: sheet.height_px: a sheet of 448 x 448 px cannot be compared with natural images, which are 224 x "
            "224 px: set it to 224",
            "5: sheet.width_px: a sheet of 448 x 448 px cannot be compared with natural images, which are 224 x "
            "224 px: set it to 224",
            "4: sheet.height_px: the model takes images of 224 x 224 px, but sheets have 448 x 448 px: make them equal",
        ],
    ),
    (
        """\
extends: demo
sheet:
  rows: 8
  margin_px: 15
""",
        [
            "4: sheet.margin_px: a sheet of 224 x 224 px with margins of 15 px does not divide into 8 x 1 cells "
            "of whole pixels",
        ],
    ),
    (
        """\
extends: demo
models:
  mobilenet:
    image_px: 384
""",
        [
            "4: models.mobilenet.image_px: the model takes images of 384 x 384 px, but sheets have 224 x 224 px: "
            "make them equal",
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
  mobilenet:
    name: resnet_of_nobody
""",
        [
            "4: models.mobilenet.name: timm has no model `resnet_of_nobody`; `timm.list_models()` lists them",
        ],
    ),
    (
        """\
extends: demo
models:
  mobilenet:
    weights: ''
""",
        [
            "4: models.mobilenet.weights: weights must be the name of a file, without a folder, not ``",
        ],
    ),
    (
        """\
extends: demo
models:
  mobilenet:
    weights: ..
""",
        [
            "4: models.mobilenet.weights: weights must be the name of a file, without a folder, not `..`",
        ],
    ),
    (
        """\
extends: demo
tokenizer:
  batch: 8
  vocabulary: 3
""",
        [
            "4: tokenizer.vocabulary: a vocabulary must have 4 to 32,767 tokens: with fewer its use always counts as "
            "collapsed, and tokens are stored as int16",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  model: mobilenet
""",
        [
            "3: pretraining.model: `mobilenet` is not a model of family `beit`",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    mask: {patches: 196}
""",
        [
            "4: pretraining.recipe.mask.patches: 196 of 196 masked patches leave none visible: mask fewer",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    mask:
      patches: 10
""",
        [
            "5: pretraining.recipe.mask.patches: blocks of 16 patches or more do not fit into 10",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    mask: {smallest_block: 50, largest_block: 40}
""",
        [
            "4: pretraining.recipe.mask.smallest_block: blocks of 50 patches or more do not fit into 40",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    mask: {patches: 15, smallest_block: 15, aspect: 1.0}
""",
        [
            "4: pretraining.recipe.mask.smallest_block: no block of 15 to 15 patches with sides of 1 or more "
            "to 1 fits into 14 x 14, so nothing would be masked: allow smaller or longer blocks",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    mask: {patches: 190, smallest_block: 185}
""",
        [
            "4: pretraining.recipe.mask.smallest_block: no block of 185 to 190 patches with sides of 0.3 or "
            "more to 1 fits into 14 x 14, so nothing would be masked: allow smaller or longer blocks",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    clip: 0
""",
        [
            "4: pretraining.recipe.clip: clip must be positive",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    warmup_epochs: 9
""",
        [
            "4: pretraining.recipe.warmup_epochs: warmup_epochs must lie between 0 and 5, not 9",
        ],
    ),
    (
        """\
extends: demo
pretraining:
  recipe:
    seed: -1
""",
        [
            "4: pretraining.recipe.seed: a seed must lie between 0 and 4,294,967,295, not -1",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  seeds: [0, 4294967296]
""",
        [
            "3: finetuning.seeds: a seed must lie between 0 and 4,294,967,295, not 4294967296",
        ],
    ),
    (
        """\
extends: demo
finetuning:
  max_learning_rate: .inf
""",
        [
            "3: finetuning.max_learning_rate: Input should be a finite number",
        ],
    ),
    (
        """\
extends: demo
evaluation:
  seed: -1
""",
        [
            "3: evaluation.seed: a seed must lie between 0 and 4,294,967,295, not -1",
        ],
    ),
    (
        """\
extends: demo
image_distance:
  natural: ..
""",
        [
            "3: image_distance.natural: natural must be the name of a folder below ECG_DATA, not a path: `..`",
        ],
    ),
    (
        """\
extends: demo
sites:
  mount_sinai: {pretraining: false}
  beth_israel: {pretraining: false}
""",
        [
            "2: sites: no site has `pretraining: true`: set it for at least one internal or transfer site",
        ],
    ),
    (
        """\
extends: demo
sites:
  morningside:
    pretraining: true
""",
        [
            "4: sites.morningside.pretraining: an external site must not be used for pretraining",
        ],
    ),
    (
        """\
extends: demo
sites:
  ptb_xl_like:
    site_names: [PTB]
""",
        [
            "4: sites.ptb_xl_like.site_names: files of format ptb_xl have no site name, so all would be "
            "rejected: use site_names only with muse_xml",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    label_tables: [echo_reports.csv, ../diagnoses.csv]
""",
        [
            "4: sites.brooklyn.label_tables: `../diagnoses.csv` must be the relative path of a file in the "
            "site's folder, without `..`",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    label_tables: [echo_reports.csv, echo_reports.csv]
""",
        [
            "4: sites.brooklyn.label_tables: a label table is listed twice",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    path: ''
""",
        [
            "4: sites.brooklyn.path: String should have at least 1 character",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    path: ${ECG_DATA}/beth_israel/
    site_names: [MOUNT SINAI BETH ISRAEL]
""",
        [
            "4: sites.brooklyn.path: sites beth_israel and brooklyn would read the same files: give each its "
            "own folder, or, for MUSE exports, different site_names",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  ptb_xl:
    path: ${ECG_DATA}/brooklyn/ptb_xl
""",
        [
            "4: sites.ptb_xl.path: sites brooklyn and ptb_xl would read the same files: give each its own "
            "folder, or, for MUSE exports, different site_names",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  brooklyn:
    patients: public
""",
        [
            "4: sites.brooklyn.patients: sites mount_sinai, mount_sinai_west, beth_israel, brooklyn, "
            "morningside share the mrn_system `mount_sinai_health_system`, but private, public and synthetic "
            "identifiers get different pseudonyms, so one patient would count as several: make `patients` "
            "equal, or give each site its own mrn_system",
        ],
    ),
    (
        """\
extends: heartbeit
split: {kind: ptb_xl_folds}
sites:
  ptb_xl: {mrn_system: mount_sinai_health_system, patients: private}
""",
        [
            "2: split.kind: sites mount_sinai, mount_sinai_west, beth_israel, brooklyn, morningside, ptb_xl "
            "share the mrn_system `mount_sinai_health_system`, but only those of format ptb_xl have folds, so "
            "one patient could both train and test: give each site its own mrn_system, or use `kind: "
            "patient_hash`",
        ],
    ),
    (
        """\
extends: demo
split:
  kind: ptb_xl_folds
sites: {ptb_xl_like: null}
tasks: {stemi: null}
""",
        [
            "3: split.kind: no site is of format ptb_xl, so none has folds: use `kind: patient_hash`",
        ],
    ),
    (
        """\
extends: demo
sites:
  mount_sinai:
    path: /data/mount_sinai
""",
        [
            "4: sites.mount_sinai.path: its patients are synthetic, but the study's hospital system is written "
            "to ${ECG_HOME}/hospital_system: use a folder in it",
        ],
    ),
    (
        """\
extends: demo
sites:
  mount_sinai:
    path: ${ECG_HOME}/hospital_system/mount_sinai_west
""",
        [
            "4: sites.mount_sinai.path: the hospital system has no site `mount_sinai_west`; it has mount_sinai, "
            "beth_israel, morningside, ptb_xl_like",
        ],
    ),
    (
        """\
extends: demo
sites:
  mount_sinai:
    path: ${ECG_HOME}/hospital_system
""",
        [
            "4: sites.mount_sinai.path: sites mount_sinai and ptb_xl_like would read the same files: give each "
            "its own folder, or, for MUSE exports, different site_names",
            "4: sites.mount_sinai.path: the hospital system has no site `.`; it has mount_sinai, beth_israel, "
            "morningside, ptb_xl_like",
        ],
    ),
    (
        """\
extends: demo
synthetic: null
""",
        [
            "2: synthetic: this folder is only written by synthetic studies: add `synthetic: {}`, or use "
            "another folder",
        ],
    ),
    (
        """\
extends: demo
sites:
  ptb_xl_like:
    format: csv
""",
        [
            "4: sites.ptb_xl_like.format: there is no format `csv`; the formats are muse_xml, ptb_xl, mimic_iv_ecg, "
            "cinc",
        ],
    ),
    (
        """\
extends: demo
sites:
  ptb_xl_like:
    format: cinc
""",
        [
            "4: sites.ptb_xl_like.format: the hospital system writes ptb_xl_like as ptb_xl, not as cinc",
            "4: sites.ptb_xl_like.format: ECGs of `ptb_xl_like` carry no statements of system scp: format cinc "
            "has snomed; change the rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
sites:
  mount_sinai:
    site_names: [MOUNT SINAI WEST]
""",
        [
            "4: sites.mount_sinai.site_names: the exports of mount_sinai have the site name `MOUNT SINAI "
            "HOSPITAL`, so all would be rejected: add it",
        ],
    ),
    (
        """\
extends: demo
sites:
  mount_sinai:
    label_tables: [echo_reports.csv, diagnoses.csv, drugs.csv]
""",
        [
            "4: sites.mount_sinai.label_tables: the hospital system writes no drugs.csv for mount_sinai; its "
            "label tables: diagnoses.csv, echo_reports.csv",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    rule: {code: I21.0}
""",
        [
            "4: tasks.hcm.rule.code: the synthetic hospital system has no diagnosis I21.0: use another rule, "
            "or remove `mount_sinai`",
            "4: tasks.hcm.rule.code: the synthetic hospital system has no diagnosis I21.0: use another rule, "
            "or remove `beth_israel`",
            "4: tasks.hcm.rule.code: the synthetic hospital system has no diagnosis I21.0: use another rule, "
            "or remove `morningside`",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule: {positive: [INJECTION]}
""",
        [
            "4: tasks.stemi.rule.positive: the synthetic hospital system has no statement INJECTION: use "
            "another rule, or remove `ptb_xl_like`",
        ],
    ),
    (
        """\
extends: demo
fractions: [0.001, 1.0]
""",
        [
            "2: fractions: 0.001 of at most 397 training patients is one patient, too few to train `low_lvef`: "
            "use a larger fraction, or more synthetic patients",
            "2: fractions: 0.001 of at most 397 training patients is one patient, too few to train `hcm`: use "
            "a larger fraction, or more synthetic patients",
            "2: fractions: 0.001 of at most 175 training patients is one patient, too few to train `stemi`: "
            "use a larger fraction, or more synthetic patients",
        ],
    ),
    (
        """\
extends: demo
tasks: {hcm: null, low_lvef: null, stemi: null}
""",
        [
            "2: tasks: there is no task: add at least one",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    sites: [mount_sinai, atlantis]
    external: [beth_israel]
""",
        [
            "4: tasks.hcm.sites: there is no site `atlantis`; the sites are mount_sinai, beth_israel, "
            "morningside, ptb_xl_like",
            "5: tasks.hcm.external: the role of `beth_israel` is internal: move it to `sites`, or set its role "
            "to external",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    sites: [morningside]
    external: []
""",
        [
            "4: tasks.hcm.sites: the role of `morningside` is external: move it to `external`",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    external: [morningside, morningside]
""",
        [
            "4: tasks.hcm.external: a site is listed twice",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    external: [mount_sinai]
""",
        [
            "4: tasks.hcm.external: mount_sinai cannot be both internal and external",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    sites: [ptb_xl_like]
""",
        [
            "4: tasks.hcm.sites: a diagnosis needs a label table, and `ptb_xl_like` has none: add "
            "label_tables, or remove the site",
        ],
    ),
    (
        """\
extends: demo
sites:
  morningside:
    label_tables: null
""",
        [
            "4: sites.morningside.label_tables: a measurement needs a label table, and `morningside` has none: "
            "add label_tables, or remove the site",
            "4: sites.morningside.label_tables: a diagnosis needs a label table, and `morningside` has none: "
            "add label_tables, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    sites: [mount_sinai]
""",
        [
            "4: tasks.stemi.sites: ECGs of `mount_sinai` carry no statements of system scp: format muse_xml "
            "has none; change the rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule: {system: snomed}
""",
        [
            "4: tasks.stemi.rule.system: ECGs of `ptb_xl_like` carry no statements of system snomed: format "
            "ptb_xl has scp; change the rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule: {positive: []}
""",
        [
            "4: tasks.stemi.rule.positive: no statement makes an ECG positive: name at least one",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule:
      exclude: [INJAS]
""",
        [
            "5: tasks.stemi.rule.exclude: INJAS cannot be in both `positive` and `exclude`",
        ],
    ),
    (
        """\
extends: demo
tasks:
  stemi:
    rule:
      minimum_likelihood: 101
""",
        [
            "5: tasks.stemi.rule.minimum_likelihood: minimum_likelihood of scp must lie between 0 and 100, not 101",
        ],
    ),
    (
        """\
extends: heartbeit
sites:
  ptb_xl:
    format: cinc
    label_tables: [measured.csv]
tasks:
  stemi:
    rule: {system: null, positive: null, kind: measurement}
""",
        [
            "8: tasks.stemi.rule.kind: a measurement must be close in time to the ECG, and ECGs of format cinc "
            "of `ptb_xl` have no time: use another rule, or remove the site",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    rule:
      kind: hunch
""",
        [
            "5: tasks.hcm.rule.kind: a rule needs a kind: measurement, diagnosis, statement",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    rule:
      kind: null
""",
        [
            "5: tasks.hcm.rule.kind: a rule needs a kind: measurement, diagnosis, statement",
        ],
    ),
    (
        """\
extends: demo
tasks:
  low_lvef:
    rule:
      window_days: -1
""",
        [
            "5: tasks.low_lvef.rule.window_days: a window must have 0 to 36,525 days, not -1",
        ],
    ),
    (
        """\
extends: demo
tasks:
  low_lvef:
    rule:
      codes: x
""",
        [
            "5: tasks.low_lvef.rule.codes: no such key",
        ],
    ),
    (
        """\
extends: demo
models:
  cohort: {family: timm, name: resnet18}
""",
        [
            "3: models.cohort: every task has an asset of this name: choose another for the model",
        ],
    ),
    (
        """\
extends: demo
models:
  image_tokenizer: {family: timm, name: resnet18}
tokenizer: {kind: dalle, vocabulary: null, hidden: null, steps: null, batch: null}
""",
        [
            "3: models.image_tokenizer: the tokenizer's asset has this name: choose another for the model",
        ],
    ),
    (
        """\
extends: demo
models:
  a__x: {family: timm, name: resnet18}
  x: {family: timm, name: resnet18}
tasks:
  hcm__a: {title: T, sites: [mount_sinai], rule: {kind: diagnosis}}
""",
        [
            "6: tasks.hcm__a: task `hcm__a` with model `x` gets the same name as task `hcm` with model `a__x`: "
            "rename one, without a double underscore",
        ],
    ),
    (
        """\
extends: demo
fractions: []
""",
        [
            "2: fractions: there is no fraction: add one; 1.0 is all training patients",
        ],
    ),
    (
        """\
extends: demo
fractions:
  - 0.5
  - 0.50000001
""",
        [
            "2: fractions: two fractions are equal in six digits: remove one",
            "2: fractions: 0.50000001 has more than six digits, the length of a partition key: write 0.5",
        ],
    ),
    (
        """\
extends: demo
tasks:
  hcm:
    fractions: [0.3333333333, 1.0]
""",
        [
            "4: tasks.hcm.fractions: 0.3333333333 has more than six digits, the length of a partition key: "
            "write 0.333333",
        ],
    ),
    (
        """\
extends: demo
title: One
sites:
  morningside: {}
  morningside: {role: internal}
""",
        [
            "5: morningside: duplicate of the key in line 4: remove one",
        ],
    ),
]


@pytest.mark.parametrize(("text", "says"), IMPOSSIBLE, ids=[says[0].split(": ")[1] for _, says in IMPOSSIBLE])
def test_an_impossible_study_is_refused_at_its_line(tmp_path, text, says):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    with pytest.raises(StudyError) as error:
        load_study(path)
    assert str(error.value).split("\n") == [f"{path}:{line}" for line in says]


@pytest.mark.parametrize("name", built_in_studies())
def test_the_built_in_studies_agree_with_themselves(name):
    assert problems(load_study(study_file(name))) == []


def test_what_is_wrong_in_a_file_that_is_extended_is_told_there(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: demo\nfilters:\n  samples: 5000\n")
    (tmp_path / "study.yaml").write_text("extends: base.yaml\ntitle: One more\n")
    with pytest.raises(StudyError, match=r"base\.yaml:3: filters\.samples: 5000 samples"):
        load_study(tmp_path / "study.yaml")


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
        "extends: ptb_xl\nmodels: {heartbeit_scratch: {patch_px: 32}}\n",
        # Weights with a tag of timm's.
        "extends: ptb_xl\nmodels: {resnet_152: {name: resnet152.a1_in1k}}\n",
    ],
)
def test_an_unusual_study_is_not_refused(tmp_path, text):
    path = tmp_path / "study.yaml"
    path.write_text(text)
    assert problems(load_study(path)) == []


def test_what_the_checks_know_of_the_hospital_system_is_what_it_writes(tmp_path):
    write_hospital_system(HospitalSystem(patients=40, ecgs=60), tmp_path / "system")
    tables = {path.name for path in (tmp_path / "system" / "mount_sinai").glob("*.csv")}
    assert tables == SYNTHETIC_TABLES
    rows = [pl.read_csv(tmp_path / "system" / "mount_sinai" / table) for table in sorted(tables)]
    codes = set(pl.concat([row.select("system", "code") for row in rows]).unique().iter_rows())
    assert codes == {(rule.kind, code) for rule, known in SYNTHETIC_CODES.items() for code in known}


def test_a_sheet_has_as_many_tokens_as_the_checks_know():
    ink = torch.from_numpy(token_view(np.zeros((1, 224, 224), np.uint8)))[:, None]
    assert DiscreteVae(vocabulary=4, hidden=2).encode(ink).shape[2:] == (GRID, GRID)


def test_timms_names_are_those_that_timm_lists():
    assert _registered() == set(timm.list_models())
    assert is_timm_model("vit_base_patch16_224.augreg_in1k")
    assert not is_timm_model("resnet_of_nobody")
