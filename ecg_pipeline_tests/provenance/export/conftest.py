"""A small home, its exports, keys, and the validators that read them."""

import shutil
import socket
import subprocess

import pytest

from ecg_pipeline.provenance.export.collect import facts_of
from ecg_pipeline.provenance.export.formats import FOLDERS, SIGNED, write_export
from ecg_pipeline.provenance.lineage import lineage
from ecg_pipeline_tests.provenance.export.tools import Tools
from ecg_pipeline_tests.provenance.homes import small_home

MODEL = "low_lvef/heartbeit/finetuned_model", "1"


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """Nothing that is exported or read here may ask a server."""

    def refuse(*_):
        raise AssertionError("an export or a validator asked for a network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="session")
def archive(tmp_path_factory):
    return small_home(tmp_path_factory.mktemp("home") / "demo")


@pytest.fixture(scope="session")
def model(archive):
    return archive.require(*MODEL)


@pytest.fixture(scope="session")
def facts(archive, model):
    return facts_of(archive, lineage(archive, model))


@pytest.fixture(scope="session")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    private, public = folder / "private.pem", folder / "public.pem"
    for command in (
        ("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", private),
        ("ec", "-in", private, "-pubout", "-out", public),
    ):
        subprocess.run(["openssl", *map(str, command)], check=True, capture_output=True)
    return private, public


@pytest.fixture(scope="session")
def exported(archive, model, keys, tmp_path_factory):
    """Every format's path, by its name."""
    folder = tmp_path_factory.mktemp("exports")

    def write(form):
        out = folder / form if form in FOLDERS else folder / f"{form}.txt"
        if not out.exists():
            write_export(archive, model, form=form, out=out, key=keys[0] if form == SIGNED else None)
        return out

    return write


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of an export, to be altered."""

    def copy(form):
        source, target = exported(form), tmp_path / exported(form).name
        return shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)

    return copy


@pytest.fixture(scope="session")
def tools(pytestconfig):
    return Tools(pytestconfig.cache.mkdir("validators"))
