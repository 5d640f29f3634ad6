"""Near copies end where exact ones do: they are no units of their own, and shared ones make a bound worthless."""

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Split, Subject, UnsuitableError
from theorylens.generalization import probe_test_error
from theorylens.generalization._alike import alike_numbers, near_pairs
from theorylens.generalization._learnt_prior import portions
from theorylens.results import Verdict

NOISE = 5e-4 * torch.randn(300, 64, generator=torch.Generator().manual_seed(1))


def twins(x):
    return x + NOISE[: len(x)]


def test_near_copies_of_training_inputs_make_the_bound_inconclusive(subject, digits):
    x, y = digits
    clean = probe_test_error(subject)
    mixed = (torch.cat([x[800:1300], twins(x[:100])]), torch.cat([y[800:1300], y[:100]]))
    found = probe_test_error(Subject(model=subject.net, loss="cross_entropy", train=(x[:800], y[:800]), test=mixed))
    assert clean.verdict is Verdict.HOLDS
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.settings["shared"] == 100
    (ways,) = [p for p in found.payload if getattr(p.label, "id", "") == "TL101.ways"]
    assert [row[0].id for row in ways.rows] == ["TL101.all_rows", "TL101.unshared"]
    assert [row[1] for row in ways.rows] == [600, 500]


def test_a_test_set_filled_up_with_near_copies_counts_once(subject, digits):
    x, y = digits
    once, single = (x[800:1100], y[800:1100]), Subject(model=subject.net, loss="cross_entropy")
    twice = (torch.cat([once[0], twins(once[0])]), torch.cat([once[1], once[1]]))
    bounds = [probe_test_error(Subject(model=single.net, loss="cross_entropy", test=t)) for t in (once, twice)]
    assert [b.certificate.n for b in bounds] == [300, 300]
    assert bounds[1].certificate.bound >= bounds[0].certificate.bound


def test_rows_with_another_target_are_no_copies(digits):
    x, y = digits
    both = Split((torch.cat([x[:50], twins(x[:50])]), torch.cat([y[:50], y[:50] + 1])))
    assert len(near_pairs(both)[0]) == 50
    assert len(np.unique(alike_numbers(both))) == 100


def test_near_copies_stay_on_one_side_of_a_division(digits):
    x, y = digits
    split = Split((torch.cat([x[:200], twins(x[:200])]), torch.cat([y[:200]] * 2)))
    first, second = portions(split, np.arange(400), (0.5, 0.5))
    assert len(first.rows) == 200
    assert {row % 200 for row in first.rows}.isdisjoint({row % 200 for row in second.rows})
    assert len(second.units) == 100  # one row of each pair serves the bound


def test_real_rows_have_no_near_copies(digits):
    x, _ = digits
    assert len(near_pairs(Split((x[:900],)), Split((x[900:],)))[0]) == 0


@pytest.mark.parametrize(
    "data",
    [(torch.zeros(9, 3), torch.zeros(9)), (torch.zeros(9, 20, dtype=torch.long), torch.zeros(9)), (torch.ones(9),)],
    ids=["few numbers", "tokens", "no rows"],
)
def test_inputs_that_are_no_rows_of_numbers_are_left_to_exact_copies(data):
    assert [len(p) for p in near_pairs(Split(data))] == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_network_whose_answers_depend_on_the_company_gets_no_bound(digits, dtype):
    x, y = digits

    def subject(**how):
        with torch.random.fork_rng():
            torch.manual_seed(0)
            net = nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8, **how), nn.ReLU(), nn.Linear(8, 10)).to(dtype)
        return Subject(model=net.eval(), loss="cross_entropy", test=(x[:200].to(dtype), y[:200]))

    assert probe_test_error(subject()).certificate.n == 200
    with pytest.raises(UnsuitableError, match="changes with the others of its batch"):
        probe_test_error(subject(track_running_stats=False))
