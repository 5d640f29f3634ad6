"""Rank statistics against enumeration, their intervals by simulation, and a small study trained on digits."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from theorylens.generalization import conditional_information, generalization_measures, rank_statistics, rank_study
from theorylens.generalization._rank_study import _steps_to
from theorylens.training import Optimisation, fit

RNG = np.random.default_rng(0)


def sign(a, b):
    return int(a > b) - int(a < b)


def test_tau_psi_and_sign_error_agree_with_loops_over_pairs():
    cells = [dict(zip("abc", v, strict=True)) for v in itertools.product([1, 2, 3], ["x", "y"], [0.1, 0.2])]
    del cells[4]  # a network that was discarded
    n = len(cells)
    gap, error = RNG.random(n), RNG.random(n) * 0.1
    values = {"one": RNG.random(n).round(1), "two": np.where(RNG.random(n) < 0.3, math.inf, RNG.random(n))}
    axes = {axis: [c[axis] for c in cells] for axis in "abc"}
    found = rank_statistics(values, gap, errors=error, axes=axes, draws=200)
    for name, v in values.items():
        pairs = list(itertools.combinations(range(n), 2))
        agree = {(i, j): sign(v[i], v[j]) * sign(gap[i], gap[j]) for i, j in pairs}
        assert found[name].tau.value == pytest.approx(np.mean(list(agree.values())), rel=1e-12)
        along = {}
        for axis in "abc":
            one = [p for p in pairs if [k for k in "abc" if cells[p[0]][k] != cells[p[1]][k]] == [axis]]
            along[axis] = np.mean([agree[p] for p in one])
            assert found[name].axes[axis].value == pytest.approx(along[axis])
        assert found[name].psi.value == pytest.approx(np.mean(list(along.values())))
        clear = [p for p in pairs if abs(gap[p[0]] - gap[p[1]]) > 2 * math.hypot(error[p[0]], error[p[1]])]
        assert found[name].sign_error.value == pytest.approx(np.mean([(1 - agree[p]) / 2 for p in clear]))
        assert 0 < len(clear) < len(pairs)
        for e in (found[name].tau, found[name].psi, found[name].sign_error):
            assert e.lower <= e.value <= e.upper


def information_by_loops(v, g, settings):
    """I(V; G | U) / H(G | U) from joint shares of ordered pairs, term by term."""
    n = len(g)
    pairs = [(i, j) for i in range(n) for j in range(n) if g[i] != g[j]]
    rows = [(sign(v[i], v[j]), sign(g[i], g[j]), tuple((s[i], s[j]) for s in settings)) for i, j in pairs]
    p = {k: c / len(rows) for k, c in Counter(rows).items()}

    def marginal(*keep):
        found = Counter()
        for key, mass in p.items():
            found[tuple(key[k] for k in keep)] += mass
        return found

    vu, gu, u = marginal(0, 2), marginal(1, 2), marginal(2)
    shared = sum(m * math.log(m * u[k[2],] / (vu[k[0], k[2]] * gu[k[1], k[2]])) for k, m in p.items())
    left = -sum(m * math.log(m / u[k[1],]) for k, m in gu.items())
    return shared / left if left > 1e-12 else None


def test_conditional_information_is_the_least_over_choices_of_two_axes():
    cells = list(itertools.product([1, 2, 3], ["x", "y"], [0.1, 0.2], [0, 1]))
    rng = np.random.default_rng(4)
    gap, v = rng.random(len(cells)).round(1), rng.random(len(cells)).round(1)
    axes = {name: [c[k] for c in cells] for k, name in enumerate("abcd")}
    choices = [c for many in range(3) for c in itertools.combinations(axes.values(), many)]
    by_loops = [information_by_loops(v, gap, c) for c in choices]
    said = conditional_information(v, gap, axes)
    assert said == pytest.approx(min(x for x in by_loops if x is not None), rel=1e-9)
    assert rank_statistics({"v": v}, gap, axes=axes)["v"].information == said


def test_a_measure_that_only_repeats_an_axis_tells_nothing_beyond_it():
    """Width moves the gap; a measure that counts widths has a large tau and no information of its own."""
    cells = list(itertools.product(range(4), range(6)))
    rng = np.random.default_rng(5)
    gap = np.array([w + 0.3 * rng.standard_normal() for w, _ in cells])
    width = np.array([float(w) for w, _ in cells])
    axes = {"width": [w for w, _ in cells], "seed axis": [s for _, s in cells]}
    found = rank_statistics({"width": width, "gap": gap}, gap, axes=axes, draws=100)
    assert found["width"].tau.value > 0.7
    assert found["width"].information == pytest.approx(0.0, abs=1e-9)
    assert found["gap"].information == 1.0
    assert conditional_information(width, gap) > 0.5
    assert conditional_information([1.0, 2.0], [0.5, 0.5]) is None
    with pytest.raises(ValueError, match="two lists of the same length"):
        conditional_information([1.0], [1.0, 2.0])
    with pytest.raises(ValueError, match="one setting per network"):
        conditional_information([1.0, 2.0], [1.0, 2.0], {"a": [1]})


def test_along_an_axis_only_networks_of_one_seed_are_compared():
    gap = np.array([0.0, 1.0, 10.0, 9.0])
    axes, seeds = {"width": [1, 2, 1, 2]}, [0, 0, 1, 1]
    found = rank_statistics({"a": np.arange(4.0)}, gap, axes=axes, blocks=seeds, draws=100)["a"]
    assert found.axes["width"].value == found.psi.value == 0.0  # right for seed 0, wrong for seed 1
    mixed = rank_statistics({"a": np.arange(4.0)}, gap, axes=axes, draws=100)["a"]
    assert mixed.axes["width"].value == 0.5
    as_axis = rank_statistics({"a": np.arange(4.0)}, gap, axes={**axes, "seed": seeds}, draws=100)["a"]
    assert as_axis.psi.value == 0.5  # what seeds do would be counted like a setting


def test_settings_and_errors_that_do_not_fit_are_refused():
    gap = np.arange(5.0)
    for more, said in (
        ({"axes": {"width": [1, 2]}}, "width has 2 settings for 5 networks"),
        ({"blocks": [1]}, "blocks has 1 settings"),
        ({"errors": [0.1]}, "5 finite numbers"),
        ({"errors": [-0.1] * 5}, "at least 0"),
        ({"errors": [math.nan] * 5}, "finite"),
    ):
        with pytest.raises(ValueError, match=said):
            rank_statistics({"a": gap}, gap, **more)
    with pytest.raises(ValueError, match="no measure was given"):
        rank_statistics({}, gap)


def test_perfect_orders_have_no_sign_error_and_the_reverse_is_minus():
    gap = np.arange(10.0)
    found = rank_statistics({"up": gap**3, "down": -gap, "flat": np.zeros(10)}, gap, errors=np.full(10, 0.1))
    assert (found["up"].tau.value, found["up"].tau.lower, found["up"].sign_error.value) == (1.0, 1.0, 0.0)
    assert (found["down"].tau.value, found["down"].sign_error.value) == (-1.0, 1.0)
    assert (found["flat"].tau.value, found["flat"].sign_error.value) == (0.0, 0.5)
    assert found["up"].psi is None
    assert rank_statistics({"a": gap}, gap)["a"].sign_error is None
    assert rank_statistics({"a": gap}, gap, errors=np.full(10, 99.0))["a"].sign_error is None


@pytest.mark.slow
def test_bootstrap_intervals_cover_as_often_as_they_say():
    rng, rho, n, runs = np.random.default_rng(1), 0.6, 60, 2000
    truth = 2 / math.pi * math.asin(rho)
    noise = 0.3
    big = rng.normal(size=(200_000, 2, 2))
    measure, gap = (big[..., 0], rho * big[..., 0] + math.sqrt(1 - rho**2) * big[..., 1])
    apart = np.abs(gap[:, 0] - gap[:, 1]) > 2 * noise * math.sqrt(2)
    wrong = ((measure[:, 0] > measure[:, 1]) != (gap[:, 0] > gap[:, 1]))[apart].mean()
    covered = np.zeros(2)
    for k in range(runs):
        a = rng.normal(size=n)
        b = rho * a + math.sqrt(1 - rho**2) * rng.normal(size=n)
        found = rank_statistics({"a": a}, b, errors=np.full(n, noise), draws=200, seed=k)["a"]
        covered += [
            found.tau.lower <= truth <= found.tau.upper,
            found.sign_error.lower <= wrong <= found.sign_error.upper,
        ]
    assert (covered / runs >= 0.92).all()
    assert (covered / runs <= 0.98).all()


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: rank_statistics({"a": [1.0, 2.0, 3.0]}, [1.0, 2.0, 3.0]), "at least 4 networks"),
        (lambda: rank_statistics({"a": [1.0] * 4}, [1.0] * 4, draws=10), "100 draws"),
        (lambda: rank_statistics({"a": [1.0] * 3}, [1.0] * 4), r"a has shape \(3,\) for 4 networks"),
        (lambda: rank_statistics({"a": [1.0, math.nan, 2.0, 3.0]}, [1.0] * 4), "a is not defined for 1 networks"),
        (lambda: rank_statistics({"a": [1.0] * 4}, [1.0, math.nan, 2.0, 3.0]), "a gap is not finite"),
    ],
)
def test_refusals_of_the_statistics(call, said):
    with pytest.raises(ValueError, match=said):
        call()


def network(setting):
    return nn.Sequential(
        nn.Linear(64, setting["width"]), nn.ReLU(), nn.Dropout(setting.get("dropout", 0.0)),
        nn.Linear(setting["width"], 10),
    )  # fmt: skip


GRID = {"width": [1, 16, 32], "step": [{"lr": 0.01, "momentum": 0.9}, {"lr": 0.1, "momentum": 0.0}]}
NAMES = ("parameters", "length", "distance", "adaptive_flatness", "train_loss")


@pytest.fixture(scope="module")
def study(digits, tmp_path_factory):
    x, y = digits
    folder = tmp_path_factory.mktemp("study")
    how = Optimisation(epochs=30, batch_size=16, stop_at=0.5)

    def run(**more):
        return rank_study(
            GRID, (x[:200], y[:200]), (x[300:1300], y[300:1300]), make=network, optimisation=how, names=NAMES,
            seeds=(0, 1), draws=4, bootstrap=200, directory=folder, jobs=1, **more,
        )  # fmt: skip

    return run(), run, folder


def test_networks_stop_at_one_training_loss_and_those_that_do_not_reach_it_are_counted(study):
    found = study[0]
    assert {c["width"] for c in found.discarded} == {1}
    assert all(c["train_loss"] > 0.5 for c in found.discarded)
    assert len(found.settings) + len(found.discarded) == 12
    assert len(found.gaps) == len(found.settings) == 8
    assert (found.train_loss <= 0.5).all()
    assert (found.train_loss > 0.25).all()  # stopped at the first record below, not trained on
    assert set(found.values) == {*NAMES, "steps"}
    assert found.errors == pytest.approx(np.sqrt(0.1 * 0.9 / 1000), rel=0.5)


def test_measures_and_gap_are_those_of_the_network_of_the_cell(study, digits):
    found = study[0]
    k = next(i for i, s in enumerate(found.settings) if s["width"] == 16 and s["seed"] == 1)
    assert found.values["parameters"][k] == 64 * 16 + 16 + 160 + 10
    expected = stats.kendalltau(found.values["distance"], found.gaps)
    ties = len(set(found.gaps)) < len(found.gaps)
    if not ties:
        assert found.rankings["distance"].tau.value == pytest.approx(expected.statistic)
    assert set(found.rankings["parameters"].axes) == {"width", "step"}  # what differs between seeds is noise
    assert found.rankings["parameters"].axes["step"].value == 0  # the same number at both rates
    assert found.clear[1] == 28


def test_a_second_run_reads_what_is_there_and_pictures_are_in_order(study):
    found, run, folder = study
    before = sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir())
    again = run()
    assert sorted((p.name, p.stat().st_mtime_ns) for p in folder.iterdir()) == before
    assert again.gaps.tolist() == found.gaps.tolist()
    forest, table = found.forest(), found.table()
    assert (np.diff(forest.values) <= 0).all()
    assert len(table.rows) == len(found.rankings) == len(forest.names)
    assert "4 did not reach the training loss" in table.label.render()
    assert [row[1] for row in table.rows] == sorted((row[1] for row in table.rows), reverse=True)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"grid": {"width": []}}, r"the axes \['width'\] have no value"),
        ({"seeds": ()}, "at least one seed"),
        ({"grid": {"seed": [1]}}, "not as an axis"),
        ({"optimisation": Optimisation()}, "needs stop_at"),
        ({"optimisation": Optimisation(epochs=1, stop_at=1e-9)}, "0 of 1 networks reached a training loss of 1e-09"),
    ],
)
def test_refusals_of_the_study(given, said, digits):
    x, y = digits
    data = (x[:50], y[:50])
    settings = {"grid": {"width": [4]}, "make": network, "names": ("length",), "jobs": 1, **given}
    grid = settings.pop("grid")
    with pytest.raises(ValueError, match=said):
        rank_study(grid, data, data, **settings)


def test_steps_to_a_loss_lie_between_the_records_around_it():
    assert _steps_to(np.array([2.0, 0.4, 0.025]), [0, 10, 20]) == pytest.approx(15.0)
    assert _steps_to(np.array([2.0, 0.1]), [0, 10]) == pytest.approx(10.0)
    assert _steps_to(np.array([0.05]), [0]) == 0
    assert math.isnan(_steps_to(np.array([2.0, 0.4]), [0, 10]))


def test_new_measures_have_the_values_of_their_definitions(digits):
    x, y = digits
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, 10))
    fitted = fit(net, (x[:200], y[:200]), "cross_entropy", Optimisation(lr=0.1, momentum=0.9, epochs=20))
    found = generalization_measures(net, fitted.train, "cross_entropy", reference=fitted.init, draws=16)
    a, b = net[0].weight.detach().double(), net[2].weight.detach().double()
    assert found["layers"] == 2
    assert found["frobenius"] == pytest.approx(math.log10(float(a.square().sum() * b.square().sum())))
    assert found["spectral"] == pytest.approx(
        2 * math.log10(float(torch.linalg.matrix_norm(a, 2) * torch.linalg.matrix_norm(b, 2)))
    )
    with torch.no_grad():
        out = net(x[:200]).double()
    own = out.gather(1, y[:200, None])[:, 0]
    margin = float(torch.quantile(own - out.scatter(1, y[:200, None], -math.inf).max(1).values, 0.1))
    assert margin > 0
    assert found["inverse_margin"] == pytest.approx(margin**-2)
    for name in ("frobenius", "spectral", "path_norm"):
        assert found[f"{name}_margin"] == pytest.approx(found[name] - 2 * math.log10(margin))
    grads = []
    for i in range(200):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        grads.append(torch.cat([p.grad.double().reshape(-1) for p in net.parameters()]))
    stacked = torch.stack(grads)
    assert found["gradient_noise"] == pytest.approx(float(stacked.var(0).sum()), rel=1e-4)
    s2 = 1 / found["flatness"]
    assert found["flatness_length"] == pytest.approx(found["length"] ** 2 / (4 * s2) + math.log(200) - math.log(s2) / 2)
    assert found["flatness_distance"] == pytest.approx(
        found["distance"] ** 2 / (4 * s2) + math.log(200) - math.log(s2) / 2
    )
    with pytest.raises(ValueError, match=r"unknown measures \['sharp'\]; there are parameters, layers"):
        generalization_measures(net, fitted.train, "cross_entropy", names=["sharp"])
