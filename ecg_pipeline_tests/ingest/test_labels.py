"""Labels: pseudonyms in place of patients, and one bad row or header ends nothing."""

import shutil

import polars as pl
import pytest

from ecg_pipeline.ingest.drop_folder import DropFolder, UnsettledError, list_files
from ecg_pipeline.ingest.labels import collect_labels
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.synthetic.hospital import HospitalSystem, write_hospital_system
from ecg_pipeline_tests.ingest.conftest import write_record

KEY = fixed_key("test")


def collect(drop, out):
    return collect_labels(drop, list_files(drop), key=KEY, out=out)


def test_label_tables_carry_pseudonyms(tmp_path):
    write_hospital_system(HospitalSystem(patients=60, ecgs=90, seed=1), tmp_path / "system")
    tables = ("echo_reports.csv", "./diagnoses.csv")
    drop = DropFolder("s", tmp_path / "system" / "mount_sinai", "muse_xml", mrn_system="system", label_tables=tables)
    made = collect(drop, tmp_path / "labels")
    store = ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=KEY, out=tmp_path / "store")
    labels = made.labels()
    assert set(labels["system"]) == {"measurement", "diagnosis", "muse"}
    assert labels.filter(pl.col("system") != "muse")["observed_at"].null_count() == 0
    assert {reason for reason, rows in made.skipped().items() if rows} == {"export that cannot be read"}
    patients = set(store.ecgs()["patient"].drop_nulls())
    assert len(set(made.labels()["patient"]) & patients) > 0.8 * len(patients)


def table_of(tmp_path, content):
    (tmp_path / "drop").mkdir(exist_ok=True)
    (tmp_path / "drop" / "t.csv").write_bytes(content)
    return DropFolder("s", tmp_path / "drop", "muse_xml", mrn_system="s", label_tables=("t.csv",))


@pytest.mark.parametrize("content", [b"mrn,value\n1,2\n", b"", b"\n"])
def test_a_label_table_without_its_columns_says_so(tmp_path, content):
    with pytest.raises(ValueError, match=r"no column patient_id, observed_at, system, code"):
        collect(table_of(tmp_path, content), tmp_path / "out")


def test_a_missing_label_table_and_one_that_is_still_written_say_so(tmp_path):
    drop = table_of(tmp_path, b"patient_id,observed_at,system,code,value\n")
    with pytest.raises(UnsettledError, match=r"t.csv is still being written. Run again"):
        collect_labels(drop, list_files(drop).clear(), key=KEY, out=tmp_path / "out")
    (drop.path / "t.csv").unlink()
    with pytest.raises(FileNotFoundError, match="there is no table"):
        collect(drop, tmp_path / "out")


def test_bad_rows_of_a_label_table_are_left_out_and_counted(tmp_path):
    rows = [
        b"1,2020-02-30,measurement,a,40",
        b"1,2020-02-03 04:05:06,measurement,b,40.5",
        b"1,2020-02-03T04:05:06.25,measurement,c,40",
        b"1,2020-02-03,measurement,d,40",
        b"UNKNOWN,2020-02-03,measurement,e,40",
        b"1,2020-02-03,measurement,f,nan",
        b"1,2020-02-03,measurement,g,m\xfcde",
        b"1,2020-02-03,measurement,h",
        b"1,2020-02-03,measurement,i,1,2,3,4,5",
        b"M\xfcller,2020-02-03 04:05,measurement,j,1",
    ]
    made = collect(table_of(tmp_path, b"\n".join([b"patient_id,observed_at,system,code,value", *rows])), tmp_path)
    labels = made.labels().sort("code")
    assert labels["code"].to_list() == ["a", "b", "c", "d", "i", "j"]
    assert [at and str(at) for at in labels["observed_at"]] == [
        None,
        "2020-02-03 04:05:06",
        "2020-02-03 04:05:06.250000",
        "2020-02-03 00:00:00",
        "2020-02-03 00:00:00",
        "2020-02-03 04:05:00",
    ]
    assert made.skipped() == {"row whose value is no number": 3, "row without a patient": 1}


def test_bad_rows_of_ptb_xl_are_left_out_and_counted(tmp_path, samples):
    bad = [
        "{'A'",
        "[1]",
        "{'A': 'much'}",
        "{'A': 1e999}",
        "(" * 5000,
        "-" * 15_000 + "1",
        "{'A': 1" + " " * 30_000 + "}",
    ]
    rows = [f'x/{n},1,"{codes}"' for n, codes in enumerate(bad)]
    rows += ["y/short", """a,7.0,"{'NORM': 100.0, 'SR': 0}\""""]
    (tmp_path / "ptbxl_database.csv").write_text("filename_hr,patient_id,scp_codes\n" + "\n".join(rows), "latin-1")
    drop = DropFolder("p", tmp_path, "ptb_xl", patients="public")
    made = collect(drop, tmp_path / "out")
    assert made.labels().select("code", "value").rows() == [("NORM", 100.0), ("SR", 0.0)]
    assert made.skipped() == {"row whose statements cannot be read": len(bad) + 1}
    write_record(tmp_path / "a.hea", samples)
    store = ingest_site(drop, list_files(drop), recipe=IngestRecipe(), key=KEY, out=tmp_path / "store")
    assert set(made.labels()["ecg_id"]) == set(store.ecgs()["ecg_id"])


def test_bad_headers_end_no_labels_and_links_are_not_followed(tmp_path, samples):
    drop = DropFolder("c", tmp_path / "drop", "cinc", patients="public")
    write_record(drop.path / "a.hea", samples).open("a").write("#Dx: 1,2\n")
    (drop.path / "b.hea").write_text("b 12 500")
    shutil.copy(drop.path / "a.hea", tmp_path / "outside.hea")
    (drop.path / "c.hea").symlink_to(tmp_path / "outside.hea")
    (drop.path / "d.hea").write_bytes(b"\xff" * 2**21)
    made = collect(drop, tmp_path / "out")
    assert made.labels()["code"].to_list() == ["1", "2"]
    assert made.skipped() == {"header that cannot be read": 3}
