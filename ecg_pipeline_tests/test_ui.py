"""The Dagster UI over the demo, in a real browser."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

pytestmark = pytest.mark.browser

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
STARTS_WITHIN_S = 180


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """`ecg-pipeline ui` on a free port, over the demo study."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path_factory.mktemp("ui")
    environment = {**os.environ, "ECG_HOME": str(folder), "ECG_STUDY": "demo"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "ecg_pipeline.cli", "ui", "--port", str(port)],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + STARTS_WITHIN_S
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{url}/server_info", timeout=5)
            break
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert process.poll() is None, (folder / "log").read_text()
            time.sleep(1)
    yield url
    os.killpg(process.pid, signal.SIGTERM)
    process.wait()


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_the_asset_graph_of_the_demo_loads_without_an_error(address, tmp_path):
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1800, "height": 1100})
        errors = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(f"{address}/asset-groups", wait_until="domcontentloaded")
        for chapter in (
            "records",
            "signals",
            "images",
            "tokens",
            "pretraining",
            "low_lvef",
            "hcm",
            "stemi",
            "benchmark",
        ):
            page.get_by_text(chapter, exact=True).last.wait_for(timeout=120_000)
        page.get_by_text("records", exact=True).last.click()
        page.get_by_text("waveform_store", exact=True).last.wait_for(timeout=60_000)
        text = page.inner_text("body")
        page.screenshot(path=os.environ.get("ECG_SCREENSHOT") or str(tmp_path / "graph.png"))
        browser.close()
    assert not errors
    assert "PythonError" not in text
    assert "Failed to load" not in text
