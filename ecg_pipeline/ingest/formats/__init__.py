"""The supported file formats. A new one needs a module and a line here: docs/howto/add-a-format.md."""

from collections.abc import Mapping

from ecg_pipeline.ingest.formats import code15, sph
from ecg_pipeline.ingest.formats.cinc import EQUAL_CODES, cinc_statements, read_cinc
from ecg_pipeline.ingest.formats.dicom import read_dicom
from ecg_pipeline.ingest.formats.format import Format, Statements, Table, Texts, every_file
from ecg_pipeline.ingest.formats.hl7_aecg import read_hl7_aecg
from ecg_pipeline.ingest.formats.mimic_iv_ecg import (
    MEASUREMENTS,
    RECORDS,
    mimic_measurements,
    mimic_records,
    mimic_statements,
    mimic_texts,
    read_mimic_iv_ecg,
)
from ecg_pipeline.ingest.formats.muse_statements import muse_statements
from ecg_pipeline.ingest.formats.muse_texts import muse_texts
from ecg_pipeline.ingest.formats.muse_xml import read_muse_xml
from ecg_pipeline.ingest.formats.ptb_xl import TABLE as PTB_XL_TABLE
from ecg_pipeline.ingest.formats.ptb_xl import ptb_xl_rows, ptb_xl_statements, ptb_xl_texts, read_ptb_xl
from ecg_pipeline.ingest.formats.wfdb import is_header, signal_files
from ecg_pipeline.statements import statement_names

FORMATS: Mapping[str, Format] = {
    "muse_xml": Format(
        read_muse_xml,
        every_file,
        statements=(Statements("muse", muse_statements, statement_names),),
        texts=Texts("cart", muse_texts),
        names_site=True,
    ),
    "ptb_xl": Format(
        read_ptb_xl,
        is_header,
        signal_files,
        tables=(Table(PTB_XL_TABLE, ptb_xl_rows),),
        statements=(Statements("scp", ptb_xl_statements),),
        texts=Texts("cart or physician", ptb_xl_texts),
        has_folds=True,
    ),
    "mimic_iv_ecg": Format(
        read_mimic_iv_ecg,
        is_header,
        signal_files,
        tables=(Table(RECORDS, mimic_records), Table(MEASUREMENTS, mimic_measurements)),
        statements=(Statements("muse", mimic_statements, statement_names),),
        texts=Texts("cart", mimic_texts),
    ),
    "cinc": Format(
        read_cinc,
        is_header,
        signal_files,
        statements=(Statements("snomed", cinc_statements, equal=EQUAL_CODES),),
        dated=False,
    ),
    "code15": Format(
        code15.read_code15,
        code15.is_code15,
        members=code15.code15_exams,
        tables=(Table(code15.TABLE, code15.code15_table),),
        statements=(Statements("code15", code15.code15_statements, code15.statements),),
        dated=False,
    ),
    "sph": Format(
        sph.read_sph,
        sph.is_sph,
        tables=(Table(sph.TABLE, sph.sph_table),),
        statements=(
            Statements("aha", sph.sph_statements("AHA_Code", ";")),
            Statements("snomed", sph.sph_statements("SNOMEDCTCode", ",", EQUAL_CODES), equal=EQUAL_CODES),
        ),
    ),
    "hl7_aecg": Format(read_hl7_aecg, every_file),
    "dicom": Format(read_dicom, every_file),
}
"""The formats by the name that a study file gives them."""
