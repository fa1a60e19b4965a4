"""Files are whole or absent, and digests are stable."""

import math
import os
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ecg_pipeline.storage.files import digest_json, folder_digests, temporary_beside, write_atomically, write_text

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = write_text(tmp_path / "a.txt", "old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_digest_does_not_depend_on_the_order_of_keys(value):
    assert digest_json(value) == digest_json(dict(reversed(value.items())))


def test_what_has_no_stable_bytes_is_not_hashed():
    with pytest.raises(TypeError):
        digest_json({"f": print})
    with pytest.raises(ValueError, match="JSON"):
        digest_json(math.nan)


def test_hidden_files_are_not_content(tmp_path):
    write_text(tmp_path / "sub" / "a.txt", "a")
    write_text(tmp_path / ".half.tmp" / "b.txt", "b")
    assert list(folder_digests(tmp_path)) == ["sub/a.txt"]


def test_temporary_names_differ_between_processes_forked_or_not(tmp_path):
    path = tmp_path / "a.txt"
    ask = "from pathlib import Path; from ecg_pipeline.storage import files; print(files.temporary_beside(Path('a')))"
    fresh = {subprocess.run([sys.executable, "-c", ask], capture_output=True, check=True).stdout for _ in range(2)}
    assert len(fresh) == 2
    reader, writer = os.pipe()
    if (child := os.fork()) == 0:
        os.write(writer, str(temporary_beside(path)).encode())
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 1000).decode() != str(temporary_beside(path)) == str(temporary_beside(path))
