"""Pseudonyms: keyed, one a patient of one numbering; ages as they may be stored."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.ingest.pseudonyms import PseudonymKey, fixed_key, load_key, storable_age

KEY = fixed_key("test")


def test_pseudonyms_are_keyed_and_kept_apart():
    other = PseudonymKey(b"another secret of some length")
    assert KEY.pseudonym("a", "123") == KEY.pseudonym("a", " 123 ")
    assert len({KEY.pseudonym("a", "123"), KEY.pseudonym("b", "123"), other.pseudonym("a", "123")}) == 3
    assert "secret" not in repr(other)


def test_a_missing_key_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.delenv("ECG_PSEUDONYM_KEY", raising=False)
    with pytest.raises(ValueError, match=r"(?s)set ECG_PSEUDONYM_KEY.*secrets"):
        load_key(tmp_path)
    (tmp_path / "pseudonym.key").write_text("0123456789abcdef")
    assert load_key(tmp_path) == PseudonymKey(b"0123456789abcdef")


@given(st.floats(0, 150))
def test_ages_over_89_are_all_the_same(age):
    assert storable_age(age) == (90.0 if age > 89 else age)
