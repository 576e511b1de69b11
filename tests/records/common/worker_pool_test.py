"""Tests for records.common.worker_pool: real processes."""

import os
import signal

import pytest

from records.common import worker_pool


def double(item, advance):
    advance(1, 0)
    return 2 * item


def fail_at_two(item, advance):
    if item == 2:
        raise ValueError("item 2 is wrong")
    return item


def die_if_negative(item, advance):
    if item < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def run(pool, function, items, **options):
    return pool.run(function, items, total=len(items), title="", unit="items", **options)


@pytest.mark.parametrize("size", [1, 3])
def test_results_come_with_the_number_of_their_item(size):
    with worker_pool.WorkerPool(size) as pool:
        assert sorted(run(pool, double, range(7))) == [(n, 2 * n) for n in range(7)]


def test_a_pool_serves_one_run_after_another():
    with worker_pool.WorkerPool(2) as pool:
        for items in ([1, 2, 3], [], [4]):
            assert worker_pool.in_order(run(pool, double, items)) == [2 * n for n in items]


def test_items_are_taken_when_a_worker_is_free():
    taken = []
    with worker_pool.WorkerPool(2) as pool:
        items = (taken.append(n) or n for n in range(9))
        results = pool.run(double, items, total=9, title="", unit="items")
        next(results)
        assert len(taken) <= 4  # two at work, and one more for each that has ended


def test_an_error_of_the_function_is_raised_here():
    with worker_pool.WorkerPool(2) as pool, pytest.raises(ValueError, match="item 2 is wrong"):
        list(run(pool, fail_at_two, [1, 2, 3]))


def test_an_item_over_which_a_worker_dies_is_tried_again():
    with worker_pool.WorkerPool(2) as pool:
        assert sorted(run(pool, die_if_negative, [1, -5, 3], retry=abs)) == [(0, 1), (1, 5), (2, 3)]


def test_workers_that_die_again_and_again_are_an_error(monkeypatch):
    monkeypatch.setattr(worker_pool, "_MAX_DEATHS", 2)
    message = "by SIGKILL, the 2th to end"
    with (
        worker_pool.WorkerPool(1) as pool,
        pytest.raises(worker_pool.WorkerDiedError, match=message),
    ):
        list(run(pool, die_if_negative, [-1]))


def test_no_worker_outlives_its_pool():
    with worker_pool.WorkerPool(3) as pool:
        processes = list(pool._processes.values())
        assert all(process.is_alive() for process in processes)
    assert not any(process.is_alive() for process in processes)


def test_a_pool_without_workers_is_refused():
    with pytest.raises(ValueError, match="num_workers must be at least 1, got 0"):
        worker_pool.WorkerPool(0)
