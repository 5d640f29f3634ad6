"""Networks with random weights: divergence, what a draw is, which layers may have a draw per example."""

import math

import pytest
import torch
from scipy import stats
from torch import nn
from torch.distributions import Normal, kl_divergence

from theorylens.generalization import GaussianPosterior
from theorylens.generalization._gaussian_posterior import drawable


def network():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))


def moved(net, names, *, by_example, std=0.2):
    posterior = GaussianPosterior(net, std, names, by_example=by_example)
    rng = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for mean, ratio in zip(posterior.means, posterior.log_ratios, strict=True):
            mean += 0.1 * torch.randn(mean.shape, generator=rng)
            ratio += 0.3 * torch.randn(ratio.shape, generator=rng)
    return posterior


ALL = ["0.weight", "0.bias", "2.weight", "2.bias"]


def test_the_divergence_is_that_of_the_gaussians():
    net = network()
    posterior = moved(net, ALL, by_example=True)
    known = dict(net.named_parameters())
    expected = sum(
        kl_divergence(Normal(m.double(), 0.2 * r.double().exp()), Normal(known[name].double(), 0.2)).sum()
        for name, m, r in zip(posterior.names, posterior.means, posterior.log_ratios, strict=True)
    )
    assert float(posterior.divergence().detach()) == pytest.approx(float(expected.detach()), rel=1e-12)


def test_the_contract_s_one_dimensional_divergence(golden):
    posterior = GaussianPosterior(nn.Linear(1, 1, bias=False), 1.0, ["weight"], by_example=True)
    with torch.no_grad():
        posterior.means[0].add_(1.0)
        posterior.log_ratios[0].fill_(math.log(0.5))
    value = float(posterior.divergence().detach())
    assert value == pytest.approx(golden("G1.4-3"), rel=1e-7)  # float32 parameters


def test_at_the_prior_it_costs_nothing():
    assert float(GaussianPosterior(network(), 0.1, ALL, by_example=True).divergence().detach()) == 0.0


@pytest.mark.parametrize("names", [ALL, ["2.weight"], ["0.bias", "2.weight"]])
def test_a_draw_per_example_is_a_draw_of_the_weights(names):
    """Outputs of one example by local reparameterisation and by explicit weights have one distribution."""
    net, x = network(), torch.tensor([[0.5, -1.0, 2.0, 0.3, 0.0]])
    fast, plain = (moved(net, names, by_example=flag) for flag in (True, False))
    n = 4000
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        a = fast(x.expand(n, -1))
        b = torch.cat([plain(x) for _ in range(n)])
    for unit in range(3):
        assert stats.ks_2samp(a[:, unit], b[:, unit]).pvalue > 1e-3
    wide = stats.ks_2samp((a @ a.new_tensor([1.0, -1.0, 0.5])), (b @ b.new_tensor([1.0, -1.0, 0.5])))
    assert wide.pvalue > 1e-3  # outputs of one example depend on each other through the hidden units alike


def test_examples_of_one_batch_are_drawn_independently():
    posterior, x = moved(network(), ALL, by_example=True), torch.ones(4000, 5)
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(0)
        out = posterior(x)[:, 0].reshape(2, -1)
    assert abs(float(torch.corrcoef(out)[0, 1])) < 4 / math.sqrt(out.shape[1])


def test_a_draw_per_batch_is_shared_by_its_examples():
    with torch.no_grad():
        out = moved(network(), ALL, by_example=False)(torch.ones(6, 5))
    assert torch.allclose(out, out[:1].expand(6, -1), atol=1e-6)


def test_an_example_of_zeros_has_finite_gradients():
    posterior = moved(network(), ALL, by_example=True)
    posterior(torch.zeros(3, 5)).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in posterior.parameters() if p.requires_grad)


def test_the_network_inside_stays_in_evaluation_mode_and_as_it_was():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 2))
    before = {k: v.clone() for k, v in net.state_dict().items()}
    posterior = GaussianPosterior(net, 0.1, ["0.weight"], by_example=True)
    posterior.train()
    posterior(torch.randn(16, 4))
    assert not any(module.training for module in posterior.net.modules())
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert torch.equal(posterior.net[1].running_mean, before["1.running_mean"])


def test_dense_layers_used_once_on_a_matrix_get_draws_per_example():
    net = network()
    assert drawable(net, lambda m: m(torch.ones(2, 5))) == (tuple(ALL), True)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared, self.out = nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.shared(self.shared(x)))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.b.weight = self.a.weight

    def forward(self, x):
        return self.out(self.b(self.a(x)))


@pytest.mark.parametrize("make", [Twice, Tied])
def test_a_weight_that_serves_twice_is_not_drawn_per_use(make):
    names, alone = drawable(make(), lambda m: m(torch.ones(2, 4)))
    assert (names, alone) == (("out.weight", "out.bias"), True)


def test_tokens_share_a_draw_so_everything_is_drawn_per_batch():
    net = nn.Sequential(nn.Linear(4, 4), nn.ReLU())
    assert drawable(net, lambda m: m(torch.ones(2, 3, 4))) == (("0.weight", "0.bias"), False)


def test_convolutions_keep_their_weights_and_the_head_is_random():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    assert drawable(net, lambda m: m(torch.ones(2, 1, 4, 4))) == (("2.weight", "2.bias"), True)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((0.0, ALL), "prior_std must be a positive number, got 0.0"),
        ((float("nan"), ALL), "prior_std must be a positive number"),
        ((0.1, []), "names of parameters are needed"),
        ((0.1, ["5.weight"]), "names of parameters are needed, got \\['5.weight'\\]"),
    ],
)
def test_what_it_cannot_be_made_of(arguments, said):
    with pytest.raises(ValueError, match=said):
        GaussianPosterior(network(), *arguments, by_example=True)


def test_draws_per_example_of_a_convolution_are_refused():
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(ValueError, match=r"need dense layers; 0.weight belongs to a Conv2d"):
        GaussianPosterior(net, 0.1, ["0.weight"], by_example=True)


def test_batch_norm_on_the_batch_itself_is_refused():
    net = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ValueError, match="the answer for one example depends on others"):
        GaussianPosterior(net, 0.1, ["0.weight"], by_example=True)


def test_a_frozen_network_has_nothing_to_draw():
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        drawable(network().requires_grad_(False), lambda m: m(torch.ones(2, 5)))
