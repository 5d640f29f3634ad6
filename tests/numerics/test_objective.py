"""Every product against an explicit Hessian of torch's own loss and against differences of its gradient."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from theorylens import core
from theorylens.numerics import NoSecondDerivativeError, Objective, flatten, graph_bytes, second_derivatives, tally


class Attention(nn.Module):
    """One head through the fused call, then a mean over positions."""

    def __init__(self):
        super().__init__()
        self.mix, self.out, self.norm = nn.Linear(4, 12), nn.Linear(4, 3), nn.LayerNorm(4)

    def forward(self, x):
        q, k, v = self.mix(x).chunk(3, dim=-1)
        return self.out(self.norm(F.scaled_dot_product_attention(q, k, v)).mean(1))


class Heads(nn.Module):
    def __init__(self, need_weights):
        super().__init__()
        self.attention, self.out, self.need_weights = (
            nn.MultiheadAttention(4, 2, batch_first=True),
            nn.Linear(4, 3),
            need_weights,
        )

    def forward(self, x):
        return self.out(self.attention(x, x, x, need_weights=self.need_weights)[0].mean(1))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second, self.out = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.out(torch.tanh(self.second(torch.tanh(self.first(x)))))


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.out = nn.LSTM(4, 3, batch_first=True), nn.Linear(3, 3)

    def forward(self, x):
        return self.out(self.lstm(x)[0][:, -1])


def conv(norm):
    return nn.Sequential(
        nn.Conv2d(1, 2, 3), norm, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, 3)
    )  # fmt: skip


FLAT, IMAGE, SEQUENCE = (5,), (1, 6, 6), (3, 4)
NETS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(5, 6), nn.GELU(), nn.Linear(6, 3)), FLAT),
    "relu mlp": (lambda: nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 3)), FLAT),
    "batch norm": (lambda: conv(nn.BatchNorm2d(2)), IMAGE),
    "group norm": (lambda: conv(nn.GroupNorm(2, 2)), IMAGE),
    "layer norm": (lambda: nn.Sequential(nn.Linear(5, 6), nn.LayerNorm(6), nn.Tanh(), nn.Linear(6, 3)), FLAT),
    "fused attention": (Attention, SEQUENCE),
    "multi-head attention": (lambda: Heads(True), SEQUENCE),
    "multi-head attention, fused": (lambda: Heads(False), SEQUENCE),
    "tied": (Tied, FLAT),
    "lstm": (Recurrent, SEQUENCE),
}


def made(name, n=7):
    """A float64 network with every parameter moved off its special values (norm weights are not 1), and data."""
    rng = torch.Generator().manual_seed(3)
    build, shape = NETS[name]
    with core.global_randomness_kept(1):
        net = build().double()
    with torch.no_grad():
        for p in net.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=rng, dtype=p.dtype))
        for buffer in net.buffers():
            if buffer.is_floating_point():
                buffer.add_(0.5 * torch.rand(buffer.shape, generator=rng, dtype=buffer.dtype))
    x = torch.randn(n, *shape, generator=rng, dtype=torch.float64)
    return net.eval(), (x, torch.randint(3, (n,), generator=rng))


def explicit(net, whole_loss, x, y):
    """The Hessian of ``whole_loss(outputs, targets)`` on all data at once, by torch.autograd.functional."""
    names = [name for name, p in net.named_parameters() if p.requires_grad]
    start = [dict(net.named_parameters())[name].detach() for name in names]

    def loss(*values):
        return whole_loss(functional_call(net, dict(zip(names, values, strict=True)), (x,), tie_weights=True), y)

    with sdpa_kernel(SDPBackend.MATH):
        blocks = torch.autograd.functional.hessian(loss, tuple(start))
    sizes = [p.numel() for p in start]
    rows = [[b.reshape(s, t) for b, t in zip(row, sizes, strict=True)] for row, s in zip(blocks, sizes, strict=True)]
    return torch.cat([torch.cat(row, dim=1) for row in rows])


def differences(objective, vector, step=1e-5):
    """(gradient(theta + h v) - gradient(theta - h v)) / 2h, on the model itself, put back bit for bit."""
    before = [p.detach().clone() for p in objective.parameters.values()]
    slopes = []
    with torch.no_grad():
        for sign in (1, -1):
            for p, b, v in zip(objective.parameters.values(), before, objective.unflatten(vector), strict=True):
                p.copy_(b + sign * step * v)
            with torch.enable_grad():
                slopes.append(objective.gradient())
        for p, b in zip(objective.parameters.values(), before, strict=True):
            p.copy_(b)
    return (slopes[0] - slopes[1]) / (2 * step)


def direction(size, seed=0):
    v = torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return v / v.norm()


LOSSES = {
    "mean": nn.CrossEntropyLoss(),
    "sum": nn.CrossEntropyLoss(reduction="sum"),
    "class weights": nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64)),
    "ignored": nn.CrossEntropyLoss(ignore_index=1),
    "weights, ignored": nn.CrossEntropyLoss(weight=torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64), ignore_index=0),
    "smoothed": nn.CrossEntropyLoss(label_smoothing=0.2),
    "weights, ignored, smoothed": nn.CrossEntropyLoss(
        weight=torch.tensor([0.2, 1.0, 3.0], dtype=torch.float64), ignore_index=2, label_smoothing=0.1
    ),
}


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("memory", [0, 1 << 29])
def test_products_agree_with_the_explicit_hessian_and_with_differences_of_the_gradient(name, memory):
    net, (x, y) = made(name)
    goal = core.objective(net, (x, y), nn.CrossEntropyLoss(), batch_size=3)  # batches of 3, 3 and 1
    full = explicit(net, nn.CrossEntropyLoss(), x, y)
    hessian = goal.hessian(memory=memory)
    columns = torch.stack([hessian @ e for e in torch.eye(goal.size, dtype=torch.float64)])
    assert full.abs().max() > 1e-3
    torch.testing.assert_close(columns, full, rtol=1e-9, atol=1e-11)
    v = direction(goal.size)
    torch.testing.assert_close(hessian @ v, differences(goal, v), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("name", LOSSES)
def test_every_reduction_divides_by_the_denominator_of_torch_whatever_the_batches(name):
    net, (x, y) = made("mlp", n=11)
    y[:4] = torch.tensor([0, 0, 1, 2])
    loss = LOSSES[name]
    full = explicit(net, loss, x, y)
    v = direction(len(full))
    for size in (1, 3, 4, 11, 50):
        goal = core.objective(net, (x, y), loss, batch_size=size)
        assert goal.value == pytest.approx(loss(net(x), y).item(), rel=1e-12)
        slope = flatten(torch.autograd.grad(loss(net(x), y), list(net.parameters())))
        torch.testing.assert_close(goal.gradient(), slope, rtol=1e-10, atol=1e-13)
        torch.testing.assert_close(goal.hessian() @ v, full @ v, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(full @ v, differences(goal, v), rtol=1e-5, atol=1e-8)


def test_a_batch_without_any_counted_target_adds_nothing():
    net, (x, y) = made("mlp", n=6)
    y = torch.tensor([-100, -100, -100, 0, 1, 2])
    goal = core.objective(net, (x, y), nn.CrossEntropyLoss(), batch_size=3)
    kept = core.objective(net, (x[3:], y[3:]), nn.CrossEntropyLoss(), batch_size=3)
    v = direction(goal.size)
    torch.testing.assert_close(goal.hessian() @ v, kept.hessian() @ v, rtol=1e-12, atol=1e-14)
    with pytest.raises(ValueError, match=r"weights of 3 examples add up to 0\.0; at least one must count"):
        core.objective(net, (x[:3], y[:3]), nn.CrossEntropyLoss()).gradient()


@pytest.mark.parametrize("name", ["mlp", "group norm", "lstm"])
def test_partial_and_full_memory_give_the_same_bits_and_none_the_same_product(name):
    net, data = made(name, n=10)
    goal = core.objective(net, data, "cross_entropy", batch_size=3)
    one = goal.hessian()
    wanted = [one @ direction(goal.size, seed) for seed in (0, 1, 0)]
    assert len(one._kept) == 4
    partial = one._kept_bytes * 2 // 4  # of batches of 3, 3, 3 and 1
    for memory in (0, 1, partial):
        hessian = goal.hessian(memory=memory)
        products = [hessian @ direction(goal.size, seed) for seed in (0, 1, 0)]
        assert torch.equal(products[0], products[2])
        for found, expected in zip(products, wanted, strict=True):
            torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-14)
            if memory:  # with none at all, batches are taken in quarters
                assert torch.equal(found, expected)
        assert hessian._kept_bytes <= memory
        assert 0 < len(hessian._kept) < 4 if memory == partial else not hessian._kept


def test_batches_are_added_in_double_precision_whatever_the_dtype():
    rows = 1500
    net = nn.Linear(1, 1, bias=False)
    goal = core.objective(net, (torch.ones(rows, 1), torch.zeros(rows, 1)), "mse", batch_size=1)
    naive, share = torch.zeros(()), torch.tensor(2 / rows)
    for _ in range(rows):
        naive += share
    assert abs(naive.item() / 2 - 1) > 2e-6
    assert goal.gradient().item() == pytest.approx(2 * net.weight.item(), rel=3e-7)
    assert (goal.hessian(memory=0) @ torch.ones(1)).item() == pytest.approx(2, rel=3e-7)
    assert goal.gradient().dtype == torch.float32


# ---- memory ----------------------------------------------------------------------------------------------------------


class Narrow(torch.autograd.Function):
    """The identity, short of memory above two rows in the pass that ``where`` names."""

    @staticmethod
    def forward(ctx, x, where):
        ctx.where = where
        _room(x, where == "forward")
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        return Slope.apply(slope, ctx.where), None


class Slope(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, where):
        ctx.where = where
        _room(x, where == "backward")
        return x.clone()

    @staticmethod
    def backward(ctx, slope):
        _room(slope, ctx.where == "double backward")
        return slope.clone(), None


def _room(x, here):
    if here and len(x) > 2:
        raise torch.OutOfMemoryError(f"no room for {len(x)} rows")


class Crowded(nn.Module):
    def __init__(self, net, where):
        super().__init__()
        self.net, self.where = net, where

    def forward(self, x):
        return Narrow.apply(self.net(x), self.where)


@pytest.mark.parametrize("where", ["forward", "backward", "double backward"])
def test_running_out_of_memory_halves_the_batch_and_changes_nothing(where):
    net, (x, y) = made("mlp", n=11)

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="sum"), torch.tensor(float(len(batch[0])))

    v = direction(sum(p.numel() for p in net.parameters()))
    roomy, tight = (Objective(m, [(x[:9], y[:9]), (x[9:], y[9:])], loss) for m in (net, Crowded(net, where)))
    assert tight.value == pytest.approx(roomy.value, rel=1e-13)
    torch.testing.assert_close(tight.gradient(), roomy.gradient(), rtol=1e-12, atol=1e-14)
    with tally() as work:
        hessian = tight.hessian()
        torch.testing.assert_close(hessian @ v, roomy.hessian() @ v, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(hessian @ v, roomy.hessian() @ v, rtol=1e-12, atol=1e-14)
    assert list(hessian._kept) == [1]  # the batch that fitted whole
    assert work.hvps >= 22
    with pytest.raises(torch.OutOfMemoryError, match="no room for 3 rows"):
        _room(x[:3], here=True)


def test_when_a_kept_graph_no_longer_fits_all_are_dropped_and_the_product_is_right():
    net, data = made("mlp", n=8)
    goal = core.objective(net, data, "cross_entropy", batch_size=4)
    hessian, v = goal.hessian(), direction(goal.size)
    wanted = hessian @ v
    assert len(hessian._kept) == 2
    times, failures = hessian._times, iter([False, True])

    def short_of_memory(graph, pieces):
        if next(failures, False):
            raise torch.OutOfMemoryError("no room")
        return times(graph, pieces)

    hessian._times = short_of_memory
    torch.testing.assert_close(hessian @ v, wanted, rtol=1e-11, atol=1e-14)
    assert (hessian.memory, len(hessian._kept)) == (0, 0)
    torch.testing.assert_close(hessian @ v, wanted, rtol=1e-11, atol=1e-14)


def test_other_errors_and_single_rows_that_do_not_fit_are_not_swallowed():
    def broken(model, batch):
        raise RuntimeError("shapes do not match")

    def huge(model, batch):
        raise torch.OutOfMemoryError("no room")

    net, data = made("mlp", n=4)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        _ = Objective(net, [data], broken).value
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        _ = Objective(net, [data], huge).value


def test_graph_bytes_is_what_the_graph_saves():
    x = torch.randn(100, 8)
    w = torch.randn(8, 4, requires_grad=True)
    out = torch.tanh(x @ w)
    # Saved: x by the product (w not, x needs no gradient), the result by tanh; 4 bytes each.
    assert graph_bytes([out]) == 4 * (100 * 8 + 100 * 4)
    assert graph_bytes([out, out]) == graph_bytes([out])
    assert graph_bytes([out], without=[x, w]) == 4 * 100 * 4
    assert graph_bytes([x]) == 0
    rows = torch.randn(1000, 8)  # a batch is a view of the data: its storage is all of them, and it lives anyway
    assert graph_bytes([torch.tanh(rows[:10] @ w)], without=[rows[:10], w]) == 4 * 10 * 4
    custom = Keeps.apply(w)
    assert graph_bytes([custom]) == 4 * 32


class Keeps(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, slope):
        return 2 * slope * ctx.saved_tensors[0]


def test_data_that_live_anyway_do_not_use_up_the_memory_for_graphs():
    rows = torch.randn(4000, 50)
    net = nn.Sequential(nn.Linear(50, 2), nn.Tanh()).eval()
    goal = core.objective(net, (rows, torch.zeros(4000, 2)), "mse", batch_size=100)
    data_bytes = rows.numel() * 4
    hessian = goal.hessian(memory=data_bytes)
    hessian @ torch.ones(goal.size)
    assert len(hessian._kept) == 40  # 40 graphs, none charged with the storage of the whole data
    assert hessian._kept_bytes < data_bytes


# ---- which parameters ------------------------------------------------------------------------------------------------


def test_unused_parameters_give_zeros_and_frozen_ones_are_left_out():
    net, (x, y) = made("mlp")
    net.unused = nn.Linear(2, 2).double()
    net.forward = lambda inputs: net[2](net[1](net[0](inputs)))
    net[0].weight.requires_grad_(False)
    goal = core.objective(net, (x, y), "cross_entropy", batch_size=3)
    assert "0.weight" not in goal.parameters
    assert goal.size == 6 + 18 + 3 + 6
    full = explicit(net, nn.CrossEntropyLoss(), x, y)
    v = direction(goal.size)
    product, slope = goal.hessian() @ v, goal.gradient()
    torch.testing.assert_close(product, full @ v, rtol=1e-9, atol=1e-12)
    assert torch.equal(product[-6:], torch.zeros(6).double())
    assert torch.equal(slope[-6:], torch.zeros(6).double())
    assert slope[:-6].abs().min() > 0


def test_a_choice_of_parameters_is_a_block_of_the_hessian():
    net, (x, y) = made("mlp")
    whole = core.objective(net, (x, y), "cross_entropy")
    last = Objective(net, whole.batches, whole.loss, names=["2.weight", "2.bias"])
    full = explicit(net, nn.CrossEntropyLoss(), x, y)[-21:, -21:]
    v = direction(21)
    torch.testing.assert_close(last.hessian() @ v, full @ v, rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match=r"no trainable parameters named \['3.weight'\]; there are \['0.bias'"):
        _ = Objective(net, whole.batches, whole.loss, names=["3.weight"]).size


def test_a_loss_linear_in_the_parameters_has_no_curvature():
    net = nn.Linear(3, 1).double()
    goal = Objective(net, [torch.ones(4, 3).double()], lambda m, b: (m(b).sum(), torch.tensor(4.0)))
    assert torch.equal(goal.hessian() @ torch.ones(4).double(), torch.zeros(4).double())


def test_parameters_of_two_precisions_and_a_vector_of_another_work_together():
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()
    x, y = torch.randn(5, 3), torch.randint(2, (5,))

    class Mixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = net[0], nn.Linear(4, 2).double()

        def forward(self, x):
            return self.b(torch.tanh(self.a(x)).double())

    goal = core.objective(Mixed(), (x, y), "cross_entropy")
    v = direction(goal.size)
    assert (goal.hessian() @ v).dtype == torch.float32
    torch.testing.assert_close(goal.hessian() @ v, goal.hessian() @ v.float(), rtol=1e-5, atol=1e-7)


def test_products_work_where_gradients_are_switched_off():
    net, data = made("mlp")
    goal = core.objective(net, data, "cross_entropy")
    v = direction(goal.size)
    wanted = goal.hessian() @ v, goal.gradient()
    with torch.no_grad():
        assert torch.equal(goal.hessian() @ v, wanted[0])
        assert torch.equal(goal.gradient(), wanted[1])


# ---- settings and refusals -------------------------------------------------------------------------------------------


def _backends():
    cuda = torch.backends.cuda
    return (
        cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), cuda.math_sdp_enabled(),
        torch.backends.cudnn.enabled, torch.backends.cudnn.benchmark, torch.backends.cudnn.allow_tf32,
    )  # fmt: skip


def _stop(inside):
    inside.append(_backends()[:3])
    raise RuntimeError("stop")


@pytest.mark.parametrize("fused", [True, False])
def test_the_attention_setting_of_the_user_comes_back_also_after_an_error(fused):
    torch.backends.cuda.enable_flash_sdp(fused)
    torch.backends.cuda.enable_mem_efficient_sdp(not fused)
    try:
        before = _backends()
        net, data = made("fused attention")
        goal = core.objective(net, data, "cross_entropy")
        goal.hessian() @ direction(goal.size)
        assert _backends() == before
        inside = []
        with pytest.raises(RuntimeError, match="stop"), second_derivatives():
            _stop(inside)
        assert inside == [(False, False, True)]
        assert _backends() == before
    finally:
        torch.backends.cuda.enable_flash_sdp(True)
        torch.backends.cuda.enable_mem_efficient_sdp(True)


class Once(torch.autograd.Function):
    """Torch answers zero, not an error, when such a function is differentiated twice for unused gradients."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, slope):
        return slope * 3 * ctx.saved_tensors[0] ** 2


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda z: torch.cdist(z, torch.ones(2, 3, dtype=z.dtype)), "_cdist_backward"),
        (lambda z: F.pdist(z).expand(len(z), -1), "_pdist_backward"),
        (Once.apply, "Once (marked once_differentiable)"),
        (lambda z: torch.tanh(Once.apply(z)), "Once (marked once_differentiable)"),
    ],
)
def test_an_operator_without_a_second_derivative_is_named(operation, named):
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(5, 3).double()

        def forward(self, x):
            return operation(self.layer(x))

    net, x = Net(), torch.randn(4, 5).double()
    goal = Objective(net, [x], lambda m, b: (m(b).square().sum(), torch.tensor(4.0)))
    assert goal.gradient().abs().max() > 0
    with pytest.raises(NoSecondDerivativeError, match="has no second derivative in torch") as caught:
        goal.hessian() @ torch.ones(goal.size).double()
    assert caught.value.operator == named


def test_a_compiled_module_is_named():
    net = torch.compile(nn.Linear(5, 3).double(), backend="aot_eager")
    goal = Objective(net, [torch.randn(4, 5).double()], lambda m, b: (m(b).sum(), torch.tensor(4.0)))
    with pytest.raises(NoSecondDerivativeError, match=r"torch\.compile"):
        goal.hessian() @ torch.ones(goal.size).double()


def test_differentiating_a_freed_graph_is_not_blamed_on_an_operator():
    with pytest.raises(RuntimeError, match="second time") as caught, second_derivatives():
        raise RuntimeError("Trying to backward through the graph a second time")
    assert not isinstance(caught.value, NoSecondDerivativeError)


def test_a_loss_that_cannot_be_differentiated_is_refused():
    net, data = made("mlp")

    def errors(model, batch):
        return (model(batch[0]).argmax(1) != batch[1]).double().sum(), torch.tensor(7.0)

    goal = Objective(net, [data], errors)
    assert 0 <= goal.value <= 1
    for run in (goal.gradient, lambda: goal.hessian() @ direction(goal.size)):
        with pytest.raises(ValueError, match="does not depend on the parameters in a differentiable way"):
            run()


def test_no_data_no_parameters_and_wrong_vectors_are_refused(unchecked_shapes):
    net, (x, y) = made("mlp")
    goal = core.objective(net, (x, y), "cross_entropy")
    with pytest.raises(ValueError, match=r"shape \(3,\) does not match 57 parameters"):
        goal.hessian() @ torch.ones(3)
    with pytest.raises(ValueError, match="there are no examples"):
        _ = Objective(net, [], goal.loss).value
    net.requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter that requires a gradient"):
        _ = Objective(net, goal.batches, goal.loss).size


# ---- counting --------------------------------------------------------------------------------------------------------


def test_work_is_counted_in_examples_and_kept_graphs_are_not_built_again():
    net, data = made("mlp", n=10)
    goal = core.objective(net, data, "cross_entropy", batch_size=4)
    with tally() as work:
        _ = goal.value, goal.denominator, goal.examples
    assert (work.forwards, work.gradients, work.hvps) == (10, 0, 0)
    with tally() as work:
        goal.gradient()
    assert (work.forwards, work.gradients, work.hvps) == (0, 10, 0)
    for memory, gradients, tried in ((1 << 29, 10, 0), (0, 30, 8)):  # 8: do four examples add up from two and two?
        with tally() as work:
            hessian = goal.hessian(memory=memory)
            for seed in range(3):
                hessian @ direction(goal.size, seed)
        assert (work.forwards, work.gradients, work.hvps) == (tried, gradients, 30)
        assert hessian.products == 3


def test_the_model_gets_no_gradients_and_keeps_its_weights():
    net, data = made("batch norm")
    before = {name: t.clone() for name, t in net.state_dict().items()}
    goal = core.objective(net, data, "cross_entropy", batch_size=2)
    goal.gradient()
    goal.hessian() @ direction(goal.size)
    assert all(p.grad is None for p in net.parameters())
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert math.isfinite(goal.value)


@pytest.mark.parametrize("memory", [0, 1 << 29])
def test_a_product_is_that_of_the_parameters_as_they_are(memory):
    net, data = made("mlp")
    goal = core.objective(net, data, "cross_entropy", batch_size=3)
    hessian, v = goal.hessian(memory=memory), direction(goal.size)
    before = hessian @ v
    with torch.no_grad():
        net[0].weight.mul_(1.5)
    moved = hessian @ v
    fresh = core.objective(net, data, "cross_entropy", batch_size=3).hessian() @ v
    torch.testing.assert_close(moved, fresh, rtol=1e-11, atol=1e-14)
    assert not torch.allclose(moved, before)
    assert len(hessian._kept) == (3 if memory else 0)
