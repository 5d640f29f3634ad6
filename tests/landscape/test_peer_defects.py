"""Numbers that other packages get silently wrong on ordinary input: each is right here.

Each test names the package and what it gives, as measured by this project's research. Dense second derivatives come
from ``torch.autograd.functional``, which agrees with differences of the gradient on all of these networks.
"""

import pytest
import torch
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from theorylens import core
from theorylens.landscape import (
    diagonal,
    eigenvalues,
    fisher,
    gauss_newton_trace,
    ggn,
    hessian,
    probe_eigenvalues,
    spectral_density,
    trace,
)
from theorylens.numerics import DenseOperator, lanczos, lanczos_quadrature
from theorylens.results import Exact


def dense(operator):
    return torch.stack([operator @ unit for unit in torch.eye(operator.size, dtype=operator.dtype)])


def explicit(net, whole_loss, x, y):
    """The Hessian of ``whole_loss(outputs, targets)`` on all data at once."""
    names = list(dict(net.named_parameters()))
    start = tuple(p.detach() for p in net.parameters())

    def loss(*values):
        return whole_loss(functional_call(net, dict(zip(names, values, strict=True)), (x,)), y)

    with sdpa_kernel(SDPBackend.MATH):
        blocks = torch.autograd.functional.hessian(loss, start)
    sizes = [p.numel() for p in start]
    rows = [[b.reshape(s, t) for b, t in zip(row, sizes, strict=True)] for row, s in zip(blocks, sizes, strict=True)]
    return torch.cat([torch.cat(row, dim=1) for row in rows])


def differences(net, whole_loss, x, y, vector, step=1e-5):
    """Central differences of the gradient along ``vector``, in float64: independent of any second derivative."""
    start = [p.detach().clone() for p in net.parameters()]
    slopes = []
    for sign in (1, -1):
        with torch.no_grad():
            pieces = torch.split(vector, [p.numel() for p in start])
            for p, s, v in zip(net.parameters(), start, pieces, strict=True):
                p.copy_(s + sign * step * v.view_as(p))
        found = torch.autograd.grad(whole_loss(net(x), y), list(net.parameters()))
        slopes.append(torch.cat([g.reshape(-1) for g in found]))
    with torch.no_grad():
        for p, s in zip(net.parameters(), start, strict=True):
            p.copy_(s)
    return (slopes[0] - slopes[1]) / (2 * step)


def made(build, n=13, shape=(5,)):
    with core.global_randomness_kept(4):
        net = build().double()
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.3 * torch.randn_like(p))
        x, y = torch.randn(n, *shape).double(), torch.randint(3, (n,))
    y[:5] = torch.tensor([0, 0, 0, 1, 2])  # classes unevenly over the batches
    return net.eval(), x, y


def smooth():
    return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def direction(size):
    return torch.randn(size, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_a_ragged_last_batch_counts_for_its_examples(reduction):
    """hessian-eigenthings weights each batch alike: products 21.5 % off for 400 + 112; a sum is divided by batches."""
    net, x, y = made(smooth)
    loss = nn.CrossEntropyLoss(reduction=reduction)
    truth = explicit(net, loss, x, y)
    v = direction(len(truth))
    for size in (1, 4, 5, 13):
        torch.testing.assert_close(hessian(net, (x, y), loss, batch_size=size) @ v, truth @ v, rtol=1e-9, atol=1e-11)
        assert trace(net, (x, y), loss, batch_size=size).value == pytest.approx(float(truth.trace()), rel=1e-10)


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.L1Loss, nn.BCEWithLogitsLoss])
def test_a_sum_over_several_outputs_is_a_sum(loss):
    net, x, _ = made(smooth)
    y = torch.rand(13, 3, generator=torch.Generator().manual_seed(1)).double()
    for reduction in ("mean", "sum"):
        whole = loss(reduction=reduction)
        goal = core.objective(net, (x, y), whole, batch_size=4)
        assert goal.value == pytest.approx(whole(net(x), y).item(), rel=1e-12)
        truth = explicit(net, whole, x, y)
        v = direction(len(truth))
        torch.testing.assert_close(goal.hessian() @ v, truth @ v, rtol=1e-9, atol=1e-11)


WEIGHTS = torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)
LOSSES = {
    "class weights": nn.CrossEntropyLoss(weight=WEIGHTS),
    "class weights, some ignored": nn.CrossEntropyLoss(weight=WEIGHTS, ignore_index=1),
    "some ignored, smoothed": nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.2),
    "class weights, smoothed": nn.CrossEntropyLoss(weight=WEIGHTS, label_smoothing=0.2),
}


@pytest.mark.parametrize("name", LOSSES)
def test_weights_ignored_targets_and_smoothing_in_ragged_batches(name):
    """curvlinops normalises by counts: weighted Hessians 25 %, their GGN 22 % off; ignored and smoothed, GGN 2 %."""
    net, x, y = made(smooth)
    loss = LOSSES[name]
    truth = explicit(net, loss, x, y)
    linear = nn.Sequential(nn.Linear(5, 3)).double()  # its Hessian is its Gauss-Newton matrix
    half = explicit(linear, loss, x, y)
    for size in (1, 4, 13):
        torch.testing.assert_close(dense(hessian(net, (x, y), loss, batch_size=size)), truth, rtol=1e-9, atol=1e-11)
        torch.testing.assert_close(dense(ggn(linear, (x, y), loss, batch_size=size)), half, rtol=1e-9, atol=1e-11)
        found = gauss_newton_trace(linear, (x, y), loss, batch_size=size)
        assert found.value == pytest.approx(float(half.trace()), rel=1e-9)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(4, 2, 6, batch_first=True, dropout=0.0)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.layer(x.view(len(x), -1, 4)).mean(1))


AFFINE = {
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)), (5,)),
    "attention": (Attention, (12,)),
    "group norm and SiLU": (
        lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.GroupNorm(2, 4), nn.SiLU(), nn.Flatten(), nn.Linear(16, 3)),
        (1, 4, 4),
    ),
}


@pytest.mark.parametrize("name", AFFINE)
def test_second_derivatives_through_normalisation(name):
    """torch.func, and curvlinops with it, are 2 to 6 % off through an affine LayerNorm; curvlinops has no GroupNorm."""
    build, shape = AFFINE[name]
    net, x, y = made(build, shape=shape)
    loss = nn.CrossEntropyLoss()
    truth = explicit(net, loss, x, y)
    operator = hessian(net, (x, y), loss, batch_size=4)
    v = direction(operator.size)
    torch.testing.assert_close(operator @ v, differences(net, loss, x, y, v), rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(operator @ v, truth @ v, rtol=1e-9, atol=1e-11)
    found = trace(net, (x, y), loss, draws=200, batch_size=4)
    exact = isinstance(found.uncertainty, Exact)
    assert found.value == pytest.approx(float(truth.trace()), rel=1e-9) if exact else (
        found.lower <= float(truth.trace()) <= found.upper
    )  # fmt: skip


def test_kinks_are_no_trouble_for_products():
    """Differences of gradients, which hessian-eigenthings offers, are 21 to 114 % off on networks of ReLU."""
    net, x, y = made(lambda: nn.Sequential(nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 3)))
    truth = explicit(net, nn.CrossEntropyLoss(), x, y)
    single = net.float()
    v = direction(len(truth)).float()
    found = hessian(single, (x.float(), y), "cross_entropy") @ v
    assert float((found.double() - truth @ v.double()).norm() / (truth @ v.double()).norm()) < 1e-5


def test_sure_predictions_do_not_make_the_fisher_matrix_nan():
    """nngeometry's Fisher matrices are NaN in float32 when the smallest probability is 5e-13."""
    with core.global_randomness_kept(0):
        net = nn.Sequential(nn.Linear(5, 40), nn.ReLU(), nn.Linear(40, 3))
        x, y = torch.randn(20, 5), torch.randint(3, (20,))
    with torch.no_grad():
        net[2].weight.mul_(60)
    assert float(net(x).detach().softmax(1).min()) < 5e-13
    exact = gauss_newton_trace(net.double(), (x.double(), y), "cross_entropy").value
    net = net.float()
    assert gauss_newton_trace(net, (x, y), "cross_entropy").value == pytest.approx(exact, rel=1e-4)
    assert float(diagonal(net, (x, y), "cross_entropy", of="ggn").values.sum()) == pytest.approx(exact, rel=1e-4)
    v = torch.randn(fisher(net, (x, y), "cross_entropy").size, generator=torch.Generator().manual_seed(0))
    for kind in ("exact", "monte_carlo", "empirical"):
        assert torch.isfinite(fisher(net, (x, y), "cross_entropy", kind=kind) @ v).all()
    with torch.no_grad():
        net[2].weight.mul_(100)  # probabilities underflow to zero
    assert float(net(x).detach().softmax(1).min()) == 0
    sure = gauss_newton_trace(net, (x, y), "cross_entropy").value
    truth = gauss_newton_trace(net.double(), (x.double(), y), "cross_entropy").value
    assert sure == pytest.approx(truth, rel=1e-2, abs=1e-30)


def test_a_negative_trace_is_no_reason_to_stop():
    """PyHessian divides by the trace without its absolute value and stops after two draws when it is negative."""
    net, x, _ = made(lambda: nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Linear(30, 3)))

    def bowl(outputs, targets):
        return -outputs.square().sum(1)

    truth = float(dense(hessian(net, (x, x), bowl)).trace())
    assert truth < 0
    found = trace(net, (x, x), bowl, draws=100)
    assert found.lower <= truth <= found.upper < 0
    half = (found.upper - found.lower) / 2
    more = trace(net, (x, x), bowl, draws=400)
    assert (more.upper - more.lower) / 2 < 0.65 * half  # it did go on: the error falls with the root of the draws


def test_training_mode_is_refused_and_statistics_stay():
    """hessian-eigenthings and nngeom return numbers in training mode and change the running statistics."""
    net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 3))
    data = torch.randn(8, 5, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for measure in (trace, hessian, ggn, fisher, diagonal):
        with pytest.raises(core.RefusedError, match=r"1 \(BatchNorm1d\) is in training mode"):
            measure(net, data, "cross_entropy")
    net.eval()
    trace(net, data, "cross_entropy")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())


# ---- eigenvalues and densities ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny():
    """20-32-32-10 with ReLU, 2,058 parameters, float32, trained a little; its eigenvalues, largest first."""
    with core.global_randomness_kept(6):
        net = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10))
        centres, y = torch.randn(10, 20), torch.randint(10, (200,))
        x = centres[y] + torch.randn(200, 20)
        rule = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(60):
            rule.zero_grad()
            nn.functional.cross_entropy(net(x), y).backward()
            rule.step()
    matrix = explicit(net, nn.functional.cross_entropy, x, y).double()
    return net.eval(), (x, y), torch.linalg.eigvalsh((matrix + matrix.T) / 2).flip(0).numpy()


def test_two_hundred_steps_do_not_give_five_copies_of_the_largest(tiny):
    """hessian-eigenthings stops reorthogonalising beyond 50 steps: top five of five copies of the first."""
    net, data, truth = tiny
    operator = core.objective(net, data, "cross_entropy").hessian()
    found = lanczos.eigenvalues(operator, 150, max_steps=200, generator=torch.Generator().manual_seed(0))
    assert found.steps >= 150
    assert found.values[:20] == pytest.approx(truth[:20], rel=1e-3)
    assert len(set(found.values[:5].round(3))) == 5


def test_a_rank_one_hessian_has_one_eigenvalue_and_no_second():
    """hessian-eigenthings tests breakdown against 1e-12 in single precision: 2, 1.983, 2e-8 for {2, 0, 0, 0}."""
    x, y = torch.full((1, 4), 0.5), torch.zeros(1, 1)
    for seed in range(10):
        found = eigenvalues(nn.Linear(4, 1, bias=False), (x, y), "mse", k=4, seed=seed)
        assert found.values == pytest.approx([2, 0, 0, 0], abs=1e-5)
        assert found.complete


def test_quadrature_reorthogonalises_so_that_no_weight_is_a_ghost():
    """curvlinops does not: the largest eigenvalues come back as copies that share and add weight."""
    spectrum = torch.cat([torch.linspace(-1, 1, 295), torch.tensor([10.0, 20.0, 40.0, 80.0, 160.0])])
    rule = lanczos_quadrature(DenseOperator(spectrum.diag()), 1, steps=80, generator=torch.Generator().manual_seed(0))
    assert (rule.nodes[0] > 5).sum() == 5

    def without(steps):
        """The three-term recurrence alone: the slow way to see what is avoided."""
        vector = torch.randn(300, generator=torch.Generator().manual_seed(0))
        vector, before, tail, diagonal, off = vector / vector.norm(), 0 * vector, 0.0, [], []
        for _ in range(steps):
            rest = spectrum * vector - tail * before
            diagonal.append(float(rest @ vector))
            rest = rest - diagonal[-1] * vector
            before, tail = vector, float(rest.norm())
            vector = rest / tail
            off.append(tail)
        return torch.linalg.eigvalsh(torch.diag(torch.tensor(diagonal)) + torch.diag(torch.tensor(off[:-1]), -1))

    assert int((without(80) > 5).sum()) > 5


def test_weights_of_a_density_add_up_to_one(tiny):
    """Landscaper returns the squares of the whole eigenvector matrix: as many as nodes times nodes."""
    net, data, truth = tiny
    found = spectral_density(net, data, "cross_entropy", k=10, draws=3, steps=20, trace=None)
    for rule in (found.drawn, found.quadrature):
        for nodes, weights in zip(rule.nodes, rule.weights, strict=True):
            assert nodes.shape == weights.shape
            assert weights.min() >= 0
            assert weights.sum() == pytest.approx(1, rel=1e-9)
    assert found.trace.lower <= truth.sum() <= found.trace.upper


def test_defaults_are_right_and_too_few_steps_are_said(tiny):
    """nngeom's ten default steps are 20 to 56 % off without a warning; hessian-eigenthings' are 22 % off."""
    net, data, truth = tiny
    found = eigenvalues(net, data, "cross_entropy")
    assert found.values == pytest.approx(truth[:5], rel=1e-3)
    assert found.converged.all()
    short = eigenvalues(net, data, "cross_entropy", max_steps=7)
    assert not short.converged.all()
    assert "did not converge in 7 steps" in short.trouble.render()
    off = abs(short.values[:, None] - truth).min(1)
    assert (off <= short.residuals + 1e-5).all()  # and the residuals it gives are true all the same


@pytest.mark.parametrize("seed", range(5))
def test_the_tolerance_is_delivered_on_clustered_spectra(seed):
    """Stopping when an iterate moves little (PyHessian, Landscaper, nngeom) asked for 0.1 % and was 0.7 % off."""
    cluster = 2 + 0.03 * torch.arange(9).flip(0)
    spectrum = torch.cat([cluster, torch.linspace(-0.2, 1.9, 391)]).double()
    found = lanczos.eigenvalues(
        DenseOperator(spectrum.diag()), 5, tolerance=1e-3, generator=torch.Generator().manual_seed(seed)
    )
    assert found.converged.all()
    assert found.values == pytest.approx(spectrum[:5].numpy(), rel=1e-3)


def test_curvature_of_a_relu_network_comes_from_no_differences(tiny):
    """Differences of gradients cross kinks: 21 to 114 % off (the way of hessian-eigenthings with FSDP)."""
    net, data, _ = tiny
    found = hessian(net, data, "cross_entropy")
    vector = torch.randn(found.size, generator=torch.Generator().manual_seed(1))
    product = found @ vector
    matrix = explicit(net, nn.functional.cross_entropy, *data)
    torch.testing.assert_close(product, matrix @ vector, rtol=1e-4, atol=1e-4)
    length = vector.norm()
    crossed = length * differences(net, nn.functional.cross_entropy, *data, vector / length, step=1e-3)
    assert float((crossed - product).norm() / product.norm()) > 0.2


def test_loss_gradient_and_products_are_those_of_one_mode():
    """nngeom takes the loss in evaluation mode and the products in training mode."""
    with core.global_randomness_kept(2):
        net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, 3))
        net(torch.randn(64, 4) + 1)  # statistics that are not those of the data below
        x, y = torch.randn(40, 4), torch.randint(3, (40,))
    subject = core.Subject(model=net.train(), loss="cross_entropy", train=(x, y))
    before = {name: t.clone() for name, t in net.state_dict().items()}
    result = probe_eigenvalues(subject)
    assert net.training
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    matrix = explicit(net.eval(), nn.functional.cross_entropy, x, y).double()
    assert result.estimate.value == pytest.approx(float(torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1]), rel=1e-3)
