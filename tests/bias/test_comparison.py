"""Candidates of one size, crossed intervals, comparisons and choices: on data whose structure is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from theorylens.bias import (
    Budget,
    candidates,
    compare_architectures,
    crossed_mean,
    data_structure,
    graph_permutation_test,
    parameter_count,
    select_architecture,
)
from theorylens.bias._candidates import GraphNetwork, grid
from theorylens.bias._data_structure import scrambled_nodes, scrambled_pixels, scrambled_steps
from theorylens.bias._trials import Trials, inputs_and_targets
from theorylens.report._plots import figure
from theorylens.results import Statistical
from theorylens.training import Optimisation

FAST = Optimisation(optimizer="adam", lr=1e-2, batch_size=32, epochs=10, schedule="cosine")
Pair = tuple[Tensor, Tensor]


def edges(n: int, seed: int) -> Pair:
    """Class 1: one short bar of two neighbouring pixels; class 0: two single pixels, anywhere."""
    rng = torch.Generator().manual_seed(seed)
    x, y = 0.1 * torch.randn(n, 1, 8, 8, generator=rng), torch.arange(n) % 2
    for i in range(n):
        down, right, far = (int(v) for v in torch.randint(0, 6, (3,), generator=rng))
        x[i, 0, down, right] += 1.5
        if y[i]:
            x[i, 0, down, right + 1] += 1.5
        else:
            x[i, 0, (down + 2 + far % 4) % 8, (right + 3) % 8] += 1.5
    return x, y


def no_structure(n: int, seed: int) -> Pair:
    """A linear rule on pixels that are all alike."""
    rng = torch.Generator().manual_seed(seed)
    rule = torch.randn(64, generator=torch.Generator().manual_seed(99))
    x = torch.randn(n, 1, 8, 8, generator=rng)
    return x, (x.flatten(1) @ rule > 0).long()


def budget(seeds: int = 3, **options: object) -> Budget:
    return Budget(seeds=seeds, optimisation=FAST, **options)  # type: ignore[arg-type]


# ---- candidates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [2000, 20000])
@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((3, 16, 16), {"mlp", "cnn", "rnn", "transformer", "graph"}),
        ((1, 5, 9), {"mlp", "cnn", "rnn", "transformer", "graph"}),
        ((12, 4), {"mlp", "cnn", "rnn", "transformer", "graph"}),
        ((7,), {"mlp"}),
        (((6, 2), (6, 6)), {"mlp", "graph"}),
        ((3, 40, 40), {"mlp", "cnn", "rnn", "transformer"}),  # too many pixels for a dense grid
    ],
)
def test_candidates_have_the_asked_size_and_run(shape: tuple, names: set[str], parameters: int) -> None:
    found = candidates(shape, 5, parameters)
    assert set(found) == names
    graph = isinstance(shape[0], tuple)
    x = tuple(torch.rand(2, *s) for s in shape) if graph else torch.rand(2, *shape)
    for name, make in found.items():
        model = make()
        assert model(x).shape == (2, 5), name
        narrow = name == "mlp" and math.prod(np.ravel(shape).tolist()) > 1000
        assert narrow or abs(parameter_count(model) - parameters) < 0.25 * parameters, name


def test_no_candidate_of_a_neighbouring_width_is_nearer() -> None:
    for make in candidates((1, 8, 8), 10, 4000).values():
        sizes = {w: parameter_count(make.make(w)) for w in (make.width - 1, make.width, make.width + 1) if w > 0}  # type: ignore[attr-defined]
        assert min(sizes, key=lambda w: abs(sizes[w] - 4000)) == make.width  # type: ignore[attr-defined]


def test_shapes_without_candidates_are_refused() -> None:
    with pytest.raises(ValueError, match="neither vectors, sequences"):
        candidates((1, 2, 3, 4), 2)
    with pytest.raises(ValueError, match="at least 1, got 0 and 5000"):
        candidates((3,), 0)


def test_the_graph_candidate_is_invariant_and_the_grid_has_four_neighbours() -> None:
    model = GraphNetwork(2, 5, 3)
    x, a = torch.randn(6, 2), (torch.rand(6, 6) > 0.5).float()
    a = torch.maximum(a, a.T)
    assert graph_permutation_test(lambda h, m: model((h[None], m[None]))[0], x, a).invariant
    degrees = grid(4, 5).sum(1).reshape(4, 5)
    assert degrees[0].tolist() == [2, 3, 3, 3, 2]
    assert degrees[1].tolist() == [3, 4, 4, 4, 3]


# ---- intervals ---------------------------------------------------------------------------------------------------


def test_the_crossed_interval_is_the_formula() -> None:
    table = np.random.default_rng(0).normal(1.0, 1.0, (4, 50))
    found = crossed_mean(table)
    seeds = stats.t.ppf(0.975, 3) * table.mean(1).std(ddof=1) / 2
    rows = 1.959963984540054 * table.mean(0).std(ddof=1) / math.sqrt(50)
    assert found.value == pytest.approx(table.mean(), rel=1e-12)
    assert found.upper - found.value == pytest.approx(math.hypot(seeds, rows), rel=1e-9)


def test_errors_never_seen_still_have_an_upper_end() -> None:
    found = crossed_mean(np.zeros((3, 100)), least=0.0)
    assert found.lower == 0
    assert crossed_mean(np.zeros((3, 100))).lower == -found.upper
    assert found.upper == pytest.approx(1 - 0.025 ** (1 / 100), rel=1e-6)


def test_tables_without_an_interval_are_refused() -> None:
    with pytest.raises(ValueError, match=r"at least two of each, got shape \(1, 9\)"):
        crossed_mean(np.zeros((1, 9)))
    with pytest.raises(ValueError, match="not finite"):
        crossed_mean(np.full((2, 9), np.nan))
    with pytest.raises(ValueError, match="strictly between 0 and 1, got 1"):
        crossed_mean(np.zeros((2, 9)), level=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seed_sd", "row_sd", "cell_sd"), [(1.0, 0.0, 1.0), (0.0, 1.0, 1.0), (0.1, 1.0, 0.5), (0, 0, 1)]
)
def test_the_crossed_interval_covers(seed_sd: float, row_sd: float, cell_sd: float) -> None:
    rng, hits = np.random.default_rng(1), 0
    for _ in range(2000):
        table = (
            seed_sd * rng.normal(size=(5, 1)) + row_sd * rng.normal(size=(1, 60)) + cell_sd * rng.normal(size=(5, 60))
        )
        found = crossed_mean(table)
        hits += found.lower <= 0 <= found.upper
    assert stats.binom.cdf(hits, 2000, 0.945) > 1e-4, hits / 2000


# ---- comparison --------------------------------------------------------------------------------------------------


def constant() -> nn.Module:
    """Always the first class."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 2))
    model.requires_grad_(False)
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.copy_(torch.tensor([1.0, 0.0]))
    return nn.Sequential(model, Scale())


class Scale(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + 0 * self.factor


@pytest.fixture(scope="module")
def compared():
    return compare_architectures(
        edges(240, 0), edges(200, 1), factories={"constant": constant}, only=("cnn", "mlp", "constant"),
        parameters=900, budget=budget(sizes=(80, 240)),
    )  # fmt: skip


def test_the_convolution_wins_where_neighbours_decide(compared) -> None:
    ranking = compared.ranking()
    assert ranking[0].name == "cnn"
    by_name = {r.name: r for r in ranking}
    assert not by_name["constant"].tied
    assert by_name["constant"].behind is not None
    assert by_name["constant"].behind.uncertainty.level == pytest.approx(1 - 0.05 / 3)  # joint over three pairs
    assert compared.error("cnn", 240).value < 0.15
    assert compared.error("constant", 240).value == pytest.approx(0.5)
    assert compared.error("mlp", 240).value > compared.error("cnn", 240).value + 0.1


def test_differences_are_paired(compared) -> None:
    one, two = compared.errors[compared.names.index("cnn"), -1], compared.errors[compared.names.index("mlp"), -1]
    found = compared.difference("cnn", "mlp", 240)
    assert found.value == pytest.approx((one - two).mean(), rel=1e-12)
    assert found == crossed_mean(one - two)
    assert compared.difference("cnn", "cnn", 240).value == 0


def test_steadiness_is_nothing_at_no_shift_and_nothing_for_a_constant(compared) -> None:
    assert compared.moved.shape == (3, 4)
    assert compared.moved[:, 0].tolist() == [0, 0, 0]
    assert compared.moved[compared.names.index("constant")].tolist() == [0, 0, 0, 0]
    assert compared.moved[compared.names.index("mlp"), 1] > compared.moved[compared.names.index("cnn"), 1]


def test_everything_is_there_to_look_at(compared) -> None:
    payload = compared.payload()
    assert [type(p).__name__ for p in payload] == ["Intervals", "Curve", "Curve", "Table"]
    for each in payload[:3]:
        figure(each)
    assert len(payload[-1].rows) == 6
    assert payload[1].lines[0].x.tolist() == [80, 240]


def test_the_same_budget_gives_the_same_errors_and_a_directory_keeps_them(tmp_path) -> None:
    how = {"only": ("mlp",), "parameters": 500, "budget": budget(2, sizes=(60,), directory=tmp_path)}
    train, test = edges(60, 0), edges(40, 1)
    first = compare_architectures(train, test, **how)
    kept = len(list(tmp_path.iterdir()))
    again = compare_architectures(train, test, **how)
    assert np.array_equal(first.errors, again.errors)
    assert len(list(tmp_path.iterdir())) == kept > 0
    fresh = compare_architectures(train, test, only=("mlp",), parameters=500, budget=budget(2, sizes=(60,)))
    assert np.array_equal(first.errors, fresh.errors)


def test_a_trial_is_a_plain_training(compared) -> None:
    """The naive twin: the same subset, seed and steps by hand."""
    from theorylens.core import global_randomness_kept, key_seed
    from theorylens.training import fit

    train, test = edges(240, 0), edges(200, 1)
    order = torch.randperm(240, generator=torch.Generator().manual_seed(key_seed(1, "rows")))[:80]
    with global_randomness_kept(key_seed(1, "cnn")):
        model = candidates((1, 8, 8), 2, 900)["cnn"]()
    epochs = round(10 * 8 / 3)  # as many steps as 10 passes over 240 rows in 8 batches
    how = Optimisation(optimizer="adam", lr=1e-2, batch_size=32, epochs=epochs, schedule="cosine")
    fit(model, (train[0][order], train[1][order]), "cross_entropy", how, seed=1)
    with torch.no_grad():
        wrong = model(test[0]).argmax(1) != test[1]
    found = compared.errors[compared.names.index("cnn"), 0, 1]
    assert np.array_equal(found, wrong.double().numpy())


def test_regressions_are_compared_by_their_loss() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(80, 5, generator=rng)
    y = x.sum(1, keepdim=True)
    found = compare_architectures(
        (x[:50], y[:50]),
        (x[50:], y[50:]),
        "mse",
        parameters=200,
        budget=Budget(seeds=2, sizes=(50,), optimisation=Optimisation(optimizer="adam", lr=1e-2, epochs=60)),
    )
    assert found.names == ("mlp",)
    assert found.moved.shape == (1, 0)
    assert found.steadiness() == ()
    assert found.error("mlp", 50).value < float(y.var())


def test_what_cannot_be_compared_is_refused() -> None:
    train, test = edges(40, 0), edges(20, 1)
    with pytest.raises(ValueError, match="some held-out rows are also training rows"):
        compare_architectures(train, (train[0][:5], train[1][:5]))
    with pytest.raises(ValueError, match="needs at least 2 seeds, got 1"):
        Budget(seeds=1)
    with pytest.raises(ValueError, match=r"between 2 and the 40 training examples, got \[100\]"):
        compare_architectures(train, test, budget=budget(2, sizes=(100,)))
    with pytest.raises(ValueError, match="no candidate 'tree'; there are mlp, cnn"):
        compare_architectures(train, test, only=("tree",))
    with pytest.raises(ValueError, match="candidate 'mine' is no factory"):
        compare_architectures(train, test, factories={"mine": nn.Linear(2, 2)})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match="the training data are not pairs"):
        compare_architectures({"x": train[0]}, test)


def test_names_that_were_not_compared_are_refused(compared) -> None:
    with pytest.raises(ValueError, match="no candidate 'rnn' at 240 examples"):
        compared.error("rnn", 240)


# ---- structure ---------------------------------------------------------------------------------------------------


def test_destroyed_neighbourhoods_hurt_where_neighbours_decide() -> None:
    found = data_structure(edges(240, 0), edges(200, 1), symmetries=(), parameters=900, budget=budget())
    assert found.local
    assert found.scrambled.lower > 0.1
    assert found.dense_scrambled.lower <= 0
    assert isinstance(found.error.uncertainty, Statistical)
    figure(found.payload())


def dense_only(inputs: int) -> dict[str, object]:
    make = candidates((inputs,), 2, 600)["mlp"]
    return {"local": make, "dense": make}


def test_no_structure_is_found_where_all_pixels_are_alike() -> None:
    found = data_structure(no_structure(120, 0), no_structure(120, 1), symmetries=(), parameters=900, budget=budget())
    assert not found.local
    assert found.scrambled.lower < 0 < found.scrambled.upper


def test_flips_that_exchange_the_classes_hurt_and_flips_that_keep_them_do_not() -> None:
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(240, 1, 4, 4, generator=rng)
    y = (x[..., :2].sum((1, 2, 3)) > x[..., 2:].sum((1, 2, 3))).long()
    found = data_structure(
        (x[:120], y[:120]), (x[120:], y[120:]), symmetries=("flip left-right", "flip up-down"),
        factories=dense_only(16), budget=budget(),
    )  # fmt: skip
    assert found.transformed["flip left-right"].lower > 0.15  # each copy says the opposite
    assert abs(found.transformed["flip up-down"].value) < 0.05


def test_sequences_and_graphs_have_structure_too() -> None:
    rng = torch.Generator().manual_seed(0)
    steps, y = torch.randn(200, 6, 2, generator=rng), torch.arange(200) % 2
    steps[:, 0, 0] += 4.0 * y - 2.0
    found = data_structure((steps[:100], y[:100]), (steps[100:], y[100:]), factories=dense_only(12), budget=budget())
    assert found.kind == "sequence"
    assert set(found.transformed) == {"shift", "reverse"}
    assert found.transformed["reverse"].value > 0  # the first step decides: copies hide it at the other end
    x = torch.randn(60, 5, 2, generator=rng)
    a = (torch.rand(60, 5, 5, generator=rng) > 0.5).float()
    a = torch.maximum(a, a.transpose(1, 2))
    z = (a.sum((1, 2)) > 13).long()
    graphs = data_structure(((x[:40], a[:40]), z[:40]), ((x[40:], a[40:]), z[40:]), parameters=400, budget=budget(2))
    assert graphs.kind == "graph"
    assert graphs.transformed == {}


def test_scrambling_is_one_permutation_for_all_rows() -> None:
    x = torch.arange(2 * 2 * 12.0).reshape(2, 2, 3, 4)
    mixed = scrambled_pixels(x, torch.Generator().manual_seed(0))
    order = mixed[0, 0].flatten() - x[0, 0, 0, 0]
    assert sorted(order.tolist()) == list(range(12))
    for row in range(2):
        for channel in range(2):
            assert torch.equal(mixed[row, channel].flatten(), x[row, channel].flatten()[order.long()])
    steps = scrambled_steps(torch.arange(6.0).reshape(1, 6, 1).expand(3, 6, 1), torch.Generator().manual_seed(0))
    assert torch.equal(steps[0], steps[1])
    graphs = (torch.arange(5.0).reshape(1, 5, 1), torch.ones(1, 5, 5))
    features, adjacency = scrambled_nodes(graphs, torch.Generator().manual_seed(0))
    assert sorted(features.flatten().tolist()) == [0, 1, 2, 3, 4]
    assert adjacency is graphs[1]


def test_training_and_held_out_rows_are_scrambled_alike() -> None:
    """The local network sees one world: identical rows stay identical after scrambling."""
    train, long = no_structure(40, 0), Optimisation(optimizer="adam", lr=1e-2, batch_size=20, epochs=40)
    trials = Trials(train, train, "cross_entropy", candidates((1, 8, 8), 2, 500), long, {"scramble": scrambled_pixels})
    plain = trials({"candidate": "mlp", "size": 40, "seed": 0})
    mixed = trials({"candidate": "mlp", "size": 40, "seed": 0, "both": ["scramble"]})
    assert plain["errors"].mean() < 0.1
    assert mixed["errors"].mean() < 0.1


def test_vectors_and_unknown_symmetries_are_refused() -> None:
    vectors = (torch.randn(20, 4), torch.arange(20) % 2)
    with pytest.raises(ValueError, match="have no units in order whose order could be destroyed"):
        data_structure(vectors, vectors)
    with pytest.raises(ValueError, match="unknown symmetry 'twist' for image data; there are shift, flip"):
        data_structure(edges(20, 0), edges(20, 1), symmetries=("twist",))
    assert inputs_and_targets(vectors, "training")[1].shape == (20,)


# ---- choice ------------------------------------------------------------------------------------------------------


def test_a_choice_says_who_cannot_be_told_apart() -> None:
    twin = candidates((4,), 2, 200)["mlp"]
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(120, 4, generator=rng)
    y = (x[:, 0] > 0).long()
    found = select_architecture(
        (x[:60], y[:60]), (x[60:], y[60:]), factories={"twin": twin}, parameters=200, budget=budget(3, sizes=(60,))
    )
    assert set(found.best) == {"mlp", "twin"}
    assert found.structure is None
    assert found.said.id == "architectures.several"
    assert "cannot be told apart" in found.said.render()


def test_a_choice_measures_the_structure_beside_the_ranking() -> None:
    found = select_architecture(
        edges(160, 0), edges(160, 1), factories={"constant": constant}, only=("constant", "cnn"), symmetries=(),
        parameters=700, budget=budget(3, sizes=(160,)),
    )  # fmt: skip
    assert found.ranking[0].name == "cnn"
    assert found.structure is not None
    assert found.structure.kind == "image"
    assert found.best == ("cnn",)
    assert found.said.render().startswith("cnn has the smallest held-out error")


def test_random_shifts_are_the_shifts_of_each_row() -> None:
    from theorylens.bias import shifted
    from theorylens.bias._data_structure import moved_pixels, moved_steps

    x = torch.randn(30, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    by = torch.randint(-1, 2, (30, 2), generator=torch.Generator().manual_seed(3))
    moved = moved_pixels(x, torch.Generator().manual_seed(3))
    assert all(torch.equal(moved[i], shifted(x[i : i + 1], *by[i].tolist())[0]) for i in range(30))
    steps = torch.arange(12.0).reshape(1, 6, 2).expand(40, 6, 2)
    found = {tuple(row[:, 0].tolist()) for row in moved_steps(steps, torch.Generator().manual_seed(0))}
    assert found == {(0, 2, 4, 6, 8, 10), (0, 0, 2, 4, 6, 8), (2, 4, 6, 8, 10, 10)}
