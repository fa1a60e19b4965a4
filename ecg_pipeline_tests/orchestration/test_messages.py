"""Messages of another process: each is read once and whole, however it is written."""

import json
import time

import pytest

from ecg_pipeline.orchestration import messages
from ecg_pipeline.orchestration.messages import follow


@pytest.fixture(autouse=True)
def looks_often(monkeypatch):
    monkeypatch.setattr(messages, "SECONDS", 0.001)


def test_a_message_that_is_written_in_parts_is_read_once_it_is_whole(tmp_path):
    sent = [{"number": number, "text": "für Ä" * 50} for number in range(20)]
    found = []
    with follow(tmp_path / "file", found.append) as path, path.open("ab") as file:
        for message in sent:
            line = json.dumps(message, ensure_ascii=False).encode() + b"\n"
            for part in (line[:7], line[7:-1], line[-1:]):
                file.write(part)
                file.flush()
                time.sleep(0.003)
    assert found == sent


def test_what_is_written_last_is_read_and_half_a_message_of_a_killed_process_is_not(tmp_path):
    found = []
    with follow(tmp_path / "file", found.append) as path:
        path.write_text('{"first": 1}\n{"second": 2}\n{"thi')
    assert found == [{"first": 1}, {"second": 2}]
