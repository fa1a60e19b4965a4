"""Work over parts: items are taken as they are needed, an error comes out, nothing is done twice."""

import pytest

from ecg_pipeline.workers import each


def mark(item):
    folder, number = item
    if number == 7:
        raise ValueError(f"part {number} is broken")
    (folder / str(number)).touch(exist_ok=False)


@pytest.mark.parametrize("workers", [1, 2])
def test_items_are_taken_as_they_are_needed(workers, tmp_path):
    taken, told = 0, []

    def items():
        nonlocal taken
        for number in range(100, 130):
            taken += 1
            assert taken <= len(told) + 2 * workers + 1
            yield tmp_path, number

    each(mark, items(), 30, workers, lambda *step: told.append(step))
    assert told == [(done, 30) for done in range(1, 31)]
    assert len(list(tmp_path.iterdir())) == 30


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_error_ends_it(workers, tmp_path):
    with pytest.raises(ValueError, match="part 7 is broken"):
        each(mark, ((tmp_path, number) for number in range(1000)), 1000, workers)
    assert len(list(tmp_path.iterdir())) < 20
