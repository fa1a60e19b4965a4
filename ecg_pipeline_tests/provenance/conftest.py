"""A small home of outputs, and a copy of it that a test may alter."""

import shutil

import pytest

from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline_tests.provenance.homes import small_home


@pytest.fixture(scope="session")
def original(tmp_path_factory):
    return small_home(tmp_path_factory.mktemp("homes") / "demo")


@pytest.fixture
def archive(original, tmp_path):
    shutil.copytree(original.home, tmp_path / "demo", symlinks=True)
    return Archive(tmp_path / "demo")
