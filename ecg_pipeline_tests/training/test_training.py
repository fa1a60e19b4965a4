"""Training: what it sees, what it learns, and that neither a kill nor a bad number spoils it."""

import os
import random
from dataclasses import asdict

import numpy as np
import polars as pl
import pytest
import torch

from ecg_pipeline.ecg import no_progress
from ecg_pipeline.models.family import IMAGES
from ecg_pipeline.models.heartbeit.masking import uniform
from ecg_pipeline.models.heartbeit.recipes import TOKENS, MaskRecipe
from ecg_pipeline.orchestration.trainer import TrainingJob, _run_job
from ecg_pipeline.storage.files import sha256_file, write_parquet
from ecg_pipeline.training import batches as batches_module
from ecg_pipeline.training.batches import Batches, in_view
from ecg_pipeline.training.distributed import ProcessGroup
from ecg_pipeline.training.loop import NotFinite, backward_and_step
from ecg_pipeline.training.schedules import warmup_cosine
from ecg_pipeline_tests.training.small import SHORT, TINY, pretrained


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def ecgs_seen(batches, epoch, *, batch, seed):
    return [ecg_id for _, rows in batches.epoch(epoch, batch=batch, seed=seed) for ecg_id in rows["ecg_id"]]


@pytest.mark.parametrize("batch", [1, 5, 16, 48, 100])
def test_an_epoch_has_every_ecg_once_but_for_an_incomplete_last_batch(examples, batch):
    images, _, table = examples
    batches = Batches(arrays={"images": {"s": images}}, table=table)
    seen = ecgs_seen(batches, 0, batch=batch, seed=0)
    assert len(seen) == len(set(seen)) == batches.steps(batch) * min(batch, 48)
    assert {ecg_id for _, rows in batches.in_order(7) for ecg_id in rows["ecg_id"]} == set(table["ecg_id"])


def test_the_order_is_a_function_of_seed_and_epoch(examples):
    images, _, table = examples
    batches = Batches(arrays={"images": {"s": images}}, table=table)
    assert ecgs_seen(batches, 1, batch=8, seed=3) == ecgs_seen(batches, 1, batch=8, seed=3)
    assert ecgs_seen(batches, 1, batch=8, seed=3) != ecgs_seen(batches, 2, batch=8, seed=3)


def test_images_tokens_and_rows_stay_together(examples):
    images, tokens, table = examples
    batches = Batches(arrays={"images": {"s": images}, "tokens": {"s": tokens}}, table=table)
    for arrays, rows in batches.epoch(0, batch=8, seed=0):
        assert (arrays["images"] == images.read_ecgs(rows["ecg_id"])).all()
        assert (arrays["tokens"] == tokens.read_ecgs(rows["ecg_id"])).all()


@pytest.mark.parametrize(("shards_kept", "reads"), [(0, 9), (1, 7), (3, 3)])
def test_what_stays_in_memory_changes_only_how_often_a_shard_is_read(examples, monkeypatch, shards_kept, reads):
    images, _, table = examples
    stored = dict(zip(table["ecg_id"], images.read_ecgs(table["ecg_id"]), strict=True))
    monkeypatch.setattr(batches_module, "KEPT_BYTES", shards_kept * images.read(0).nbytes)
    read, plain = [], type(images).read
    monkeypatch.setattr(type(images), "read", lambda self, shard: read.append(shard) or plain(self, shard))
    batches = Batches(arrays={"images": {"s": images}}, table=table)
    for epoch in range(3):
        for arrays, rows in batches.epoch(epoch, batch=8, seed=0):
            assert all(
                (image == stored[name]).all() for image, name in zip(arrays["images"], rows["ecg_id"], strict=True)
            )
            arrays["images"][:] = 0  # A network may change what it is given.
    assert len(read) == reads


def test_only_ecgs_of_the_view_are_left(examples):
    images, _, table = examples
    some = pl.concat([table[5:8], table.head(1).with_columns(ecg_id=pl.lit("lost")), table[1:2]])
    elsewhere = table[9:10].with_columns(site=pl.lit("t"))
    left = in_view(pl.concat([some, elsewhere]), {"s": images})
    assert left.equals(pl.concat([table[5:8], table[1:2]]))


def test_an_ecg_without_an_image_is_named(examples):
    images, _, table = examples
    lost = table.head(1).with_columns(ecg_id=pl.lit("lost"))
    with pytest.raises(KeyError, match="lost"):
        list(Batches(arrays={"images": {"s": images}}, table=lost).in_order(4))


def test_uniform_masks_hide_exactly_as_many():
    masks = [uniform(random.Random(seed), MaskRecipe(kind="uniform"), rows=14, columns=14) for seed in range(200)]
    assert {int(mask.sum()) for mask in masks} == {75}
    assert np.mean(masks, axis=0).std() < 0.06


def test_the_schedule_warms_up_and_falls():
    rates = warmup_cosine(peak=5e-4, final=1e-5, epochs=10, steps_per_epoch=20, warmup_epochs=2)
    assert len(rates) == 200
    assert rates[0] == 0
    assert rates[39] == rates[40] == 5e-4
    assert (np.diff(rates[40:]) < 0).all()
    assert rates[-1] > 1e-5


def test_pretraining_learns_and_is_reproducible(examples, tmp_path):
    first, second = (pretrained(examples, tmp_path / name).checkpoints()[0] for name in ("a", "b"))
    trace = pl.read_parquet(first.folder / "trace.parquet")
    assert trace["loss"][0] == pytest.approx(np.log(8), abs=0.3)
    assert trace["loss"][-5:].mean() < 0.6 * trace["loss"][0]
    assert sha256_file(first.folder / "weights.safetensors") == sha256_file(second.folder / "weights.safetensors")
    assert not list(tmp_path.rglob(".run_state*"))


def test_a_checkpoint_says_what_it_was_trained_on_and_by_what(examples, tmp_path):
    model = pretrained(examples, tmp_path)
    config = model.checkpoints()[0].config()
    assert config["model"] == asdict(TINY)
    assert config["pretraining"]["mask"] == asdict(SHORT.mask)
    assert (config["seed"], config["vocabulary"], config["examples"], config["steps"]) == (0, 8, 48, 36)
    assert config["last_epoch"]["loss"] > 0
    assert np.array(config["mask_frequency"]).mean() == pytest.approx(6 / 16, rel=0.15)
    assert (
        model.config().items()
        >= {"checkpoints": ["seed_0"], "examples": 48, "origin": "masked image modelling"}.items()
    )


def test_pretraining_on_nobody_is_an_error(examples, tmp_path):
    images, tokens, _ = examples
    stranger = pl.DataFrame({"ecg_id": ["somebody else"], "site": ["s"]})
    write_parquet(tmp_path / "set.parquet", stranger)
    job = TrainingJob(
        model=asdict(TINY),
        pretraining=asdict(SHORT),
        arrays={IMAGES: {"s": images}, TOKENS: {"s": tokens}},
        fitted={},
        training_set=tmp_path / "set.parquet",
        out=tmp_path / "out",
        home=tmp_path,
        experiment="study",
        tags={},
        device="cpu",
        micro_batch=None,
        processes=None,
        parent_pid=os.getpid(),
    )
    with pytest.raises(ValueError, match="none of the pretraining sites"):
        _run_job(job, process_group=ProcessGroup(), tracker=None, progress=no_progress)


def test_a_number_that_is_not_finite_stops_before_the_weights_move():
    model = torch.nn.Linear(2, 1)
    before = model.weight.detach().clone()
    optimiser = torch.optim.AdamW(model.parameters(), lr=1.0)
    with pytest.raises(NotFinite, match="step 7: the loss is nan"):
        backward_and_step(model, optimiser, loss=model(torch.full((1, 2), float("nan"))).sum(), clip=3.0, step=7)
    with pytest.raises(NotFinite, match="step 8: the gradient"):
        backward_and_step(model, optimiser, loss=(model(torch.zeros(1, 2)) * 0).sqrt().sum(), clip=3.0, step=8)
    assert torch.equal(model.weight, before)
