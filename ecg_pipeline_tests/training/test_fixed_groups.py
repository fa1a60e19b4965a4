"""Groups that are formed once: every epoch has the same ones, in another order."""

import tempfile
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_pipeline.training.batches import Batches
from ecg_pipeline_tests.training.small import table_of, write_view


@settings(max_examples=20)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=12), st.integers(1, 5), st.sampled_from([1, 2]))
def test_every_epoch_has_the_same_groups(ecgs_of_shards, size, per_ecg):
    with _batches(ecgs_of_shards, size=size, per_ecg=per_ecg) as batches:
        epochs = [_examples(batches, epoch) for epoch in range(3)]
    assert all(sorted(examples) == list(range(sum(ecgs_of_shards) * per_ecg)) for examples in epochs)
    first, *others = ({tuple(one) for one in _groups(examples, size * per_ecg)} for examples in epochs)
    assert all(other == first for other in others)
    assert per_ecg == 1 or all(
        one // 2 == other // 2 for group in first for one, other in zip(group[::2], group[1::2], strict=True)
    )


def test_groups_come_in_another_order_in_every_epoch_and_are_others_with_another_seed():
    with _batches([40, 40], size=4, per_ecg=1) as batches:
        first, second, again = _examples(batches, 0), _examples(batches, 1), _examples(batches, 0)
        other = _examples(batches, 0, seed=1)
    assert first == again
    assert first != second
    assert set(map(tuple, _groups(first, 4))) != set(map(tuple, _groups(other, 4)))


@contextmanager
def _batches(ecgs_of_shards, *, size, per_ecg):
    """A view whose examples are numbered, `per_ecg` of each ECG, in fixed groups of `size` ECGs."""
    ecgs = sum(ecgs_of_shards)
    shards = np.split(np.arange(ecgs * per_ecg), np.cumsum(ecgs_of_shards)[:-1] * per_ecg)
    ecg_ids = [f"e{number // per_ecg:03d}" for number in range(ecgs * per_ecg)]
    with tempfile.TemporaryDirectory() as folder:
        view = write_view(Path(folder) / "view", shards, ecg_ids)
        table = table_of(sorted(set(ecg_ids)), [0] * ecgs)
        yield Batches(arrays={"view": {"s": view}}, table=table, per_ecg=per_ecg, fixed_group=size * per_ecg)


def _examples(batches, epoch, seed=0):
    """Every example of an epoch, in its order."""
    return [int(x) for arrays, _ in batches.epoch(epoch, batch=10**6, seed=seed) for x in arrays["view"]]


def _groups(examples, group):
    """The whole groups of an epoch."""
    whole = len(examples) // group * group
    return np.array(examples[:whole]).reshape(-1, group)
