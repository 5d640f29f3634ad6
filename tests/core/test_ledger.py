"""Who was judged on which examples: what survives a killed run, runs side by side, and other names for the same."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import (
    Recipe,
    Split,
    Subject,
    Task,
    TestSetLedger,
    judged_hash,
    judged_on_test,
    labels_in_order,
    recipe_hash,
    tried_on_training,
)

RNG = torch.Generator().manual_seed(0)
X, Y = torch.randn(120, 4, generator=RNG), torch.randint(0, 3, (120,), generator=RNG)


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("THEORYLENS_STATE", str(tmp_path))
    return tmp_path


def net(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3))


def test_a_line_torn_by_a_killed_run_costs_no_other_line(state):
    ledger = TestSetLedger(state / "l.jsonl")
    assert ledger.record("T", "m1", "a") == 1
    with ledger.path.open("a", encoding="utf-8") as file:
        file.write('{"test": "T", "mod')
    assert ledger.record("T", "m2", "b") == 2
    assert ledger.record("T", "m3", "c") == 3
    assert ledger.models("T") == {"m1", "m2", "m3"}
    with ledger.path.open("ab") as file:
        file.write(b'\n7\n{"test": "T"}\n\xff\xfe\n[]\n')  # lines that are not entries
    assert ledger.record("T", "m4", "d") == 4


def test_runs_side_by_side_are_all_counted_and_no_two_get_the_same_count(state):
    """Threads here: the lock belongs to the opened file, so each takes its turn as a process would."""
    ledger = TestSetLedger(state / "l.jsonl")
    with ThreadPoolExecutor(8) as many:
        counts = list(many.map(lambda i: ledger.record("T", f"m{i}", "x" * 3000), range(64)))
    assert sorted(counts) == list(range(1, 65))
    assert len(ledger.models("T")) == 64


def test_another_preparation_of_the_inputs_does_not_hide_the_test_set():
    def judged(x, y=Y, seed=0):
        return judged_on_test(Subject(model=net(seed), loss="cross_entropy", test=(x, y)))

    assert judged(X, seed=1) == 1
    assert judged((X - X.mean(0)) / X.std(0), seed=2) == 2
    assert judged(X.double().float().flip(0), Y.flip(0), seed=3) == 2  # same rows as the first, another order
    assert judged(X + 1, Y.roll(1), seed=4) == 1  # other examples


def test_outputs_without_a_model_are_judged_on_the_same_labels():
    for count in range(1, 4):
        given = {"test": (torch.randn(120, 3, generator=RNG), Y)}
        assert judged_on_test(Subject(loss="cross_entropy", outputs=given)) == count


@pytest.mark.parametrize(
    "labels",
    [
        np.zeros(500, int),
        np.repeat(np.arange(10), 100),
        np.repeat(np.arange(100), 100),
        np.tile([0, 1, 2], 400),
        [0, 1],
    ],
    ids=["constant", "sorted", "sorted, many", "in turns", "two rows"],
)
def test_orders_of_labels_that_any_data_may_have_tell_nothing_apart(labels):
    y = torch.as_tensor(labels)
    assert labels_in_order(Split((torch.zeros(len(y), 2), y))) == ""


def test_labels_in_order_are_read_from_dicts_too():
    one = labels_in_order(Split((X, Y)))
    assert one != ""
    assert labels_in_order(Split({"x": 2 * X, "labels": Y})) == one
    assert labels_in_order(Split({"x": X, "z": X})) == ""


def test_the_same_weights_with_another_threshold_or_forward_are_another_predictor():
    def at(threshold):
        return Task(
            forward=lambda m, b: (m(b[0]), b[1]), loss="cross_entropy",
            error=lambda o, t: ((o[:, 1] > threshold).long() != t).float(), error_range=(0.0, 1.0),
        )  # fmt: skip

    base = net()
    hashes = {judged_hash(Subject(model=base, task=at(t), test=(X, Y))) for t in (0.1, 0.2, 0.3)}
    assert len(hashes) == 3

    smooth = nn.Sequential(base[0], nn.Tanh(), base[2])
    both = {judged_hash(Subject(model=m, loss="cross_entropy", test=(X, Y))) for m in (base, smooth)}
    assert len(both) == 2
    assert judged_hash(Subject(model=net(), loss="cross_entropy", test=(X, Y))) in both


RATE = 0.1


def _build(width):
    return nn.Linear(4, width)


def test_a_recipe_is_known_by_its_code_and_by_what_its_names_stand_for(monkeypatch):
    def recipe(width=3, loader=None):
        def train(*, seed, rows=None):
            return _build(width), RATE, loader

        return recipe_hash(Recipe(train))

    assert recipe() == recipe()
    assert recipe(loader=object()) == recipe(loader=object())  # what cannot be read does not change it either
    assert recipe(4) != recipe()
    before = recipe()
    monkeypatch.setitem(globals(), "RATE", 0.2)
    assert recipe() != before
    changed = recipe()
    monkeypatch.setitem(globals(), "_build", lambda width: nn.Linear(5, width))
    assert recipe() != changed


def test_ways_to_certify_are_counted_by_family():
    subject = Subject(model=net(), loss="cross_entropy", train=(X, Y))
    assert tried_on_training(subject, "ways", "a", "") == 1
    assert tried_on_training(subject, "ways", "b", "") == 2
    assert tried_on_training(subject, "ways", "a", "") == 2
    assert tried_on_training(subject, "compression", "c", "") == 1
    prepared = Subject(model=net(), loss="cross_entropy", train=(2 * X, Y))
    assert tried_on_training(prepared, "ways", "d", "") == 3
    assert tried_on_training(prepared, "compression", "d", "") == 2
