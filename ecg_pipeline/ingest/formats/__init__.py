"""The supported file formats. A new one needs a module and a line here: docs/howto/add-a-format.md."""

from collections.abc import Mapping

from ecg_pipeline.ingest.formats.cinc import cinc_statements, read_cinc
from ecg_pipeline.ingest.formats.format import Format, Statements, Table, Texts, every_file
from ecg_pipeline.ingest.formats.mimic_iv_ecg import TEXTS as MIMIC_IV_ECG_TEXTS
from ecg_pipeline.ingest.formats.mimic_iv_ecg import mimic_iv_ecg_texts, read_mimic_iv_ecg
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
        statements=Statements("muse", muse_statements, statement_names),
        texts=Texts("cart", muse_texts),
        names_site=True,
    ),
    "ptb_xl": Format(
        read_ptb_xl,
        is_header,
        signal_files,
        tables=(Table(PTB_XL_TABLE, ptb_xl_rows),),
        statements=Statements("scp", ptb_xl_statements),
        texts=Texts("cart or physician", ptb_xl_texts),
        has_folds=True,
    ),
    "mimic_iv_ecg": Format(
        read_mimic_iv_ecg,
        is_header,
        signal_files,
        texts=Texts("cart", mimic_iv_ecg_texts, table=MIMIC_IV_ECG_TEXTS),
    ),
    "cinc": Format(read_cinc, is_header, signal_files, statements=Statements("snomed", cinc_statements), dated=False),
}
"""The formats by the name that a study file gives them."""
