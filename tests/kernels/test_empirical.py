"""The empirical tangent kernel against the naive Jacobian, closed forms, and laws."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.core import RefusedError
from theorylens.kernels import ntk

DOUBLE = torch.float64


def naive(model, x, names=None):
    """Jacobian (n, C, P): one example and one output at a time."""
    parameters = [p for n, p in model.named_parameters() if p.requires_grad and (names is None or n in names)]
    every = []
    for i in range(len(x)):
        out = model(x[i : i + 1])[0]
        found = [
            torch.autograd.grad(o, parameters, retain_graph=True, allow_unused=True, materialize_grads=True)
            for o in out
        ]
        every.append(torch.stack([torch.cat([s.reshape(-1) for s in slopes]) for slopes in found]))
    return torch.stack(every)


class Tied(nn.Module):
    """Embedding and read-out share a weight; the read-out is functional, so no layer call shows it."""

    def __init__(self, functional):
        super().__init__()
        self.embedding, self.hidden = nn.Embedding(7, 4), nn.Linear(4, 4)
        self.out = nn.Linear(4, 7, bias=False)
        self.functional = functional
        self.out.weight = self.embedding.weight

    def forward(self, index):
        h = torch.tanh(self.hidden(self.embedding(index))).mean(1)
        return F.linear(h, self.embedding.weight) if self.functional else self.out(h)


class Twice(nn.Module):
    def __init__(self, inplace=False):
        super().__init__()
        self.first, self.again, self.out = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.act = nn.ReLU(inplace=inplace)

    def forward(self, x):
        h = self.act(self.first(x))
        return self.out(self.act(self.again(self.act(self.again(h)))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x):
        return self.out(self.block(x).mean(1))


class Tokens(nn.Module):
    """A linear layer and a norm at every place; embedding with a padding row."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(6, 5, padding_idx=0)
        self.mix, self.norm, self.out = nn.Linear(5, 4), nn.LayerNorm([3, 4]), nn.Linear(4, 2)

    def forward(self, index):
        return self.out(torch.tanh(self.norm(self.mix(self.embedding(index)))).sum(1))


class Routed(nn.Module):
    """Examples take different layers: only per-example gradients are safe."""

    def __init__(self):
        super().__init__()
        self.left, self.right = nn.Linear(3, 2), nn.Linear(3, 2)

    def forward(self, x):
        out = x.new_zeros(len(x), 2)
        mask = x[:, 0] > 0
        if mask.any():
            out = out.index_put((mask.nonzero()[:, 0],), self.left(x[mask]))
        if (~mask).any():
            out = out.index_put(((~mask).nonzero()[:, 0],), self.right(x[~mask]))
        return out


class TimeFirst(nn.Module):
    """Layers see the example on the second axis."""

    def __init__(self):
        super().__init__()
        self.mix, self.out = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x):
        return self.out(torch.tanh(self.mix(x.transpose(0, 1))).sum(0))


def conv_net(**options):
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, **options), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 3)
    )


def images(n=5):
    return torch.randn(n, 4, 7, 6, dtype=DOUBLE)


def warmed(norm, *shape):
    """A batch norm with statistics and an affine part of its own."""
    norm.train()
    for _ in range(3):
        norm(torch.randn(*shape) * 2 + 1)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2)
        norm.bias.normal_()
    return norm.eval()


MODELS = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)), lambda: torch.randn(6, 4, dtype=DOUBLE)
    ),
    "conv": (lambda: conv_net(), images),
    "conv stride padding": (lambda: conv_net(stride=2, padding=1), images),
    "conv groups": (lambda: conv_net(groups=2, padding=(2, 1)), images),
    "conv dilation": (lambda: conv_net(dilation=2, padding=2, stride=(1, 2)), images),
    "conv same": (lambda: conv_net(padding="same", bias=False), images),
    "conv circular": (lambda: conv_net(padding=2, padding_mode="circular"), images),
    "conv reflect": (lambda: conv_net(padding=1, padding_mode="reflect", groups=2), images),
    "conv one channel wide": (
        lambda: nn.Sequential(nn.Conv2d(4, 64, (7, 6)), nn.Flatten(), nn.Linear(64, 2)), images
    ),
    "conv1d": (
        lambda: nn.Sequential(nn.Conv1d(2, 3, 3, dilation=2, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(9, 2)),
        lambda: torch.randn(4, 2, 10, dtype=DOUBLE),
    ),
    "conv3d": (
        lambda: nn.Sequential(nn.Conv3d(2, 2, (2, 3, 1), padding=(1, 0, 0)), nn.GELU(), nn.Flatten(), nn.Linear(60, 2)),
        lambda: torch.randn(3, 2, 4, 5, 2, dtype=DOUBLE),
    ),
    "transposed conv": (
        lambda: nn.Sequential(nn.ConvTranspose1d(2, 2, 3), nn.Flatten(), nn.Linear(12, 2)),
        lambda: torch.randn(3, 2, 4, dtype=DOUBLE),
    ),
    "group norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.GroupNorm(2, 6), nn.ReLU(inplace=True),
                              nn.Flatten(), nn.Linear(120, 2)),
        images,
    ),
    "layer norm": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.RMSNorm(6), nn.SiLU(), nn.Linear(6, 3)),
        lambda: torch.randn(6, 4, dtype=DOUBLE),
    ),
    "batch norm": (
        lambda: nn.Sequential(nn.Conv2d(4, 6, 3), warmed(nn.BatchNorm2d(6), 8, 6, 5, 4), nn.ReLU(inplace=True),
                              nn.Flatten(), nn.Linear(120, 5), warmed(nn.BatchNorm1d(5), 20, 5)),
        images,
    ),
    "tied": (lambda: Tied(False), lambda: torch.randint(7, (5, 3))),
    "tied functional": (lambda: Tied(True), lambda: torch.randint(7, (5, 3))),
    "twice": (Twice, lambda: torch.randn(5, 3, dtype=DOUBLE)),
    "twice inplace": (lambda: Twice(True), lambda: torch.randn(5, 3, dtype=DOUBLE)),
    "lstm": (Recurrent, lambda: torch.randn(4, 3, 3, dtype=DOUBLE)),
    "attention": (Attention, lambda: torch.randn(3, 3, 4, dtype=DOUBLE)),
    "tokens": (Tokens, lambda: torch.randint(6, (5, 3))),
    "routed": (Routed, lambda: torch.randn(6, 3, dtype=DOUBLE)),
    "time first": (TimeFirst, lambda: torch.randn(4, 4, 3, dtype=DOUBLE)),
    "weight norm": (
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 5)), nn.Tanh(), nn.Linear(5, 2)),
        lambda: torch.randn(4, 4, dtype=DOUBLE),
    ),
}  # fmt: skip


def made(name, seed=0):
    torch.manual_seed(seed)
    build, data = MODELS[name]
    return build().eval().double(), data()


@pytest.mark.parametrize("name", MODELS)
def test_the_kernel_is_that_of_the_naive_jacobian(name):
    model, x = made(name)
    J = naive(model, x)
    full = torch.einsum("icp,jdp->ijcd", J, J)
    torch.testing.assert_close(ntk(model, x), full, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(ntk(model, x, output="trace"), torch.einsum("ijcc->ij", full), rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(ntk(model, x, output="diag"), torch.einsum("ijcc->ijc", full), rtol=1e-10, atol=1e-11)
    pseudo = full.sum((2, 3)) / full.shape[2]
    torch.testing.assert_close(ntk(model, x, output="pseudo"), pseudo, rtol=1e-10, atol=1e-11)
    cross = ntk(model, x[:2], x[1:])
    torch.testing.assert_close(cross, full[:2, 1:], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("output", ["full", "trace", "diag", "pseudo"])
@pytest.mark.parametrize("name", ["conv groups", "tokens", "tied functional", "batch norm"])
def test_the_batch_size_and_the_memory_bound_do_not_change_the_answer(name, output):
    model, x = made(name)
    whole = ntk(model, x, output=output)
    for size in (1, 2, 3):
        torch.testing.assert_close(ntk(model, x, output=output, batch_size=size), whole, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(ntk(model, x, output=output, memory=1), whole, rtol=1e-10, atol=1e-11)
    torch.testing.assert_close(ntk(model, x[:3], x, output=output, batch_size=2), whole[:3], rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("cheaper", [True, False])
@pytest.mark.parametrize("name", ["mlp", "conv groups", "conv circular", "conv3d", "tokens"])
def test_both_forms_of_a_layer_agree(name, cheaper, monkeypatch):
    monkeypatch.setattr("theorylens.kernels._jacobian.factors_are_cheaper", lambda *a: cheaper)
    monkeypatch.setattr("theorylens.kernels._gram.TILE", 700)  # several tiles
    model, x = made(name)
    J = naive(model, x)
    for output, formula in [("full", "icp,jdp->ijcd"), ("trace", "icp,jcp->ij"), ("diag", "icp,jcp->ijc")]:
        torch.testing.assert_close(ntk(model, x, output=output), torch.einsum(formula, J, J), rtol=1e-10, atol=1e-11)


def test_a_symmetric_kernel_in_slices_is_the_same_and_exactly_symmetric():
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double(), torch.randn(101, 4, dtype=DOUBLE)
    K = ntk(model, x)
    torch.testing.assert_close(K, ntk(model, x, x), rtol=1e-11, atol=1e-12)
    assert torch.equal(K, K.transpose(0, 1).transpose(2, 3))
    flat = K.permute(0, 2, 1, 3).reshape(303, 303)
    assert float(torch.linalg.eigvalsh(flat)[0]) > -1e-10 * float(flat.trace())


def test_a_linear_model_has_kernel_inner_product_plus_one():
    x = torch.randn(5, 3, dtype=DOUBLE)
    expected = x @ x.T + 1
    K = ntk(nn.Linear(3, 2).double(), x)
    torch.testing.assert_close(K[:, :, 0, 0], expected)
    torch.testing.assert_close(K[:, :, 1, 1], expected)
    assert float(K[:, :, 0, 1].abs().max()) == 0
    torch.testing.assert_close(ntk(nn.Linear(3, 2).double(), x, output="trace"), 2 * expected)  # the sum, not the mean


def test_golden_tanh_neuron(golden):
    class Neuron(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.w = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.tensor(0.5))

        def forward(self, x):
            return self.a * torch.tanh(self.w * x)

    expected = torch.tensor(golden("G4.1-4"), dtype=DOUBLE)
    K = ntk(Neuron().double(), torch.tensor([[1.0], [2.0]], dtype=DOUBLE), output="trace")
    torch.testing.assert_close(K, expected, rtol=1e-9, atol=0)


def test_a_wide_relu_network_approaches_the_analytic_kernel():
    """Weight variance 2 / fan-in, unit inputs at cosine 0.5, one hidden layer: 2 and 0.9423 in NTK parametrisation."""
    width = 20_000
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, width, bias=False), nn.ReLU(), nn.Linear(width, 1, bias=False)).double()

    def scaled(model, x):  # f = sqrt(2 / width) v . relu(U x) with standard normal parameters
        return model(x) * (2 / width) ** 0.5

    with torch.no_grad():
        for p in net.parameters():
            p.normal_()
    x = torch.tensor([[1.0, 0.0], [0.5, 0.75**0.5]], dtype=DOUBLE)
    K = ntk(net, x, output="trace", forward=scaled)
    # standard error of each entry is about 2 sqrt(5 / width) = 0.03
    torch.testing.assert_close(K, torch.tensor([[2.0, 0.9423311], [0.9423311, 2.0]], dtype=DOUBLE), rtol=0, atol=0.12)


def test_a_subset_of_parameters_and_frozen_ones():
    model, x = made("mlp")
    J = naive(model, x, names=["2.weight"])
    torch.testing.assert_close(ntk(model, x, parameters=["2.weight"]), torch.einsum("icp,jdp->ijcd", J, J))
    names = [n for n, _ in model.named_parameters()]
    total = sum(ntk(model, x, parameters=[n]) for n in names)
    torch.testing.assert_close(total, ntk(model, x))  # the kernel is a sum over parameters
    model[0].weight.requires_grad_(False)
    J = naive(model, x)
    torch.testing.assert_close(ntk(model, x), torch.einsum("icp,jdp->ijcd", J, J))


def test_single_precision_agrees_with_double():
    model, x = made("conv stride padding")
    single = ntk(copy.deepcopy(model).float(), x.float())
    torch.testing.assert_close(single.double(), ntk(model, x), rtol=1e-4, atol=1e-4)
    half = ntk(copy.deepcopy(model).to(torch.bfloat16), x.to(torch.bfloat16), output="trace")
    assert half.dtype == torch.float32
    torch.testing.assert_close(half.double(), ntk(model, x, output="trace"), rtol=0.1, atol=1)


def test_the_model_is_left_alone():
    model, x = made("batch norm")
    before = {k: v.clone() for k, v in model.state_dict().items()}
    ntk(model, x, output="trace")
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())
    assert not any(m._forward_hooks for m in model.modules())


def refused(model, x, match, **options):
    with pytest.raises((RefusedError, ValueError), match=match):
        ntk(model, x, **options)


def test_what_is_refused():
    x = torch.randn(4, 3)
    refused(nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5)), x, "1 .Dropout. is in training mode")
    refused(nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)), x, "BatchNorm1d. is in training mode")
    refused(nn.Linear(3, 2).requires_grad_(False), x, "no parameter that requires a gradient")
    refused(nn.Linear(3, 2), x, "output must be one of full, trace", output="sum")
    refused(nn.Linear(3, 2), x, "no trainable parameters named .'nothing'.", parameters=["nothing"])
    refused(nn.Linear(3, 2), x, "none given", parameters=[])
    refused(nn.Linear(3, 2), x, "batch_size must be at least 1", batch_size=0)
    refused(nn.Linear(3, 2), x * torch.nan, "outputs are not finite")
    refused(
        nn.Sequential(nn.Linear(3, 1), nn.Flatten(0)), x, r"shape \(1, outputs\) for 1 examples, .* returned \(1,\)"
    )
    broken = nn.Linear(3, 2)
    with torch.no_grad():
        broken.weight[0, 0] = torch.nan
    refused(broken, x, "parameter weight has 1 values of 6 that are not finite")

    class Centred(nn.Linear):
        def forward(self, x):
            return super().forward(x) - super().forward(x).mean(0) / 2

    refused(Centred(3, 2), x, "change by .* when it is alone in the batch")

    class Detached(nn.Linear):
        def forward(self, x):
            return super().forward(x).detach()

    refused(Detached(3, 2), x, "do not depend on any trainable parameter")

    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 2)

        def forward(self, x):
            h = self.a(x) * 1.0
            y = self.b(h)
            h.add_(1)
            return y

    overwriting = Overwriting()
    overwriting.a.requires_grad_(False)  # else torch itself complains in the backward pass
    refused(overwriting, x, "input of b .Linear. is changed in place")


def test_a_parameter_that_reaches_nothing_is_refused_alone():
    model = nn.Sequential(nn.Linear(3, 2))
    model.register_parameter("idle", nn.Parameter(torch.ones(2)))
    x = torch.randn(3, 3)
    torch.testing.assert_close(ntk(model, x, output="trace"), 2 * (x @ x.T + 1))
    refused(model, x, "none of the chosen parameters reaches", parameters=["idle"])


def test_reentrant_checkpointing_is_refused_and_the_other_kind_is_right():
    from torch.utils.checkpoint import checkpoint

    class Saved(nn.Module):
        def __init__(self, reentrant):
            super().__init__()
            self.a, self.b, self.reentrant = nn.Linear(3, 3), nn.Linear(3, 2), reentrant

        def forward(self, x):
            return self.b(checkpoint(lambda y: torch.tanh(self.a(y)), x.requires_grad_(), use_reentrant=self.reentrant))

    x = torch.randn(4, 3, dtype=DOUBLE)
    refused(Saved(True).double(), x, "reentrant activation checkpointing")
    model = Saved(False).double()
    J = naive(model, x)
    torch.testing.assert_close(ntk(model, x), torch.einsum("icp,jdp->ijcd", J, J))
