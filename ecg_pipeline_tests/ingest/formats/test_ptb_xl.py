"""PTB-XL: the row of its table that belongs to each record, and a table with bad rows."""

import pytest

from ecg_pipeline.ingest.formats.ptb_xl import read_ptb_xl
from ecg_pipeline_tests.ingest.conftest import read, write_record


def test_ptb_xl_rows_belong_to_their_record(tmp_path, samples):
    path = write_record(tmp_path / "records500" / "00000" / "00007_hr.hea", samples)
    (tmp_path / "ptbxl_database.csv").write_text(
        "ecg_id,patient_id,age,sex,device,recording_date,scp_codes,strat_fold,filename_hr\n"
        "7,9182.0,300.0,1,CS-12,1984-11-09 09:17:34,{},3,records500/00000/00007_hr\n"
    )
    ecg = read(read_ptb_xl, path, tmp_path)
    assert (ecg.patient_id, ecg.age_years, ecg.sex, ecg.fold) == ("9182", 90.0, "F", 3)
    assert ecg.acquired_at.year == 1984


def test_a_table_that_changes_is_read_again(tmp_path, samples):
    path = write_record(tmp_path / "a.hea", samples)
    for age in (50, 66):
        (tmp_path / "ptbxl_database.csv").write_text(f"filename_hr,patient_id,scp_codes,age\na,1,{{}},{age}\n")
        assert read(read_ptb_xl, path, tmp_path).age_years == age


def test_rows_that_are_none_do_not_end_a_table(tmp_path, samples):
    path = write_record(tmp_path / "a.hea", samples)
    (tmp_path / "ptbxl_database.csv").write_bytes(
        b"filename_hr,patient_id,scp_codes,age,strat_fold\n"
        b"b\nb,1,2,3,4,5,6,7,8\n\n,,,,\n\xff\xfe,1\x00,{},,\nc," + b"9" * 200_000 + b",,\n"
        b"a,17.0,{},1e400,99999999999999999999\n"
    )
    ecg = read(read_ptb_xl, path, tmp_path)
    assert (ecg.patient_id, ecg.age_years, ecg.fold) == ("17", None, None)


def test_a_table_without_its_columns_says_so(tmp_path, samples):
    (tmp_path / "ptbxl_database.csv").write_text("filename_hr,age\na,1\n")
    with pytest.raises(ValueError, match=r"ptbxl_database.csv: no column patient_id, scp_codes"):
        read(read_ptb_xl, write_record(tmp_path / "a.hea", samples))
