"""What is left of a text: the words on the ECG, and nothing of curators, carts' programs, people and dates."""

import csv
import json
import re
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.texts.clean import clean, language_of, normalise


@pytest.fixture(scope="module")
def reports(shared):
    with (shared / "data" / "ptbxl" / "ptbxl_database.csv").open(newline="", encoding="utf-8") as file:
        return [row["report"] for row in csv.DictReader(file)]


def test_texts_are_normalised_as_the_released_code_does(shared):
    pairs = json.loads((shared / "golden" / "founder_dbeta" / "dbeta_small.json").read_text())["normalize_text"]
    assert [normalise(text) for text, _ in pairs] == [wanted for _, wanted in pairs]


def test_real_reports_lose_what_is_none_of_the_ecg(reports):
    cleaned = [clean(report) for report in reports]
    assert sum(text is None for text in cleaned) == 46
    said = "\n".join(text for text in cleaned if text)
    assert sum("Edit:" in report for report in reports) == 64
    assert not re.search(r"edit:|unbestätig|4\.46|trace only|ekg|[A-ZÄÖÜ]|\d\d?[.:]\d\d?[.:]\d\d", said)
    assert Counter(map(language_of, filter(None, cleaned))) == {"de": 1269, "en": 655, "sv": 120}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sinus rhythm. normal ecg. Edit: NORM 100, rSIII", "sinus rhythm. normal ecg."),
        ("SINUSRHYTHMUS mÄssige zeichen 4.46      unbestÄtigter bericht", "sinusrhythmus mässige zeichen"),
        ("alter unbest. 4.46                     unbestÄtigter be", "alter unbest."),
        ("linkstyp 4.46   unbesta\u0308tigter bericht Edit: NORM", "linkstyp"),
        ("normales EKG", "normales ecg"),
        ("trace only requested.", None),
        ("trace only requested. Edit: IMI 50", None),
        ("Statement Text(22) Statement Text(1684)", None),
        (" . , 12 ", None),
        ("", None),
        ("Normal ECG Confirmed by Doe, John (123) on 05/10/2021 1:15:09 PM", "normal ecg"),
        ("Abnormal ECG When compared with ECG of 30-MAR-2023 09:09, Questionable change in The axis", "abnormal ecg"),
        ("compared with tracing of 12:9:91, it is not  changed", "compared with tracing of it is not changed"),
        ("seen 2020-05-31 and March 3rd, 2021 and 3.4.93 at 10:15", "seen and and at"),
        ("vorhofflattern 2:1 bis 4:1, q in v1-3, v4,5,6", "vorhofflattern 2:1 bis 4:1, q in v1-3, v4,5,6"),
        ("normal <pad> ecg</s>", "normal ecg"),
        ("Anterior infarct , age undetermined", "anterior infarct, age undetermined"),
    ],
)
def test_a_text_keeps_what_was_said_of_the_ecg(text, left):
    assert clean(text) == left


@given(
    st.lists(
        st.sampled_from(["Edit:", "EDIT :", "normal", "<pad>", "</s>", "01.02.93", "Confirmed by", "SMITH", "ekg", "*"])
        | st.text(max_size=12),
        max_size=8,
    ).map(" ".join)
)
def test_no_token_code_or_name_of_a_signature_is_left(text):
    left = clean(text)
    assert left is None or (left == left.strip() == left.lower() and "  " not in left)
    assert not re.search(r"\bedit\s*:|</?\w+>|confirmed by|01\.02\.93", left or "")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("normal sinus rhythm with 1st degree av block", "en"),
        ("sinusrhythmus linkstyp sonst normales ecg", "de"),
        ("sinusrytm normalt ecg", "sv"),
        ("sinusritme, normaal ecg", "unknown"),
        ("ecg", "unknown"),
    ],
)
def test_the_language_is_that_of_most_words(text, language):
    assert language_of(text) == language
