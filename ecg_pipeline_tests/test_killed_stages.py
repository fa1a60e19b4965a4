"""Twenty kills at random moments leave no trace in what the stages of the pipeline write."""

import random
import time
from pathlib import Path

import numpy as np
import pytest

from ecg_pipeline.bench.exports import write_exports
from ecg_pipeline.images.layout import SheetRecipe
from ecg_pipeline.images.render import render_many
from ecg_pipeline.images.shards import render_site
from ecg_pipeline.ingest.drop_folder import DropFolder, list_files
from ecg_pipeline.ingest.pseudonyms import fixed_key
from ecg_pipeline.ingest.recipes import IngestRecipe
from ecg_pipeline.ingest.site import ingest_site
from ecg_pipeline.signals.filters import FilterRecipe, clean, filter_site
from ecg_pipeline.signals.quality import measure
from ecg_pipeline.signals.windows import WindowRecipe, cut_site, cut_windows
from ecg_pipeline.storage.files import folder_digests
from ecg_pipeline_tests.quick_processes import quick_processes

KILLS = 20
WINDOW = WindowRecipe(sampling_hz=100, seconds=5.0, standardise="lead")


def run_stages(exports: Path, out: Path, ready) -> None:
    """All stages from exports to sheets and windows. ready: an event, set when the work begins."""
    flat = np.zeros((1, 8, 2500), np.float32)
    # Kernels are loaded before the clock starts.
    render_many(clean(flat, FilterRecipe()), SheetRecipe()), measure(flat, 500), cut_windows(flat, 500, WINDOW)
    ready.set()
    drop = DropFolder("site", exports, "muse_xml", mrn_system="test")
    recipe = IngestRecipe(files_per_shard=16)
    store = ingest_site(drop, list_files(drop), recipe=recipe, key=fixed_key("test"), out=out / "store")
    filtered = filter_site(store, FilterRecipe(), out / "filtered")
    render_site(filtered, SheetRecipe(), out / "sheets")
    cut_site(store, WINDOW, out / "windows")


@pytest.mark.slow
def test_twenty_kills_leave_the_bits_of_an_undisturbed_run(tmp_path):
    exports, processes = write_exports(tmp_path / "exports", 640), quick_processes()

    def start(out):
        ready = processes.Event()
        process = processes.Process(target=run_stages, args=(exports, tmp_path / out, ready))
        process.start()
        assert ready.wait(300)
        return process

    process = start("whole")
    began_s = time.monotonic()
    process.join()
    whole_s = time.monotonic() - began_s
    assert process.exitcode == 0
    moments, states = random.Random(0), set()
    for _ in range(KILLS):
        process = start("cut")
        time.sleep(moments.uniform(0, whole_s / 5))
        process.kill()
        process.join()
        states.add(frozenset(folder_digests(tmp_path / "cut")))
    process = start("cut")
    process.join()
    assert process.exitcode == 0
    assert len(states) > KILLS / 4, "most of the kills came when nothing was being written"
    assert folder_digests(tmp_path / "cut") == folder_digests(tmp_path / "whole")
