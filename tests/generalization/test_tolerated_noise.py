"""How much noise weights tolerate: a closed form, laws of scaling, and what is refused."""

import math

import pytest
import torch
from scipy import stats
from torch import nn

from theorylens.core import RefusedError, Split
from theorylens.generalization import tolerated_noise, tolerated_perturbation


def one_weight(w=4.0):
    """Sign of w x on x = 1: wrong exactly when the noise is below -w, so the error rises by Phi(-w / s)."""
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(w)
    return net, (torch.ones(4, 1), torch.ones(4, 1))


@pytest.mark.parametrize(("scale", "unit"), [("absolute", 4.0), ("weight", 1.0)])
def test_one_weight_in_closed_form(scale, unit):
    net, data = one_weight()
    found = tolerated_noise(net, data, "binary_cross_entropy", rise=0.1, scale=scale, draws=100)
    truth = unit / -stats.norm.ppf(0.1)  # a standard deviation, not its square: 3.12 and 0.78
    assert found.value == pytest.approx(truth, rel=0.4)
    assert found.lower < truth < found.upper
    assert found.upper - found.lower < truth
    worst = tolerated_perturbation(net, data, "binary_cross_entropy", rise=0.1, scale=scale)
    assert worst.value == pytest.approx(unit, rel=2e-3)


@pytest.fixture(scope="module")
def net(subject):
    x, y = subject.split("train").take(range(200))
    return subject.net, Split.of((x, y))


def test_the_mean_error_at_the_answer_has_risen_by_what_was_asked_for(net):
    model, data = net
    (x, y) = data.take(range(len(data)))
    value = tolerated_noise(model, data, "cross_entropy", rise=0.2, draws=64).value
    generator = torch.Generator().manual_seed(9)
    state, errors = {k: v.clone() for k, v in model.state_dict().items()}, []
    twin = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    for _ in range(64):
        twin.load_state_dict(
            {k: v + value * v.abs() * torch.randn(v.shape, generator=generator) for k, v in state.items()}
        )
        errors.append(float((twin(x).argmax(1) != y).double().mean()))
    before = float((model(x).argmax(1) != y).double().mean())
    mean, error = sum(errors) / 64, math.sqrt(torch.tensor(errors).var() / 64)
    assert abs(mean - before - 0.2) < 4 * error


def test_noise_in_proportion_to_weights_does_not_see_a_rescaling_and_plain_noise_does(net):
    model, data = net
    other = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    other.load_state_dict(model.state_dict())
    with torch.no_grad():
        other[0].weight *= 8
        other[0].bias *= 8
        other[2].weight /= 8
    for function, more in ((tolerated_noise, {"draws": 4}), (tolerated_perturbation, {})):
        one, two = (function(m, data, "cross_entropy", scale="weight", **more).value for m in (model, other))
        assert two == pytest.approx(one, rel=0.01)
    plain = [tolerated_noise(m, data, "cross_entropy", scale="absolute", draws=4).value for m in (model, other)]
    assert plain[1] < 0.6 * plain[0]


def test_batches_do_not_matter_and_the_worst_is_worse_than_chance(net):
    model, data = net
    one = tolerated_noise(model, data, "cross_entropy", draws=4, batch_size=7)
    assert one.value == pytest.approx(tolerated_noise(model, data, "cross_entropy", draws=4).value, rel=1e-6)
    assert tolerated_perturbation(model, data, "cross_entropy").value < one.lower / 2


def test_refusals(net):
    model, data = net
    with pytest.raises(ValueError, match="a rise between 0 and 1 and at least 2 draws, got 0 and 16"):
        tolerated_noise(model, data, "cross_entropy", rise=0)
    with pytest.raises(ValueError, match="at least 1 step"):
        tolerated_perturbation(model, data, "cross_entropy", steps=0)
    with pytest.raises(RefusedError, match="no error that could rise"):
        tolerated_noise(nn.Linear(2, 1), (torch.randn(5, 2), torch.randn(5, 1)), "mse")
    with pytest.raises(RefusedError, match=r"raises the error by exactly 0\.99"):
        tolerated_noise(model, data, "cross_entropy", rise=0.99, draws=2)
    with pytest.raises(RefusedError, match="in training mode"):
        tolerated_noise(nn.Sequential(nn.Dropout(), nn.Linear(64, 10)).train(), data, "cross_entropy")
