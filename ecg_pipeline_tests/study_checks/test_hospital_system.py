"""Synthetic studies ask for nothing that the synthetic hospital system does not write."""

import polars as pl
import pytest

from ecg_pipeline.study_checks.hospital_system import SYNTHETIC_CODES, SYNTHETIC_TABLES
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.study_checks.refused import names, refused

IMPOSSIBLE = [
    (
        """\
extends: demo
sites:
  mount_sinai:
    path: /data/mount_sinai
""",
        [
            "4: sites.mount_sinai.path: its patients are synthetic, but the study's hospital system is written to "
            "${ECG_HOME}/hospital_system: use a folder in it",
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
            "4: sites.mount_sinai.path: sites mount_sinai and ptb_xl_like would read the same files: give each its "
            "own folder, or, for MUSE exports, different site_names",
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
            "2: synthetic: this folder is only written by synthetic studies: add `synthetic: {}`, or use another "
            "folder",
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
            "4: sites.ptb_xl_like.format: ECGs of `ptb_xl_like` carry no statements of system scp: format cinc has "
            "snomed; change the rule, or remove the site",
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
            "4: sites.mount_sinai.site_names: the exports of mount_sinai have the site name `MOUNT SINAI HOSPITAL`, "
            "so all would be rejected: add it",
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
            "4: sites.mount_sinai.label_tables: the hospital system writes no drugs.csv for mount_sinai; its label "
            "tables: diagnoses.csv, echo_reports.csv",
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
            "4: tasks.hcm.rule.code: the synthetic hospital system has no diagnosis I21.0: use another rule, or "
            "remove `mount_sinai`",
            "4: tasks.hcm.rule.code: the synthetic hospital system has no diagnosis I21.0: use another rule, or "
            "remove `beth_israel`",
            "4: tasks.hcm.rule.code: the synthetic hospital system has no diagnosis I21.0: use another rule, or "
            "remove `morningside`",
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
            "4: tasks.stemi.rule.positive: the synthetic hospital system has no statement INJECTION: use another "
            "rule, or remove `ptb_xl_like`",
        ],
    ),
]


@pytest.mark.parametrize(("text", "errors"), IMPOSSIBLE, ids=names(IMPOSSIBLE))
def test_what_it_does_not_write_is_refused_at_its_line(tmp_path, text, errors):
    assert refused(text, tmp_path) == errors


def test_what_the_checks_know_of_the_hospital_system_is_what_it_writes(tmp_path):
    write_hospital_system(HospitalSystem(patients=40, ecgs=60), tmp_path / "system")
    tables = {path.name for path in (tmp_path / "system" / "mount_sinai").glob("*.csv")}
    assert tables == SYNTHETIC_TABLES
    rows = [pl.read_csv(tmp_path / "system" / "mount_sinai" / table) for table in sorted(tables)]
    codes = set(pl.concat([row.select("system", "code") for row in rows]).unique().iter_rows())
    assert codes == {(rule.kind, code) for rule, known in SYNTHETIC_CODES.items() for code in known}
