"""The bottleneck: closed forms, direct minimisation, limits; the variational bound; contrastive bounds."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, minimize_scalar
from torch import Tensor, nn

from theorylens.representation import (
    bottleneck_curve,
    bottleneck_objective,
    contrastive_scores,
    discrete_mutual_information,
    gaussian_bottleneck,
    gaussian_mutual_information,
    infonce,
    information_bottleneck,
    variational_bottleneck,
)

SYMMETRIC = torch.tensor([[0.4, 0.1], [0.1, 0.4]], dtype=torch.float64)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def entropy(p: float) -> float:
    return 0.0 if p in (0, 1) else -p * math.log(p) - (1 - p) * math.log(1 - p)


@pytest.mark.parametrize("beta", [1.0, 2.5, 3.0, 5.0, 20.0])
def test_a_symmetric_binary_channel_has_mrs_gerbers_bottleneck(beta: float) -> None:
    """With noise 0.2 the optimal T is a binary symmetric channel of X: one number to minimise over."""

    def objective(q: float) -> float:
        joined = q * 0.8 + (1 - q) * 0.2
        return (math.log(2) - entropy(q)) - beta * (math.log(2) - entropy(joined))

    best = min(minimize_scalar(objective, bounds=(1e-12, 0.5), method="bounded", options={"xatol": 1e-12}).fun, 0.0)
    found = information_bottleneck(SYMMETRIC, [beta])[0]
    assert found.converged
    assert found.objective == pytest.approx(best, abs=1e-7)
    assert bottleneck_objective(SYMMETRIC, found.encoder, beta) == pytest.approx(found.objective, abs=1e-12)


def test_below_the_critical_beta_nothing_is_kept_and_far_above_everything() -> None:
    low, high = information_bottleneck(SYMMETRIC, [1 / 0.6**2 - 0.05, 1e4])
    assert (low.compression, low.relevance, low.objective) == (0, 0, 0)
    assert high.compression == pytest.approx(math.log(2), rel=1e-6)
    assert high.relevance == pytest.approx(discrete_mutual_information(SYMMETRIC), rel=1e-6)


def random_table(seed: int) -> Tensor:
    p = torch.rand(4, 3, generator=rng(seed), dtype=torch.float64) ** 3
    return p / p.sum()


@pytest.mark.parametrize("seed", range(2))
def test_direct_minimisation_over_encoders_finds_nothing_better(seed: int) -> None:
    p, beta = random_table(seed), 6.0
    found = information_bottleneck(p, [beta])[0]
    source = np.random.default_rng(seed)

    def objective(logits: np.ndarray) -> float:
        return bottleneck_objective(p, torch.softmax(torch.from_numpy(logits.reshape(4, 4)), 1), beta)

    best = min(minimize(objective, source.normal(size=16) * 3, method="L-BFGS-B").fun for _ in range(4))
    assert found.objective <= best + 1e-5 * abs(best)


def test_the_curve_rises_bends_down_and_stays_below_what_there_is_to_know() -> None:
    p = random_table(7)
    betas = list(np.geomspace(1.0, 100.0, 15))
    found = information_bottleneck(p, betas)
    assert [s.beta for s in found] == pytest.approx(betas)
    kept, known = np.array([s.compression for s in found]), np.array([s.relevance for s in found])
    assert (np.diff(kept) > -1e-6).all()
    assert (np.diff(known) > -1e-6).all()
    most = discrete_mutual_information(p)
    assert (known <= np.minimum(kept, most) + 1e-9).all()
    curve = bottleneck_curve(found, p)
    assert [line.role for line in curve.lines] == ["network", "theory"]
    assert curve.lines[1].y.max() <= most + 1e-12


def test_the_gaussian_bottleneck_is_the_published_one(golden) -> None:
    found = gaussian_bottleneck(torch.tensor([[1, 0.9], [0.9, 1]], dtype=torch.float64), 1, 5.0)
    assert [float(found.critical_betas), found.compression, found.relevance] == pytest.approx(
        golden("G2.3-5"), rel=1e-9
    )


def test_its_projection_plus_unit_noise_has_the_information_it_says() -> None:
    a = normal(5, 5)
    s = a @ a.T + 0.3 * torch.eye(5, dtype=torch.float64)
    first = gaussian_bottleneck(s, 3, 1.0).critical_betas
    assert torch.isinf(first[-1])  # two coordinates of Y say something of two directions of X at most
    for beta in (float(first[0]) * 1.05, float(first[1]) * 1.5):
        found = gaussian_bottleneck(s, 3, beta)
        t = found.projection
        assert len(t) == int((first < beta).sum()) > 0
        with_t = torch.cat([torch.eye(5, dtype=torch.float64), torch.cat([t, torch.zeros(len(t), 2).double()], 1)])
        joint = with_t @ s @ with_t.T
        joint[5:, 5:] += torch.eye(len(t), dtype=torch.float64)
        x, y, z = [0, 1, 2], [3, 4], list(range(5, 5 + len(t)))
        assert gaussian_mutual_information(joint[x + z][:, x + z], 3) == pytest.approx(found.compression, rel=1e-7)
        assert gaussian_mutual_information(joint[y + z][:, y + z], 2) == pytest.approx(found.relevance, rel=1e-7)
        for change in (0.97, 1.03):  # any other gain costs more
            other = joint.clone()
            other[5:, :5] *= change
            other[:5, 5:] *= change
            other[5:, 5:] = change**2 * (joint[5:, 5:] - torch.eye(len(t))) + torch.eye(len(t))
            worse = gaussian_mutual_information(other[x + z][:, x + z], 3) - beta * gaussian_mutual_information(
                other[y + z][:, y + z], 2
            )
            assert worse > found.compression - beta * found.relevance


def test_a_fine_table_of_a_gaussian_has_the_gaussian_bottleneck() -> None:
    rho, beta = 0.9, 3.0
    grid = torch.linspace(-3.2, 3.2, 25, dtype=torch.float64)
    x, y = torch.meshgrid(grid, grid, indexing="ij")
    p = (-(x**2 - 2 * rho * x * y + y**2) / (2 * (1 - rho**2))).exp()
    found = information_bottleneck(p / p.sum(), [beta])[0]
    exact = gaussian_bottleneck(torch.tensor([[1, rho], [rho, 1]], dtype=torch.float64), 1, beta)
    assert found.objective == pytest.approx(exact.compression - beta * exact.relevance, abs=2e-2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: information_bottleneck(torch.ones(2, 2), [1.0]), "sum to 1"),
        (lambda: information_bottleneck(SYMMETRIC, [-1.0]), "finite numbers >= 0"),
        (lambda: information_bottleneck(SYMMETRIC, []), "finite numbers >= 0"),
        (lambda: bottleneck_objective(SYMMETRIC, torch.eye(2), -1), "beta must not be negative, got -1"),
        (lambda: bottleneck_objective(SYMMETRIC, torch.ones(2, 2), 1), "one distribution over t for each of 2 values"),
        (lambda: gaussian_bottleneck(torch.eye(2), 1, -1.0), "beta must be a finite number >= 0"),
        (lambda: gaussian_bottleneck(torch.ones(2, 2), 1, 1.0), "not positive definite"),
        (lambda: gaussian_bottleneck(torch.eye(2), 2, 1.0), "splits after 2"),
    ],
)
def test_what_is_no_bottleneck_is_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mean, self.spread = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.mean(x), self.spread(x)


def test_the_variational_objective_is_cross_entropy_plus_the_rate_of_torch() -> None:
    encoder, decoder = Encoder().double(), nn.Linear(2, 4).double()
    x, y = normal(10, 3), torch.arange(10) % 4
    found = variational_bottleneck(encoder, decoder, x, y, 0.3, rng=rng(), draws=3)
    mean, spread = encoder(x)
    own = torch.distributions.Normal(mean, (spread / 2).exp())
    unit = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    rate = torch.distributions.kl_divergence(own, unit).sum(1).mean()
    assert float(found.rate.detach()) == pytest.approx(float(rate.detach()), rel=1e-10)
    generator = rng()
    drawn = [mean + (spread / 2).exp() * torch.randn(10, 2, generator=generator, dtype=torch.float64) for _ in range(3)]
    loss = torch.stack([nn.functional.cross_entropy(decoder(z), y) for z in drawn]).mean()
    assert float(found.objective.detach()) == pytest.approx(float((loss + 0.3 * rate).detach()), rel=1e-10)
    found.objective.backward()
    assert encoder.mean.weight.grad is not None


def test_the_rate_bounds_the_information_of_a_gaussian_channel() -> None:
    """X normal, Z = a X + noise: I(X;Z) = ln(1 + a²) / 2, and the rate is tight when the prior has the right spread."""
    a = 0.8
    x = normal(200_000, 1)
    spread = math.log(1 / (1 + a**2))  # so that Z has unit variance
    gain = a * math.exp(spread / 2)
    found = variational_bottleneck(
        lambda v: (gain * v, torch.full_like(v, spread)), lambda z: torch.cat([z, -z], 1), x, (x[:, 0] < 0).long(), 1.0,
        rng=rng(1),
    )  # fmt: skip
    assert float(found.rate) == pytest.approx(math.log(1 + a**2) / 2, abs=0.005)
    assert math.log(2) - float(found.cross_entropy) < math.log(1 + a**2) / 2


@pytest.mark.parametrize(
    ("beta", "draws", "labels", "message"),
    [
        (-0.1, 1, 4, "beta >= 0 and draws >= 1, got -0.1 and 1"),
        (0.1, 0, 4, "got 0.1 and 0"),
        (0.1, 1, 5, r"mean and log-variance \(n, d\) for 5 labels"),
    ],
)
def test_a_variational_bottleneck_without_sense_is_refused(beta: float, draws: int, labels: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variational_bottleneck(
            Encoder(), nn.Linear(2, 2), torch.randn(4, 3), torch.zeros(labels).long(), beta, rng=rng(), draws=draws
        )


SCORES = torch.tensor([[2.0, 0, 1], [0, 3, 0], [1, 0, 1]], dtype=torch.float64)


def test_scores_prove_the_published_bounds(golden) -> None:
    found = infonce(SCORES)
    assert [found.loss, found.bound, found.donsker_varadhan, found.nwj] == pytest.approx(golden("G2.3-6"), rel=1e-9)


def test_constant_scores_prove_nothing_and_perfect_ones_the_ceiling(golden) -> None:
    nothing, ceiling = golden("G2.3-7")
    for n in (2, 7, 128):
        flat = infonce(torch.full((n, n), 3.0))
        assert flat.bound == pytest.approx(nothing, abs=1e-12)
        assert not flat.saturated
    perfect = infonce(1000 * torch.eye(128))
    assert perfect.bound == pytest.approx(ceiling, rel=1e-9)
    assert perfect.ceiling == pytest.approx(ceiling, rel=1e-9)
    assert perfect.saturated
    assert infonce(-5 * torch.eye(8)).bound < 0


def test_the_loss_is_the_cross_entropy_of_torch_and_shifts_of_rows_do_not_matter() -> None:
    s = normal(9, 9)
    loss = nn.functional.cross_entropy(s, torch.arange(9))
    assert infonce(s).loss == pytest.approx(float(loss), rel=1e-10)
    assert infonce(s + normal(9, 1, seed=1)).bound == pytest.approx(infonce(s).bound, rel=1e-10)


def test_the_best_scores_bound_the_information_of_a_gaussian_from_below() -> None:
    """Scores are the log density ratio, with which Donsker-Varadhan is exact in the limit."""
    rho, n, runs = 0.8, 64, 200
    truth = -math.log(1 - rho**2) / 2
    found = []
    for seed in range(runs):
        x, noise = normal(n, seed=seed), normal(n, seed=seed + 10**6)
        y = rho * x + math.sqrt(1 - rho**2) * noise
        found.append(infonce((rho * x[:, None] * y - rho**2 * (x[:, None] ** 2 + y**2) / 2) / (1 - rho**2) + truth))
    mean = np.mean([f.bound for f in found])
    error = np.std([f.bound for f in found]) / runs**0.5
    assert 0.8 * truth < mean < truth + 2 * error
    assert np.mean([f.nwj + 0.0 for f in found]) < truth + 4 * np.std([f.nwj for f in found]) / runs**0.5


def test_scores_of_two_views_are_cosines_over_the_temperature() -> None:
    a, b = normal(5, 3), normal(5, 3, seed=1)
    s = contrastive_scores(a, 7 * b, 0.5)
    assert float(s[1, 2]) == pytest.approx(float(nn.functional.cosine_similarity(a[1], b[2], 0)) / 0.5, rel=1e-9)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: infonce(torch.randn(3, 4)), r"must be square, one row and one column per pair, got shape \(3, 4\)"),
        (lambda: infonce(torch.randn(3)), "must be square"),
        (lambda: infonce(torch.ones(1, 1)), "at least 2 rows, got 1"),
        (lambda: infonce(torch.ones(2, 2) / 0), "rows of scores are not finite"),
        (lambda: contrastive_scores(torch.randn(3, 2), torch.randn(4, 2)), "embeddings of one shape"),
        (lambda: contrastive_scores(torch.randn(3, 2), torch.randn(3, 2), 0.0), "temperature must be positive"),
        (lambda: contrastive_scores(torch.zeros(3, 2), torch.randn(3, 2)), "zero and has no direction"),
    ],
)
def test_scores_that_are_none_are_refused(call, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()
