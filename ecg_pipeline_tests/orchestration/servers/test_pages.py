"""The page server: what it shows, and what it refuses."""

import base64
import hashlib
import http.client
import io
import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import MISSING, fields
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import polars as pl
import pytest
import uvicorn
from PIL import Image

from ecg_pipeline import links
from ecg_pipeline.orchestration.servers.pages import build_app
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import Record
from ecg_pipeline.storage.files import write_parquet
from ecg_pipeline.storage.shards import write_index, write_shard
from ecg_pipeline_tests.provenance.homes import small_home

RUN = "0123456789abcdef0123456789abcdef"


def keep(home, asset, partition, build, ended_at):
    """Record a build whose files are in place."""
    said = {"asset": asset, "partition": partition, "build": build, "ended_at": ended_at, "upstream": ()}
    required = {field.name: None for field in fields(Record) if MISSING is field.default is field.default_factory}
    Archive(home).save(Record(**(required | said)))


def build_folder(home, asset, partition, build):
    return Archive(home).place(asset, partition) / build


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """An archive with two builds of a report, one site's sheets, one saliency, and things that must not be seen."""
    home = tmp_path_factory.mktemp("study") / "home"
    for build, ended_at in (("b1", "2026-01-01T00:00:00.000+00:00"), ("b2", "2026-02-01T00:00:00.000+00:00")):
        folder = build_folder(home, "stroke/report", None, build)
        folder.mkdir(parents=True)
        (folder / "report.html").write_text(f"<p>AUROC of {build}</p>")
        keep(home, "stroke/report", None, build, ended_at)
    unrecorded = build_folder(home, "stroke/report", None, "b3")
    unrecorded.mkdir()
    (unrecorded / "report.html").write_text("held back")

    folder = build_folder(home, "image_shards", "north", "i1")
    write_shard(folder, 0, np.full((6, 8, 8), 200, np.uint8))
    rows = [(f"r{number}", 0, number) for number in range(6)]
    write_index(folder, pl.DataFrame(rows, {"ecg_id": pl.String, "shard": pl.Int32, "row": pl.Int32}, orient="row"))
    keep(home, "image_shards", "north", "i1", "2026-01-01T00:00:00.000+00:00")

    folder = build_folder(home, "stroke/saliency", None, "s1")
    write_parquet(folder / "shares.parquet", pl.DataFrame({"ecg": [1, 1, 2]}))
    for number in (1, 2):
        Image.new("L", (4, 4), number).save(folder / f"ecg_{number}.png")
    write_parquet(folder / "errors.parquet", pl.DataFrame({"model": ["m", "m"], "kind": ["false_negative"] * 2}))
    Image.new("L", (4, 4), 3).save(folder / "false_negative_m.png")
    keep(home, "stroke/saliency", None, "s1", "2026-01-01T00:00:00.000+00:00")

    outside = home.parent / "outside"
    outside.mkdir()
    (outside / "report.html").write_text("a secret")
    (home / "secret.html").write_text("a secret")
    linked = build_folder(home, "linked/report", None, "l1")
    linked.parent.mkdir(parents=True)
    linked.symlink_to(outside)
    keep(home, "linked/report", None, "l1", "2026-01-01T00:00:00.000+00:00")
    page = build_folder(home, "page/report", None, "p1")
    page.mkdir(parents=True)
    (page / "report.html").symlink_to(home / "secret.html")
    keep(home, "page/report", None, "p1", "2026-01-01T00:00:00.000+00:00")
    return home


class _Mlflow(BaseHTTPRequestHandler):
    """The one question of MLflow's interface that is asked, as MLflow answers it."""

    def do_GET(self):
        known = self.path == f"/api/2.0/mlflow/runs/get?run_id={RUN}"
        self.send_response(200 if known else 404)
        self.end_headers()
        if known:
            self.wfile.write(json.dumps({"run": {"info": {"experiment_id": "7", "run_id": RUN}}}).encode())

    def log_message(self, *_):
        pass


@contextmanager
def served(app):
    """Port of a server over an app, for as long as the block lasts."""
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    while not server.started:
        time.sleep(0.01)
    try:
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="module")
def mlflow():
    server = HTTPServer(("127.0.0.1", 0), _Mlflow)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def port(home, mlflow):
    with served(build_app(home, mlflow)) as port:
        yield port


def ask(port, path, method="GET", host="127.0.0.1"):
    """Status, headers and body of an answer; the path is sent as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.putrequest(method, path, skip_host=True)
    connection.putheader("Host", f"{host}:{port}")
    connection.endheaders()
    answer = connection.getresponse()
    status, headers, body = answer.status, dict(answer.getheaders()), answer.read()
    connection.close()
    return status, headers, body


def test_a_report_is_that_of_the_build_that_is_asked_for_or_the_newest(port):
    assert b"AUROC of b2" in ask(port, "/reports/stroke/report")[2]
    assert b"AUROC of b1" in ask(port, "/reports/stroke/report?build=b1")[2]
    assert ask(port, "/reports/stroke/report?build=b3")[0] == 404, "a build without a record is no output"
    assert ask(port, "/reports/nothing/report")[0] == 404


def test_first_sheets_are_drawn_on_request_and_kept_nowhere(port, home):
    before = sorted(home.rglob("*"))
    status, headers, body = ask(port, "/previews/image_shards/north")
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "image/png", "no-store")
    assert Image.open(io.BytesIO(body)).size == (20, 20)
    assert sorted(home.rglob("*")) == before
    assert ask(port, "/previews/image_shards/south")[0] == 404


def test_pictures_of_a_saliency_are_counted_from_one(port):
    assert Image.open(io.BytesIO(ask(port, "/previews/stroke/saliency/2")[2])).getpixel((0, 0)) == 2
    assert [ask(port, f"/previews/stroke/saliency/{number}")[0] for number in (0, 1, 4)] == [404, 200, 404]
    assert Image.open(io.BytesIO(ask(port, "/previews/stroke/saliency/3")[2])).getpixel((0, 0)) == 3, "errors follow"


def test_links_of_the_ui_lead_to_what_they_say(port, home):
    links.write_addresses(home, links.Addresses(pages=port))
    root = links.address(port)
    report = links.report_page(build_folder(home, "stroke/report", None, "b1"), home=home)
    sheets = links.image_preview(build_folder(home, "image_shards", "north", "i1"), home=home)
    picture = links.saliency_preview(build_folder(home, "stroke/saliency", None, "s1"), 2, home=home)
    assert b"AUROC of b1" in ask(port, report.removeprefix(root))[2]
    for link in (sheets, picture, links.mlflow_run(home, RUN)):
        assert link.startswith(root)
        assert ask(port, link.removeprefix(root))[0] in (200, 302)


def test_an_audit_is_a_page_whose_own_script_alone_runs(mlflow, tmp_path):
    archive = small_home(tmp_path / "demo")
    model = archive.require("low_lvef/heartbeit/finetuned_model", "1")
    tested = archive.require("low_lvef/heartbeit/evaluation", "1|morningside")
    with served(build_app(archive.home, mlflow)) as port:
        links.write_addresses(archive.home, links.Addresses(pages=port))
        for record in (model, tested):
            link = links.audit_page(archive.folder(record), home=archive.home).removeprefix(links.address(port))
            status, headers, body = ask(port, link)
            assert (status, record.digest.encode() in body) == (200, True)
            script = re.search(r"<script>(.*)</script>", body.decode(), re.S)[1]
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"script-src 'sha256-{digest}'" in headers["content-security-policy"]
        asset = "/audit/low_lvef/heartbeit/finetuned_model"
        assert ask(port, f"{asset}/1")[0] == 200
        for path in (
            f"{asset}/0.9",
            f"{asset}/1?build=x",
            f"{asset}/..",
            f"{asset}/%2e%2e",
            "/audit/a/..%2f..",
            "/audit/x",
        ):
            assert ask(port, path)[0] == 404


def test_a_run_leads_on_to_the_mlflow_server(port, mlflow):
    status, headers, _ = ask(port, f"/runs/{RUN}")
    assert (status, headers["location"]) == (302, f"{mlflow}/#/experiments/7/runs/{RUN}")
    assert ask(port, f"/runs/{RUN[::-1]}")[0] == 404
    assert ask(port, "/runs/..%2f..%2fexperiments")[0] == 404


def test_a_run_without_an_mlflow_server_says_so(home):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}"
    with served(build_app(home, nobody)) as port:
        status, _, body = ask(port, f"/runs/{RUN}")
    assert status == 502
    assert b"there is no MLflow server" in body


@pytest.mark.parametrize(
    "path",
    [
        "/reports/../../../outside/report.html",
        "/reports/%2e%2e/%2e%2e/outside",
        "/reports/..%2f..%2foutside",
        "/reports/stroke/%2e%2e/%2e%2e/%2e%2e/outside",
        "/reports/stroke/report?build=../../../../../outside",
        "/reports/stroke/report?build=..",
        "/reports/stroke/report?build=*",
        "/reports//etc/passwd",
        "/reports/%00",
        "/reports/stroke",
        "/reports/",
        "/reports/linked/report",
        "/reports/page/report",
        "/previews/image_shards/%2e%2e",
        "/previews/image_shards/..%2f..%2f..%2foutside",
        "/previews/%2e%2e/saliency/1",
        "/",
        "/files/secret.html",
    ],
)
def test_what_leaves_the_archive_is_refused(port, path):
    status, _, body = ask(port, path)
    assert status == 404
    assert b"secret" not in body


def test_a_foreign_host_is_refused(port):
    for host in ("example.org", "127.0.0.1.example.org", "attacker.localhost", ""):
        assert ask(port, "/reports/stroke/report", host=host)[0] == 400
    assert ask(port, "/reports/stroke/report", host="localhost")[0] == 200


def test_nothing_can_be_written(port):
    for method in ("POST", "PUT", "DELETE", "PATCH"):
        assert ask(port, "/reports/stroke/report", method)[0] == 405
