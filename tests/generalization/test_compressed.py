"""Short descriptions: the code is a prior, the subspace is what it says, the certificate pays for every bit."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import nn

from theorylens.core import Subject, UnsuitableError
from theorylens.generalization import _compressed, certify_compressed, occam_bound
from theorylens.generalization._code_length import code_length
from theorylens.generalization._subspace import Subspace
from theorylens.results import Predictor


@pytest.mark.parametrize(("d", "levels"), [(1, 2), (4, 2), (5, 3), (3, 5)])
def test_the_code_lengths_are_those_of_a_probability(d, levels):
    """Over all lists of d symbols, exp(-length) adds up to exactly 1."""
    total = math.fsum(math.exp(-code_length(np.array(s), levels)) for s in itertools.product(range(levels), repeat=d))
    assert total == pytest.approx(1.0, rel=1e-12)


def test_lists_with_few_values_are_shorter():
    rng = np.random.default_rng(0)
    even, skew = rng.integers(0, 4, 400), (rng.random(400) < 0.05).astype(int)
    assert code_length(skew, 4) < 0.3 * code_length(even, 4)
    assert code_length(even, 4) == pytest.approx(400 * math.log(4), rel=0.05)


@pytest.mark.parametrize("bad", [np.array([0.5]), np.array([], dtype=int), np.array([3]), np.array([-1])])
def test_what_cannot_be_coded(bad):
    with pytest.raises(ValueError, match=r"whole numbers is needed|symbols must lie"):
        code_length(bad, 3)


def network(seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def test_the_subspace_starts_at_the_start():
    net, x = network(), torch.randn(5, 4)
    assert torch.equal(Subspace(net, 10)(x), net(x))


def test_every_weight_moves_with_one_coordinate():
    net = network()
    space = Subspace(net, 6)
    with torch.no_grad():
        space.z[2] = 0.5
    moved = torch.cat([(w - p).flatten() for w, p in zip(space.weights().values(), net.parameters(), strict=True)])
    numbers = torch.cat([space.get_buffer(f"number_{i}").flatten() for i in range(4)])
    assert torch.equal(moved != 0, numbers == 2)


def test_the_written_network_is_the_one_in_use():
    space, x = Subspace(network(), 12), torch.randn(7, 4)
    with torch.no_grad():
        space.z.normal_()
    space.quantise(3)
    assert torch.allclose(space.written()(x), space(x), atol=1e-6)


def test_coordinates_are_whole_multiples_of_a_step_of_sixteen_bits():
    space = Subspace(network(), 50)
    with torch.no_grad():
        space.z.normal_()
    space.quantise(2)
    step = float(space.step.detach())
    assert np.float16(step) == np.float32(step)
    multiples = (space.coordinates() / space.step).detach().numpy()
    assert np.allclose(multiples, np.round(multiples), atol=1e-5)
    assert set(np.round(multiples).astype(int) + 2) == set(space.symbols().tolist())
    assert np.abs(multiples).max() <= 2 + 1e-5


def test_gradients_pass_the_rounding():
    space = Subspace(network(), 12)
    with torch.no_grad():
        space.z.normal_()
    space.quantise(2)
    space(torch.randn(6, 4)).square().sum().backward()
    assert float(space.z.grad.abs().sum()) > 0
    assert space.log_step.grad is not None


def test_the_network_given_is_left_alone():
    net = network()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    space = Subspace(net, 5)
    with torch.no_grad():
        space.z.fill_(1.0)
    space.written()
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())


@pytest.mark.parametrize("make", [lambda: Subspace(network(), 0), lambda: Subspace(network().requires_grad_(False), 3)])
def test_what_has_no_subspace(make):
    with pytest.raises(ValueError, match=r"at least one dimension|no parameter that requires"):
        make()
    with pytest.raises(ValueError, match="at least the values -1, 0, 1"):
        Subspace(network(), 3).quantise(0)


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(_compressed, "STEPS", 250)


def subject_of(n=300):
    rng = torch.Generator().manual_seed(0)
    y = torch.randint(0, 3, (n,), generator=rng)
    x = 0.4 * torch.randn(n, 4, generator=rng)
    x[torch.arange(n), y] += 3.0
    net = network(1)
    return Subject(model=net, loss="cross_entropy", train=(x, y), test=(x[:50] + 0.01, y[:50]), init=network(1))


@pytest.mark.usefixtures("quick")
def test_the_certificate_pays_for_the_code_and_the_grid():
    subject = subject_of()
    found = certify_compressed(subject, dimensions=(12,), largest=(1, 2), delta=0.05)
    certificate = found.certificate
    assert certificate.predictor is Predictor.RELATIVE
    assert certificate.bound == pytest.approx(occam_bound(certificate.empirical, found.bits * math.log(2), 300, 0.05))
    assert found.bits > math.log2(2) + 16  # the grid and the step alone
    assert certificate.bound < certificate.trivial  # three far clusters: a dozen small numbers are enough
    x, y = subject.split("train").take(range(300))
    assert certificate.empirical == float((found.subject.net(x).argmax(1) != y).double().mean())


@pytest.mark.usefixtures("quick")
def test_the_same_seed_gives_the_same_description():
    a, b = (certify_compressed(subject_of(), dimensions=(8,), largest=(1,)) for _ in range(2))
    assert (a.certificate.bound, a.bits) == (b.certificate.bound, b.bits)


def test_a_grid_and_a_delta_are_needed():
    with pytest.raises(ValueError, match="the grid needs at least one"):
        certify_compressed(subject_of(), dimensions=())
    with pytest.raises(ValueError, match="delta must lie strictly between"):
        certify_compressed(subject_of(), delta=1.0)


class Unknown(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.zeros(4, 3))

    def forward(self, x):
        return x @ self.w


def test_without_a_start_there_is_nothing_to_compress_towards():
    x, y = torch.randn(20, 4), torch.randint(0, 3, (20,))
    with pytest.raises(UnsuitableError, match="starts from the network before training"):
        certify_compressed(Subject(model=Unknown(), loss="cross_entropy", train=(x, y)))
