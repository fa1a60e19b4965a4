"""What a data team reads and clicks in a home where everything was pressed, in a real browser.

Where ECG_SCREENSHOTS names a folder, the pages that docs/ui.md shows are kept there as pictures: `make screenshots`.
"""

import os
import re
import shutil
from contextlib import contextmanager
from pathlib import Path

import polars as pl
import pytest

from ecg_pipeline.evaluation.results import Evaluation
from ecg_pipeline.images.shards import ImageShards
from ecg_pipeline.ingest.store import WaveformStore
from ecg_pipeline.provenance.archive import Archive
from ecg_pipeline.provenance.record import CUT
from ecg_pipeline.reporting.results import Report
from ecg_pipeline.signals.filters import FilteredWaveforms
from ecg_pipeline.signals.windows import WaveformWindows
from ecg_pipeline_tests.test_ui import CHROMIUM, FLAGS, LAUNCH, PATIENCE_S

pytestmark = [
    pytest.mark.acceptance,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine"),
]

SITE, NEIGHBOUR = "mount_sinai", "beth_israel"
TASK, MODEL, FRACTION = "low_lvef", "heartbeit", "1"
TRAINED = f"{TASK}/{MODEL}/finetuned_model"
TESTED, TESTED_PART = f"{TASK}/{MODEL}/evaluation", f"{FRACTION}|{SITE}"
GROUPS = ("ingest", "signals", "images", "tokens", "pretraining", "low_lvef", "hcm", "stemi", "benchmark")
CHECK = "drop_folder_is_whole"

BACKFILLS = "{ partitionBackfillsOrError { ... on PartitionBackfills { results { id } } } }"
NEWEST_RUN = "{ runsOrError(limit: 1) { ... on Runs { results { runId } } } }"
RUN_STATUS = "query ($id: ID!) { runOrError(runId: $id) { ... on Run { status } } }"
DATA_VERSION = """
query ($site: String!) {
  assetNodeOrError(assetKey: {path: ["waveform_store"]}) { ... on AssetNode { dataVersion(partition: $site) } }
}
"""
DELETE = "mutation ($id: String!) { deletePipelineRun(runId: $id) { __typename } }"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield opened
        opened.close()


@pytest.fixture
def page(browser):
    """A page of a new window. No page that is opened in it may have an error."""
    window = browser.new_context(viewport={"width": 1600, "height": 1000})
    window.set_default_timeout(1000 * PATIENCE_S)
    errors = []
    window.on("weberror", lambda error: errors.append(f"{error.page and error.page.url}: {error.error}"))
    yield window.new_page()
    window.close()
    assert not errors


@pytest.fixture
def ui(pressed):
    return pressed[0]


@pytest.fixture
def archive(ui):
    return Archive(ui.folder / "small")


def go(page, ui, path):
    page.goto(f"http://127.0.0.1:{ui.port}{path}", wait_until="domcontentloaded")


def go_to_partition(page, ui, asset, partition):
    """The page of one partition of an asset, once its metadata are shown."""
    go(page, ui, f"/assets/{asset}?view=partitions&partition={partition.replace('|', '%7C')}")
    page.get_by_text("dagster/uri", exact=True).wait_for()
    page.get_by_text("Materialized", exact=True).wait_for()


def shown(page, name):
    """What the page says of one metadata entry."""
    cells = page.locator("tr").filter(has=page.get_by_text(name, exact=True)).first.locator("> td")
    return cells.nth(1).inner_text().strip()


def opened(page, link):
    """The page that a link of Dagster's opens beside it."""
    with page.expect_popup() as popup:
        link.click()
    popup.value.wait_for_load_state()
    return popup.value


def settled(page):
    """Wait until nothing on a page says that it is loading."""
    from playwright.sync_api import expect

    expect(page.get_by_text("Loading")).to_have_count(0, timeout=1000 * PATIENCE_S)


def keep(seen, name):
    """Keep a picture of a page, or of a part of one, where somebody wants the pictures. It shows no path."""
    if folder := os.environ.get("ECG_SCREENSHOTS"):
        seen.screenshot(path=Path(folder) / f"ui_{name}.png")


def made(archive, handle, asset, partition):
    return handle(archive.folder(archive.require(asset, partition)))


def test_the_graph_shows_every_group_and_opens_one(ui, page):
    go(page, ui, "/asset-groups")
    for group in GROUPS:
        page.get_by_text(group, exact=True).last.wait_for()
    page.get_by_role("button", name="Materialize all").wait_for()
    keep(page, "graph")
    page.get_by_text("ingest", exact=True).last.click()
    page.get_by_text("waveform_store", exact=True).last.wait_for()
    text = page.inner_text("body")
    assert "PythonError" not in text
    assert "Failed to load" not in text


def test_the_chain_of_one_site_is_read_from_its_files_to_its_images(ui, page, archive):
    go(page, ui, "/assets/image_shards?view=lineage&lineageScope=upstream&lineageDepth=3")
    for asset in ("hospital_system", "raw_ecg_files", "waveform_store", "filtered_waveforms", "image_shards"):
        page.get_by_text(asset, exact=True).last.wait_for()
    page.get_by_text("100% filled").first.wait_for()
    settled(page)
    keep(page, "chain")
    counts = {
        "waveform_store": len(made(archive, WaveformStore, "waveform_store", SITE).ecgs()),
        "filtered_waveforms": len(made(archive, FilteredWaveforms, "filtered_waveforms", SITE).quality()),
        "image_shards": len(made(archive, ImageShards, "image_shards", SITE)),
        "waveform_windows/ten_seconds": len(made(archive, WaveformWindows, "waveform_windows/ten_seconds", SITE)),
    }
    for asset, count in counts.items():
        go_to_partition(page, ui, asset, SITE)
        assert shown(page, "dagster/row_count") == str(count)


def test_the_backfill_is_listed_and_done(ui, page):
    go(page, ui, "/runs")
    page.get_by_role("tab", name="Backfills").click()
    first = ui.graphql(BACKFILLS)["partitionBackfillsOrError"]["results"][-1]["id"]
    page.locator(f"a[href='/runs/b/{first}']").first.click()
    page.get_by_text("Partition selection").wait_for()
    page.get_by_text("image_shards", exact=True).first.wait_for()
    page.get_by_text("100% completed").first.wait_for()
    keep(page, "backfill")
    assert re.search(r"Status\s+Succeeded", page.inner_text("body"))


def test_a_preview_of_ecgs_opens_from_the_site(ui, page):
    go_to_partition(page, ui, "image_shards", SITE)
    sheets = opened(page, page.locator("a[href*='/previews/image_shards/']").first)
    picture = sheets.locator("img")
    assert picture.evaluate("image => image.naturalWidth") > 400
    keep(picture, "preview")


def test_auroc_and_roc_curve_are_those_of_the_evaluation(ui, page, archive):
    metrics = made(archive, Evaluation, TESTED, TESTED_PART).evaluation_metrics().metrics
    go_to_partition(page, ui, TESTED, TESTED_PART)
    assert float(shown(page, "auroc")) == pytest.approx(metrics["auroc"]["value"])
    page.locator("tr").filter(has=page.get_by_text("roc", exact=True)).get_by_text("[Show Markdown]").click()
    curve = page.get_by_role("img", name="figure")
    curve.wait_for()
    assert curve.evaluate("image => image.decode().then(() => image.naturalWidth)") > 200
    keep(curve, "roc")


def test_the_report_opens_and_says_what_its_results_say(ui, page, archive):
    results = made(archive, Report, "benchmark_report", None).results()
    go(page, ui, "/assets/benchmark_report")
    report = opened(page, page.locator("a[href*='/reports/benchmark_report']").first)
    assert report.url.startswith(f"http://127.0.0.1:{ui.port + 1}/reports/benchmark_report")
    table = report.locator("table").filter(has=report.locator("caption", has_text="AUROC by the fraction")).first
    sites = table.locator("tbody").filter(has=report.locator("th[scope=rowgroup]", has_text=SITE))
    row = sites.locator("tr").filter(has=report.locator("td", has_text=MODEL))
    read = [cell.inner_text().split()[0] for cell in row.locator("td").all()[1:]]
    of_site = results.filter(pl.col("task") == TASK, pl.col("model") == MODEL, pl.col("site") == SITE)
    assert read == [f"{auroc:.2f}" for auroc in of_site.sort("fraction")["auroc"]]
    table.scroll_into_view_if_needed()
    keep(report, "report")


def test_the_mlflow_run_of_a_model_opens_and_is_that_of_its_record(ui, page, archive):
    run_id = archive.require(TRAINED, FRACTION).mlflow_run_id
    go_to_partition(page, ui, TRAINED, FRACTION)
    run = opened(page, page.locator("a").filter(has_text=f"/runs/{run_id}").first)
    run.get_by_text(str(run_id), exact=True).first.wait_for()
    run.get_by_text("seed_0/validation_auroc").first.wait_for()
    assert run.url.startswith(f"http://127.0.0.1:{ui.port + 2}/")
    keep(run, "mlflow")


def test_a_model_says_what_it_was_made_of_and_opens_its_audit(ui, page, archive):
    record = archive.require(TRAINED, FRACTION)
    go(page, ui, f"/assets/{TRAINED}")
    page.get_by_text(f"ecg-pipeline audit {TRAINED}").first.wait_for()
    go_to_partition(page, ui, TRAINED, FRACTION)
    table = page.locator("tr").filter(has=page.get_by_text("made_of", exact=True)).first
    for entry in record.upstream:
        table.get_by_text(entry.record[:CUT], exact=True).first.wait_for()
    audit = opened(page, page.locator(f"a[href*='/audit/{TRAINED}/{FRACTION}']").first)
    audit.get_by_text(record.digest).first.wait_for()
    box = "g.box[data-asset='{}']"
    assert audit.locator(box.format("waveform_store")).is_visible()
    keep(audit, "audit")
    audit.locator(box.format(TRAINED)).click()
    assert audit.locator("g.box:visible").count() == 1
    audit.locator(box.format(TRAINED)).click()
    assert audit.locator("g.box:visible").count() == audit.locator("g.box").count() > 5
    audit.locator("#search").fill("waveform_store")
    shown_records = audit.locator("details.record:visible")
    assert 0 < shown_records.count() < audit.locator("details.record").count()
    audit.locator("#search").fill("")
    audit.locator(box.format("image_tokenizer")).dblclick()
    assert audit.locator("details.record[open]", has_text="image_tokenizer").count() > 0


@contextmanager
def most_files_gone(site, beside):
    """A drop folder that holds a third of its files. The folder itself, and its files' times, are put back after."""
    site.rename(beside)
    try:
        site.mkdir()
        files = sorted(beside.glob("*.xml"))
        for file in [*files[: len(files) // 3], *beside.glob("*.csv")]:
            shutil.copy2(file, site)
        yield
    finally:
        shutil.rmtree(site)
        beside.rename(site)


def has_status(ui, run_id, status):
    return ui.graphql(RUN_STATUS, id=run_id)["runOrError"]["status"] == status


def test_a_folder_that_lost_most_files_fails_its_check_and_stays_failed(ui, page, archive):
    before, system = archive.require("waveform_store", SITE), ui.folder / "small" / "hospital_system"
    with most_files_gone(system / SITE, system.parent / "put_back"):
        go_to_partition(page, ui, "waveform_store", SITE)
        page.get_by_role("button", name="Materialize…").click()
        page.get_by_role("button", name="Launch 1 run").click()
        page.get_by_text("Launched run").first.wait_for()
        run_id = ui.graphql(NEWEST_RUN)["runsOrError"]["results"][0]["runId"]
        go(page, ui, f"/runs/{run_id}")
        ui.until(lambda: has_status(ui, run_id, "FAILURE"), "the failure")
    page.get_by_text("Errored (1)").wait_for()
    of_neighbour = [{"key": "dagster/partition", "value": NEIGHBOUR}]
    neighbour = ui.graphql(LAUNCH, asset=["waveform_store"], tags=of_neighbour)["launchRun"]["run"]["runId"]
    ui.until(lambda: has_status(ui, neighbour, "SUCCESS"), "the neighbour's success")
    assert ui.graphql(NEWEST_RUN)["runsOrError"]["results"][0]["runId"] == neighbour, "nothing else was requested"
    assert ui.graphql(DATA_VERSION, site=SITE)["assetNodeOrError"]["dataVersion"] == before.data_version
    go(page, ui, f"/assets/waveform_store?view=checks&checkDetail={CHECK}")
    # The first tab of this name is the asset's, the second the check's.
    page.get_by_role("tab", name="Partitions").nth(1).click()
    page.get_by_text("Failed (1)", exact=True).wait_for()
    page.get_by_text("Passed (3)", exact=True).wait_for()
    page.locator(f"span:text-is('{SITE}')").last.click()
    told = page.get_by_text("[Show JSON]").first
    told.wait_for()
    keep(page, "failed_check")
    told.click()
    page.get_by_text(re.compile("the last listing had")).first.wait_for()
    assert archive.require("waveform_store", SITE) == before
    # The other tests of this home count its runs.
    for run in (run_id, neighbour):
        assert ui.graphql(DELETE, id=run)["deletePipelineRun"]["__typename"] == "DeletePipelineRunSuccess"
