import functools
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest
import torch

from theorylens.core import hash_callable
from theorylens.training import DivergedError, Optimisation, SweepError, sweep


def counting(folder):
    """A function that leaves a mark for each call, in whatever process."""

    def square(item):
        with open(os.path.join(folder, f"call-{item}"), "a") as file:
            file.write("x")
        return {"square": item**2, "process": os.getpid(), "threads": torch.get_num_threads()}

    return square


def calls(folder):
    return {p.name: p.read_text() for p in folder.glob("call-*")}


def test_results_come_in_the_order_of_the_grid_from_other_processes_with_one_thread_each(tmp_path):
    marks = tmp_path / "marks"
    marks.mkdir()
    torch.set_num_threads(2)
    found = sweep(counting(str(marks)), [3, 1, 2, 1], directory=tmp_path / "kept", jobs=2)
    assert torch.get_num_threads() == 2
    torch.set_num_threads(1)
    assert [f["square"] for f in found] == [9, 1, 4, 1]
    assert all(f["process"] != os.getpid() for f in found)
    assert {f["threads"] for f in found} == {1}
    assert calls(marks) == {"call-1": "x", "call-2": "x", "call-3": "x"}


def test_threads_of_a_chosen_backend_are_limited_and_given_back(tmp_path):
    torch.set_num_threads(2)
    try:
        found = sweep(lambda item: torch.get_num_threads(), [1, 2, 3], directory=tmp_path, jobs=2, backend="threading")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert found == [1, 1, 1]


def test_a_rerun_computes_only_what_is_new(tmp_path):
    function = counting(str(tmp_path))
    with joblib.parallel_config(backend="threading"):
        first = sweep(function, [1, 2], directory=tmp_path / "kept")
        second = sweep(function, [2, 3, 1], directory=tmp_path / "kept")
    assert calls(tmp_path) == {"call-1": "x", "call-2": "x", "call-3": "x"}
    assert second == [first[1], second[1], first[0]]


def test_another_function_or_closure_is_another_result(tmp_path):
    def shifted(by):
        return lambda item: item + by

    with joblib.parallel_config(backend="threading"):
        assert sweep(shifted(1), [1], directory=tmp_path) == [2]
        assert sweep(shifted(2), [1], directory=tmp_path) == [3]
        assert sweep(lambda item: item * 10, [1], directory=tmp_path) == [10]
        assert sweep(functools.partial(pow, 2), [3], directory=tmp_path) == [8]
        assert sweep(functools.partial(pow, 3), [3], directory=tmp_path) == [27]


def test_arrays_and_tensors_come_back_exactly(tmp_path):
    def arrays(item):
        return {
            "a": [np.arange(item), {"b": torch.ones(2, dtype=torch.float64) / 3}],
            "n": np.float64(0.1),
            "t": (1, None),
        }

    for _ in range(2):  # computed, then read
        (found,) = sweep(arrays, [4], directory=tmp_path, backend="threading")
        assert found["a"][0].tolist() == [0, 1, 2, 3]
        assert found["a"][1]["b"].tolist() == [1 / 3, 1 / 3]
        assert found["n"] == 0.1
        assert found["t"] == [1, None]


def test_items_may_hold_arrays(tmp_path):
    total = sweep(
        lambda item: float(item["w"].sum()), [{"w": np.ones(3)}, {"w": np.ones(4)}], directory=tmp_path, jobs=1
    )
    assert total == [3.0, 4.0]


def test_the_joblib_backend_of_the_user_is_respected(tmp_path):
    def where(item):
        time.sleep(0.05)
        return [os.getpid(), threading.current_thread().name]

    with joblib.parallel_config(backend="threading", n_jobs=2):
        found = sweep(where, list(range(4)), directory=tmp_path)
    assert {process for process, _ in found} == {os.getpid()}
    assert threading.current_thread().name not in {name for _, name in found}


def test_failures_are_named_after_everything_else_is_done(tmp_path):
    def fragile(item):
        if item["lr"] > 1:
            raise DivergedError("loss", float("nan"), 3, item["lr"])
        return item["lr"]

    grid = [{"lr": 2.0}, {"lr": 0.5}, {"lr": 3.0}, {"lr": 0.25}]
    with pytest.raises(SweepError, match=r"2 of 4 items failed \(\{'lr': 2.0\}: DivergedError: training diverged") as e:
        sweep(fragile, grid, directory=tmp_path, jobs=2)
    assert [f.item for f in e.value.failures] == [{"lr": 2.0}, {"lr": 3.0}]
    assert "in fragile" in e.value.failures[0].traceback
    assert len(list(tmp_path.glob("*.json"))) == 2
    assert sweep(fragile, [{"lr": 0.5}, {"lr": 0.25}], directory=tmp_path, jobs=1) == [0.5, 0.25]


def test_what_cannot_be_kept_is_a_failure_that_says_what_can(tmp_path):
    with pytest.raises(SweepError, match="a set cannot be kept; give numbers, words, lists, dicts or arrays"):
        sweep(lambda item: {item}, [1], directory=tmp_path, backend="threading")
    with pytest.raises(SweepError, match="the key 1 of a result is not a word"):
        sweep(lambda item: {item: 2}, [1], directory=tmp_path, backend="threading")
    assert not list(tmp_path.iterdir())


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from test_sweep import slow
from theorylens.training import sweep
sweep(slow(sys.argv[1]), list(range(6)), directory=sys.argv[1] + "/kept", jobs=1)
"""


def slow(folder):
    """Kills its own process at item 3, the first time."""

    def work(item):
        once = os.path.join(folder, "killed")
        if item == 3 and not os.path.exists(once):
            open(once, "w").close()
            os.kill(os.getpid(), signal.SIGKILL)
        with open(os.path.join(folder, f"call-{item}"), "a") as file:
            file.write("x")
        return item * 2

    return work


def test_a_killed_sweep_goes_on(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path), os.path.dirname(__file__)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == -signal.SIGKILL
    assert len(list((tmp_path / "kept").glob("*.json"))) == 3
    assert sweep(slow(str(tmp_path)), list(range(6)), directory=tmp_path / "kept", jobs=1) == [0, 2, 4, 6, 8, 10]
    assert calls(tmp_path) == {f"call-{i}": "x" for i in range(6)}


def test_divergence_survives_the_way_between_processes():
    error = DivergedError("loss", float("inf"), 12, 0.5)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.step, again.lr) == (str(error), 12, 0.5)


def test_a_closure_over_settings_is_known_by_their_values(tmp_path):
    def at(lr):
        how = Optimisation(lr=lr)
        return lambda item: item * how.lr

    with joblib.parallel_config(backend="threading"):
        assert sweep(at(0.5), [1], directory=tmp_path) == [0.5]
        assert sweep(at(0.25), [1], directory=tmp_path) == [0.25]
    assert hash_callable(at(0.5)) == hash_callable(at(0.5)) != hash_callable(at(0.25))
