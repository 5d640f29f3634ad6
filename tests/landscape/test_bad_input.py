"""Bad input to the landscape measures: one clear sentence each, and what looks bad but is not."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from theorylens import core, landscape
from theorylens.core import RefusedError
from theorylens.numerics import DenseOperator, Objective

DATA = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 0, 1, 1, 0])
# What each measure is called by in the tests below: everything that takes a network, its data and a loss.
MEASURES = {
    "eigenvalues": lambda *a: landscape.eigenvalues(*a, k=1),
    "trace": lambda *a: landscape.trace(*a, draws=2),
    "spectral_density": lambda *a: landscape.spectral_density(*a, k=1),
    "spectrum_split": lambda *a: landscape.spectrum_split(*a, k=1),
    "layer_curvature": landscape.layer_curvature,
    "critical_point": landscape.critical_point,
}


@pytest.fixture
def net():
    with core.global_randomness_kept(0):
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()


def each(names=MEASURES):
    return pytest.mark.parametrize("measure", [MEASURES[name] for name in names], ids=list(names))


@each()
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_parameter_that_is_not_finite_is_named(net, measure, bad):
    with torch.no_grad():
        net[2].weight[1, 1] = bad
    with pytest.raises(RefusedError, match=r"parameter 2\.weight has 1 values of 8 that are not finite; load a check"):
        measure(net, DATA, "cross_entropy")


@each()
@pytest.mark.filterwarnings("ignore")
def test_a_loss_that_is_not_finite_is_named(net, measure):
    def overflowing(outputs, targets):
        return F.cross_entropy(outputs, targets, reduction="none") * math.inf

    with pytest.raises((RefusedError, ValueError), match=r"the loss is (inf|nan)|not finite"):
        measure(net, DATA, overflowing)


@each()
def test_no_data_is_refused(net, measure):
    with pytest.raises((RefusedError, ValueError), match=r"(no|least one) (row|example|batch)|holds no|empty|0 rows"):
        measure(net, (torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)), "cross_entropy")


@each()
def test_a_loss_without_a_derivative_is_refused(net, measure):
    def errors(outputs, targets):
        return (outputs.argmax(1) != targets).float()

    with pytest.raises((RefusedError, ValueError), match="does not depend on the parameters in a differentiable way"):
        measure(net, DATA, errors)


@each()
def test_batch_norm_and_dropout_in_training_mode_are_named_and_left_alone(measure):
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(), nn.Linear(4, 2)).train()
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with pytest.raises(RefusedError, match=r"1 \(BatchNorm1d\), 2 \(Dropout\) is in training mode.*call model\.eval"):
        measure(net, DATA, "cross_entropy")
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    assert net.training


def test_unused_parameters_are_directions_without_curvature(net):
    class Idle(nn.Module):
        def __init__(self):
            super().__init__()
            self.net, self.idle = net, nn.Linear(2, 2)

        def forward(self, x):
            return self.net(x)

    plain = landscape.eigenvalues(net, DATA, "cross_entropy", k=2)
    idle = landscape.eigenvalues(Idle().eval(), DATA, "cross_entropy", k=2)
    assert idle.values == pytest.approx(plain.values, rel=1e-3)
    assert idle.parameters == plain.parameters + 6
    exact = landscape.trace(net, DATA, "cross_entropy").value
    assert landscape.trace(Idle().eval(), DATA, "cross_entropy").value == pytest.approx(exact, rel=1e-5)


def test_a_vector_of_another_shape_is_refused(net, unchecked_shapes):
    for operator in (landscape.hessian(net, DATA, "cross_entropy"), landscape.ggn(net, DATA, "cross_entropy")):
        for shape in ((25,), (26, 1), ()):
            with pytest.raises(ValueError, match=r"a vector of shape \(.*\) does not match 26 parameters"):
                operator @ torch.ones(shape)


def test_more_eigenvalues_than_parameters_are_refused(net):
    for k in (27, 0, -1):
        with pytest.raises(ValueError, match=f"k must be between 1 and the number of parameters 26, got {k}"):
            landscape.eigenvalues(net, DATA, "cross_entropy", k=k)


def test_matrices_of_users_must_be_symmetric(unchecked_shapes):
    skew = torch.tensor([[1.0, 2.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="an operator needs a symmetric matrix, got entries that differ by 2"):
        DenseOperator(skew)

    class Skew:
        size, dtype, device = 2, torch.float32, torch.device("cpu")

        def matvec(self, vector):
            return skew @ vector

        __matmul__ = matvec

    with pytest.raises(ValueError, match="the operator is not symmetric"):
        landscape.operator_density(Skew(), k=1, draws=1, steps=1)
    with pytest.raises(ValueError, match="symmetric"):
        landscape.cubic_step(torch.ones(2), skew, 1.0)


def test_a_model_without_parameters_and_a_bare_objective_without_rows_are_refused():
    with pytest.raises(ValueError, match="no parameter that requires a gradient; set requires_grad"):
        landscape.eigenvalues(nn.Flatten().eval(), DATA, "cross_entropy", k=1)
    net = nn.Linear(3, 2)
    goal = Objective(net, [], lambda model, batch: (model(batch[0]).sum(), torch.tensor(1.0)))
    with pytest.raises(ValueError, match="no examples to average over; give at least one batch"):
        landscape.hessian_eigenvalues(goal, k=1, generator=torch.Generator())


def test_all_eigenvalues_at_once(net):
    found = landscape.eigenvalues(net, DATA, "cross_entropy", k=26, which="BE")
    assert np.isfinite(found.values).all()
    assert found.complete
