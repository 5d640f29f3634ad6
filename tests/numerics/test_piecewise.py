"""What counts as piecewise linear in each parameter: operation by operation, and on the Hessians of the outputs."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens.numerics import bent

A, B = (nn.Parameter(torch.randn(3, 3, generator=torch.Generator().manual_seed(s)).double()) for s in (0, 1))
X = torch.randn(2, 3, generator=torch.Generator().manual_seed(2)).double()
GATE, INDEX, IMAGE = X > 0, torch.zeros(2, 1).long(), (2, 1, 6, 6)

STRAIGHT = {
    "affine": lambda: F.linear(X, A, B[0]),
    "two layers": lambda: (X @ A).relu() @ B,
    "product of factors with different parameters": lambda: (X @ A) * (X @ B),
    "leaky, clamped, absolute": lambda: F.leaky_relu(X @ A).clamp(-1, 1).abs(),
    "hard tanh, relu6": lambda: F.relu6(F.hardtanh(X @ A)),
    "parametric relu": lambda: F.prelu(X @ A, B[0]),
    "bilinear": lambda: F.bilinear((X @ A).relu(), X, B[None]),
    "pooling": lambda: F.avg_pool1d(F.max_pool1d((X @ A)[None], 2, 1), 2, 1),
    "adaptive pooling": lambda: F.adaptive_avg_pool1d((X @ A)[None], 2),
    "largest and smallest": lambda: (X @ A).max(1).values + (X @ B).amin(1) + torch.maximum(X @ A, X @ B)[:, 0],
    "sorted": lambda: (X @ A).topk(2).values + (X @ B).sort().values[:, :2],
    "sums and shapes": lambda: torch.cat([(X @ A).view(3, 2), (X @ B).t()]).flatten().unsqueeze(0).mean(1),
    "choice by data": lambda: torch.where(GATE, X @ A, X @ B).masked_fill(GATE, 0.0).gather(1, INDEX),
    "divided by data": lambda: (X @ A) / X.square().sum(1, keepdim=True) / 3,
    "standardised data, then affine": lambda: F.layer_norm(X, (3,), A[0], B[0]),
    "embedding": lambda: F.embedding(INDEX, A) @ B,
    "smooth before the parameters": lambda: X.tanh() @ A,
    "a parameter in two sums": lambda: X @ A + (X * 2) @ A,
}
BENT = {
    "tanh": (lambda: (X @ A).tanh(), "Tanh"),
    "a parameter meets itself": (lambda: X @ A @ A, "Mm"),
    "an activation squared": (lambda: (X @ A) * (X @ A), "Mul"),
    "bilinear in one value twice": (lambda: F.bilinear(X @ A, X @ A, B[None]), "Trilinear"),
    "bilinear in the weight and its image": (lambda: F.bilinear(X @ B, X, B[None]), "Trilinear"),
    "power": (lambda: (X @ A) ** 2, "Pow"),
    "quotient": (lambda: X[:, :1] / (X @ A), "Div"),
    "softmax": (lambda: (X @ A).softmax(1), "Softmax"),
    "layer norm": (lambda: F.layer_norm(X @ A, (3,), B[0], B[1]), "NativeLayerNorm"),
    "batch statistics": (lambda: F.batch_norm(X @ A, None, None, training=True), "NativeBatchNorm"),
    "length": (lambda: (X @ A).norm(), "LinalgVectorNorm"),
    "gated": (lambda: F.glu((X @ A)[:, :2]), "Glu"),
    "hard swish": (lambda: F.hardswish(X @ A), "Hardswish"),
}


@pytest.mark.parametrize("name", STRAIGHT)
def test_straight(name):
    assert bent([STRAIGHT[name]()], [A, B]) is None
    for leaf in (A, B):  # the outputs' own second derivatives vanish within each parameter tensor
        slopes = torch.autograd.grad(STRAIGHT[name]().sum(), leaf, create_graph=True, allow_unused=True)[0]
        if slopes is not None and slopes.requires_grad:
            again = torch.autograd.grad(slopes.sum(), leaf, allow_unused=True, materialize_grads=True)[0]
            assert float(again.abs().max()) == 0


@pytest.mark.parametrize("name", BENT)
def test_bent(name):
    build, operation = BENT[name]
    assert bent([build()], [A, B]) == operation


def test_only_the_chosen_parameters_count():
    output = (X @ A).tanh() @ B
    assert bent([output], [A, B]) == "Tanh"
    assert bent([output], [B]) is None  # the last layer of any network
    assert bent([X.tanh()], [A]) is None


class Mul(torch.autograd.Function):
    """Named like a product of torch's own, and not one."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sin()

    @staticmethod
    def backward(ctx, g):
        return g * ctx.saved_tensors[0].cos()


def test_functions_of_the_users_own_are_not_trusted():
    assert bent([Mul.apply(X @ A)], [A]) == "MulBackward"


def test_stored_statistics_make_batch_norm_a_product():
    norm = nn.BatchNorm1d(3).double().eval()
    parameters = [A, *norm.parameters()]
    assert bent([norm(X @ A)], parameters) is None
    assert bent([norm.train()(X @ A)], parameters) == "NativeBatchNorm"
    assert bent([nn.utils.parametrizations.weight_norm(nn.Linear(3, 2).double())(X)], [A]) is None
    reparametrised = nn.utils.parametrizations.weight_norm(nn.Linear(3, 2).double())
    assert bent([reparametrised(X)], list(reparametrised.parameters())) == "WeightNormInterface"
    often = nn.Embedding(3, 2, scale_grad_by_freq=True)
    assert bent([often(INDEX)], list(often.parameters())) == "Embedding"
