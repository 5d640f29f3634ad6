"""SWAG, latest weights and soups: moments by plain arithmetic, draws against their covariance, choices, refusals."""

import copy

import pytest
import torch
from torch import nn

from theorylens import core
from theorylens.landscape import (
    SWAG,
    LatestWeights,
    average_weights,
    averaged_model,
    averaging,
    greedy_soup,
    uniform_soup,
)
from theorylens.training import Optimisation, fit


def walk(net, n, seed=0, size=1.0):
    """``n`` weights of a random walk, each seen by the caller through ``net``."""
    rng = torch.Generator().manual_seed(seed)
    for _ in range(n):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(size * torch.randn(p.shape, generator=rng))
        yield torch.cat([p.detach().double().reshape(-1) for p in net.parameters()])


def small(seed=0):
    with core.global_randomness_kept(seed):
        return nn.Linear(2, 2)


# ---- SWAG --------------------------------------------------------------------------------------------------------


def test_moments_and_deviations_are_those_of_the_collected_weights():
    net = small()
    swag, swa = SWAG(net, rank=3), averaged_model(net)
    seen = []
    for flat in walk(net, 8):
        swag.update_parameters(net)
        swa.update_parameters(net)
        seen.append(flat)
    weights = torch.stack(seen)
    mean = torch.cat([swag.mean()[name].reshape(-1).double() for name in ("weight", "bias")])
    assert torch.allclose(mean, weights.mean(0), atol=1e-6)
    assert torch.allclose(swag.mean()["weight"], swa.module.weight, atol=1e-6)
    variance = torch.cat([swag.variances()[name].reshape(-1).double() for name in ("weight", "bias")])
    assert torch.allclose(variance, weights.var(0, correction=0), rtol=1e-5)
    diagonal, factors = swag.covariance()
    assert torch.allclose(diagonal, weights.var(0, correction=0) / 2)
    deviations = torch.stack([weights[i] - weights[: i + 1].mean(0) for i in (5, 6, 7)], dim=1)
    assert torch.allclose(factors @ factors.T, deviations @ deviations.T / (2 * 2))


def test_variances_do_not_cancel_far_from_zero():
    net = small().double()
    swag = SWAG(net, rank=2)
    for value in (1e8, 1e8 + 1, 1e8 + 2):
        for p in net.parameters():
            nn.init.constant_(p, value)
        swag.update_parameters(net)
    assert torch.allclose(swag.variances()["weight"], torch.full((2, 2), 2 / 3).double(), rtol=1e-6)


def test_draws_have_the_covariance_that_is_said_and_scale_and_seed_count():
    net = small()
    swag = SWAG(net, rank=4)
    for _ in walk(net, 10):
        swag.update_parameters(net)
    diagonal, factors = swag.covariance()

    def drawn(n, **how):
        found = [swag.sample(number=i, **how) for i in range(n)]
        return torch.stack([torch.cat([p.detach().double().reshape(-1) for p in m.parameters()]) for m in found])

    wanted = torch.diag(diagonal) + factors @ factors.T
    n = 1500
    draws = drawn(n)
    spread = (2 * wanted.diagonal()[:, None] * wanted.diagonal() / n).sqrt()
    assert ((torch.cov(draws.T) - wanted).abs() < 5 * spread).all()
    mean = torch.cat([swag.mean()[name].reshape(-1).double() for name in ("weight", "bias")])
    assert ((draws.mean(0) - mean).abs() < 5 * (wanted.diagonal() / n).sqrt()).all()
    only = drawn(800, low_rank=False, scale=0.5)
    assert torch.allclose(only.var(0), diagonal, rtol=0.25)
    assert torch.equal(drawn(2, seed=3), drawn(2, seed=3))
    assert not torch.equal(drawn(1, seed=3), drawn(1, seed=4))
    assert torch.allclose(drawn(1, scale=0.0)[0], mean, atol=1e-6)


def test_a_run_is_collected_by_the_callback_and_predictions_are_means_of_probabilities(digits):
    x, y = digits.split("train").take(range(200))
    held = digits.split("test").take(range(100))
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    swag = SWAG(net, rank=5)
    how = Optimisation(lr=0.2, batch_size=50, epochs=15)
    fit(net, (x, y), "cross_entropy", how, callbacks=[averaging(swag, start=20, every=4)])
    assert swag.collected == 11
    with pytest.raises(ValueError, match="has batch normalisation, whose statistics fit no draw; give data="):
        swag.sample()
    found = swag.predict(held, draws=4, data=(x, y))
    assert found.shape == (100, 10)
    assert torch.allclose(found.sum(1), torch.ones(100), atol=1e-5)
    twin = torch.stack([swag.sample(number=i, data=(x, y))(held[0]).softmax(1) for i in range(4)]).mean(0)
    assert torch.allclose(found, twin, atol=1e-6)
    assert (found.argmax(1) == held[1]).float().mean() > 0.75
    mean = swag.averaged(data=(x, y))
    hidden = mean[0](x)
    assert torch.allclose(mean[1].running_mean, hidden.mean(0), atol=1e-4)


def test_what_was_collected_can_be_saved_and_goes_on(tmp_path):
    net = small()
    one = SWAG(net, rank=3)
    for _ in walk(net, 5):
        one.update_parameters(net)
    torch.save(one.state_dict(), tmp_path / "swag.pt")
    other = SWAG(small(1), rank=9)
    other.load_state_dict(torch.load(tmp_path / "swag.pt", weights_only=True))
    for _ in walk(net, 3, seed=1):
        one.update_parameters(net)
        other.update_parameters(net)
    assert all(torch.equal(a, b) for a, b in zip(one.covariance(), other.covariance(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(one.sample().parameters(), other.sample().parameters(), strict=True))
    with pytest.raises(ValueError, match="the state is of 6 weights, the model has 12"):
        SWAG(nn.Linear(3, 3)).load_state_dict(one.state_dict())


# ---- LAWA and soups ----------------------------------------------------------------------------------------------


def test_the_latest_weights_are_the_mean_of_a_window():
    net, latest = small(), LatestWeights(3)
    states = []
    for _ in walk(net, 7):
        latest.update_parameters(net)
        states.append(copy.deepcopy(net.state_dict()))
        wanted = average_weights(states[-3:])
        assert all(torch.equal(v, wanted[k]) for k, v in latest.mean().items())
    again = LatestWeights(3)
    again.load_state_dict(latest.state_dict())
    assert torch.equal(again.mean()["weight"], latest.mean()["weight"])
    assert again.collected == 7


def test_the_mean_of_the_latest_weights_has_a_lower_loss_than_the_last_of_a_noisy_run(digits):
    x, y = digits.split("train").take(range(300))
    net = copy.deepcopy(digits.initial().subject.net)
    latest, last = LatestWeights(8), []

    def note(step, model, metrics):
        last.append(core.objective(model.eval(), (x, y), "cross_entropy").value) if step > 150 else None

    how = Optimisation(lr=2.0, batch_size=10, epochs=6)
    fit(net, (x, y), "cross_entropy", how, callbacks=[averaging(latest, every=2), note])
    net.load_state_dict(latest.mean())
    assert core.objective(net.eval(), (x, y), "cross_entropy").value < sum(last) / len(last)


def states_of(*values):
    return [{"weight": torch.tensor([[v]])} for v in values]


def test_a_greedy_soup_adds_what_does_not_hurt_and_counts_its_looks():
    net = nn.Linear(1, 1, bias=False)
    measure = lambda m: abs(m.weight.item() - 1.4)  # noqa: E731
    soup = greedy_soup(net, states_of(9.0, 3.0, 0.0, 1.2), measure)
    # Best first: 1.2 (.2), 0 (1.4), 3 (1.6), 9. With 0 the mean is .6: no. With 3 it is 2.1: no. With 9: no.
    assert soup.used == (3,)
    assert soup.looks == 4 + 3
    assert soup.single == pytest.approx((7.6, 1.6, 1.4, 0.2), rel=1e-6)
    whole = greedy_soup(net, states_of(0.0, 3.0, 9.0), measure)
    assert whole.used == (0, 1)
    assert whole.model.weight.item() == 1.5
    assert whole.value == pytest.approx(0.1, rel=1e-5)
    uniform = uniform_soup(net, states_of(0.0, 3.0, 9.0), measure)
    assert (uniform.model.weight.item(), uniform.looks, uniform.used) == (4.0, 0, (0, 1, 2))


def test_soups_refresh_batch_statistics_and_never_end_worse_than_the_best_ingredient(digits):
    x, y = digits.split("train").take(range(200))
    held = digits.split("test").take(range(150))
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 10))
    fit(net, (x, y), "cross_entropy", Optimisation(lr=0.2, batch_size=50, epochs=8))
    states = []
    for seed in range(3):  # fine-tuned from one network
        other = copy.deepcopy(net)
        fit(other, (x, y), "cross_entropy", Optimisation(lr=0.1, batch_size=20, epochs=4), seed=seed)
        states.append(other.state_dict())

    def error(model):
        assert not model.training
        return float((model(held[0]).argmax(1) != held[1]).float().mean())

    soup = greedy_soup(net, states, error, data=(x, y))
    assert soup.value <= min(soup.single)
    assert torch.allclose(soup.model[1].running_mean, soup.model[0](x).mean(0), atol=1e-4)
    assert uniform_soup(net, states, error, data=(x, y)).value < 0.35


def test_refusals():
    net = small()
    with pytest.raises(ValueError, match="rank must be at least 2 deviations, got 1"):
        SWAG(net, rank=1)
    swag = SWAG(net)
    with pytest.raises(ValueError, match="0 weights were collected, needed are at least 1"):
        swag.mean()
    swag.update_parameters(net)
    with pytest.raises(ValueError, match="1 weights were collected, needed are at least 2"):
        swag.sample()
    bad = small()
    nn.init.constant_(bad.weight, float("nan"))
    with pytest.raises(ValueError, match="the weights are not finite"):
        swag.update_parameters(bad)
    with pytest.raises(ValueError, match="12 weights were given and 6 before"):
        swag.update_parameters(nn.Linear(3, 3))
    with pytest.raises(ValueError, match="the model has no parameter weight"):
        swag.update_parameters(nn.Sequential(nn.Linear(2, 2)))
    swag.update_parameters(net)
    with pytest.raises(ValueError, match="scale must be at least 0, got -1"):
        swag.sample(scale=-1)
    with pytest.raises(ValueError, match="draws must be at least 1, got 0"):
        swag.predict((torch.zeros(3, 2), torch.zeros(3)), draws=0)
    frozen = small()
    for p in frozen.parameters():
        p.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        SWAG(frozen)
    with pytest.raises(ValueError, match="window must be at least 1 state, got 0"):
        LatestWeights(0)
    with pytest.raises(ValueError, match="no weights were collected"):
        LatestWeights(2).mean()
    with pytest.raises(ValueError, match="no states to make a soup of"):
        greedy_soup(net, [], lambda m: 0.0)
    with pytest.raises(ValueError, match=r"weight has shape \(1, 1\) in state 1"):
        uniform_soup(net, [small().state_dict(), {**small().state_dict(), "weight": torch.zeros(1, 1)}], lambda m: 0.0)
    with pytest.raises(ValueError, match="the measure of a state is NaN"):
        greedy_soup(net, [net.state_dict()], lambda m: float("nan"))
