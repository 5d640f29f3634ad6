"""True critical points near a network: the gradient is driven to zero, not the loss.

Method   Newton-MR: the step that makes |H p + g| smallest, with a line search on the norm of the gradient; or descent
         on half its square, whose gradient is H g, by L-BFGS
Source   Roosta, Liu, Xu, Mahoney (2022), Newton-MR: inexact Newton method with minimum residual sub-problem solver,
         EURO J. Comput. Optim. 10:100035; Frye, Simon, Wadia, Ligeralde, DeWeese, Bouchard (2021), Critical
         point-finding methods reveal gradient-flat regions of deep network losses, Neural Comput. 33:1469
Assumes  a loss that is twice differentiable: with ReLU units the gradient jumps, and a zero of it need not exist
Breaks   where g lies in the kernel of H both methods rest though g is not zero: such places are told from critical
         points by the residual of the Newton equation
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import nn

from theorylens.core import RefusedError, Task, objective

from ._displaced import Displaced
from ._minimum_residual import DEPENDENT, MinimumResidual, minimum_residual

Method = Literal["newton-mr", "gradient-norm"]
Floats = NDArray[np.float64]
FLAT = 0.9  # residual of the Newton equation above which the gradient lies in the kernel (Frye et al. 2021)
KERNEL = 1e-2  # |H g| / (|H| |g|) below which the norm of the gradient is stationary
FAR = 1e-2  # Newton step relative to 1 + |θ| above which its zero is not here: losses that fall towards infinity
FALLEN = 0.1  # unless that step did bring the gradient down to less than this share
ARMIJO = 1e-4
HALVINGS = 6
EXACTNESS = 1e-2  # residual of an inner solve at the start; it falls with the gradient, so that the end is quadratic
CRUDE = (1e-5, 1e-3, 0.1)  # steps that leave out directions of less curvature are tried when it is too long
PATIENCE, SLOWEST = 20, 0.98  # a search whose gradient has not fallen by 2 % in so many steps ends
INNER = 500  # most products of one inner solve


class Found(Enum):
    """How a search ended."""

    POINT = "critical point"
    FLAT = "gradient-flat region"
    FAR = "small gradient, critical point elsewhere or at infinity"
    STOPPED = "not found"


@dataclass(frozen=True, kw_only=True, eq=False)
class CriticalPointSearch:
    """Where a search for a critical point ended.

    Attributes
    ----------
    model
        A copy of the network there.
    found
        Whether it is one. Only a small gradient together with a Newton equation that can be solved by a small step
        counts as a critical point.
    loss, gradient_norm
        There, over all data.
    newton_residual
        |H p + g| / |g| of the best step p, at the last place where the gradient was above the tolerance: near 0 when
        a zero of the gradient is near, near 1 when the gradient lies in the kernel of the Hessian.
    flatness
        |H g| / (|H| |g|) there: near 0 where the norm of the gradient is stationary.
    distance
        |p| there: how far off the zero is, to first order.
    gradient_norms
        One a step, the start first.
    products, gradients
        Hessian-vector products and full gradients taken.
    """

    model: nn.Module
    found: Found
    loss: float
    gradient_norm: float
    newton_residual: float
    flatness: float
    distance: float
    gradient_norms: Floats
    products: int
    gradients: int

    @property
    def state(self) -> dict[str, torch.Tensor]:
        """State dict of the point."""
        return dict(self.model.state_dict())


def find_critical_point(
    model: nn.Module,
    data: Any,
    loss: Any,
    *,
    method: Method = "newton-mr",
    tolerance: float | None = None,
    max_steps: int = 200,
    batch_size: int = 256,
) -> CriticalPointSearch:
    """Search for a critical point from a network's parameters, by the norm of the gradient; the network is not touched.

    Minima, saddles and maxima are found alike: which it is tells `critical_point` of the result's model.

    Parameters
    ----------
    model, data, loss
        As in `eigenvalues`. All is computed in the model's own precision: small gradients take ``model.double()``.
    method
        ``"newton-mr"``: quadratic near a critical point. ``"gradient-norm"``: descent on half the squared norm; slower,
        with one product a step.
    tolerance
        Gradient norm to reach; by default the square root of the precision (1.5e-8 in double).
    max_steps
        Steps, of one inner solve or one product each.

    Raises
    ------
    ValueError
        An unknown method, a tolerance or number of steps that is not positive.
    RefusedError
        As for `eigenvalues`.

    >>> net = nn.Linear(2, 1, bias=False).double()
    >>> rows = torch.eye(2).double(), torch.tensor([[1.0], [2.0]]).double()
    >>> found = find_critical_point(net, rows, "mse")
    >>> found.found.value, found.model.weight.data.round(decimals=6).tolist()
    ('critical point', [[1.0, 2.0]])
    """
    if method not in ("newton-mr", "gradient-norm"):
        raise ValueError(f"method must be 'newton-mr' or 'gradient-norm', got {method!r}")
    if max_steps < 1:
        raise ValueError(f"max_steps must be at least 1, got {max_steps}")
    goal = objective(model, data, loss if isinstance(loss, Task) else Task(loss=loss), batch_size=batch_size)
    asked = math.sqrt(torch.finfo(goal.dtype).eps) if tolerance is None else tolerance
    if not (math.isfinite(asked) and asked > 0):
        raise ValueError(f"tolerance must be a positive number, got {tolerance}")
    search = _Search(Displaced(goal), asked)
    if method == "newton-mr":
        search.newton(max_steps)
    else:
        search.descend(max_steps)
    return search.report(model)


class _Search:
    """The state of one search; displacements are float64 vectors from the start."""

    def __init__(self, around: Displaced, tolerance: float) -> None:
        self._around, self._tolerance = around, tolerance
        self.products = self.gradients = 0
        self._size = 0.0  # norm of the Hessian, from below
        self._at = np.zeros(around.size)
        self._gradient = self._slope(self._at)
        self._norms = [self._norm]
        self._last: tuple[Floats, Floats] | None = None  # the last place above the tolerance, and the gradient there
        self._solved: MinimumResidual | None = None

    @property
    def _norm(self) -> float:
        return float(np.linalg.norm(self._gradient))

    @property
    def _stalled(self) -> bool:
        """Whether the last steps made next to nothing of the gradient's norm."""
        return len(self._norms) > PATIENCE and self._norm > SLOWEST * self._norms[-1 - PATIENCE]

    def newton(self, max_steps: int) -> None:
        """Newton-MR until the tolerance is met or no step lowers the gradient."""
        for _ in range(max_steps):
            if self._norm <= self._tolerance or self._stalled:
                return
            exactness = min(EXACTNESS, self._norm / self._norms[0])
            self._last = self._at, self._gradient
            steps = self._solve(*self._last, exactness)
            self._solved = steps[0]
            if not self._along(steps):
                return

    def _along(self, steps: Sequence[MinimumResidual]) -> bool:
        """Go down the norm of the gradient along the first step that does so, halved a few times; at last by crumbs."""
        square = self._norm**2
        tries = [(solved, 2.0**-i) for solved in steps for i in range(HALVINGS)]
        for solved, share in [*tries, *((steps[-1], 2.0**-i) for i in range(HALVINGS, 5 * HALVINGS))]:
            place = self._at + share * solved.step
            gradient = self._slope(place)
            slope = float(solved.image @ self._gradient)
            if float(gradient @ gradient) <= square + 2 * ARMIJO * share * slope < square:
                self._moved(place, gradient)
                return True
        return False

    def descend(self, max_steps: int) -> None:
        """L-BFGS on half the squared norm of the gradient, in units of that at the start."""
        unit = self._norms[0] ** 2 or 1.0

        def half_square(place: Floats) -> tuple[float, Floats]:
            gradient = self._slope(place)
            if not np.isfinite(gradient).all():
                return math.inf, np.zeros_like(place)
            return float(gradient @ gradient) / (2 * unit), self._product(place)(gradient) / unit

        def look(place: Floats) -> None:
            self._last = (self._at, self._gradient)
            self._moved(place.copy(), self._slope(place))
            if self._norm <= self._tolerance:
                raise StopIteration

        if self._norm > self._tolerance:
            options = {"maxiter": max_steps, "maxfun": 10 * max_steps, "ftol": 0.0, "gtol": 0.0, "maxcor": 20}
            minimize(half_square, self._at, jac=True, method="L-BFGS-B", callback=look, options=options)
            place, gradient = self._last if self._last is not None and self._norm <= self._tolerance else (
                self._at, self._gradient
            )  # fmt: skip
            self._last = (place, gradient)
            self._solved = self._solve(place, gradient, EXACTNESS)[0]

    def report(self, model: nn.Module) -> CriticalPointSearch:
        around = self._around
        point = around.objective(torch.from_numpy(self._at))
        made = copy.deepcopy(model)
        with torch.no_grad():
            for name, p in point.parameters.items():
                made.get_parameter(name).copy_(p)
        solved = self._solved
        return CriticalPointSearch(
            model=made, found=self._verdict(), loss=point.value, gradient_norm=self._norm,
            newton_residual=0.0 if solved is None else solved.residual,
            flatness=1.0 if solved is None or not self._size else solved.stretch / self._size,
            distance=0.0 if solved is None else float(np.linalg.norm(solved.step)),
            gradient_norms=np.array(self._norms), products=self.products, gradients=self.gradients,
        )  # fmt: skip

    def _verdict(self) -> Found:
        solved = self._solved
        if solved is None:  # it began at one: nothing was to be solved
            return Found.POINT
        if solved.residual > FLAT:
            return Found.FLAT
        if self._norm > self._tolerance:
            return Found.FLAT if solved.stretch <= KERNEL * self._size else Found.STOPPED
        size = 1 + float(np.linalg.norm(self._around.here.double().cpu().numpy() + self._at))
        far = float(np.linalg.norm(solved.step)) > FAR * size
        return Found.FAR if far and self._norm > FALLEN * self._norms[-2] else Found.POINT

    # ---- derivatives ---------------------------------------------------------------------------------------------

    def _moved(self, place: Floats, gradient: Floats) -> None:
        self._at, self._gradient = place, gradient
        self._norms.append(self._norm)

    def _slope(self, place: Floats) -> Floats:
        self.gradients += 1
        return np.asarray(self._around.gradient(torch.from_numpy(place)).double().cpu().numpy())

    def _product(self, place: Floats) -> Callable[[Floats], Floats]:
        """Products with the Hessian at a place, valid until the network is moved again."""
        hessian = self._around.objective(torch.from_numpy(place)).hessian()

        def product(vector: Floats) -> Floats:
            self.products += 1
            image = hessian @ torch.from_numpy(np.asarray(vector, dtype=np.float64)).to(self._around.dtype)
            return np.asarray(image.double().cpu().numpy())

        return product

    def _solve(self, place: Floats, gradient: Floats, exactness: float) -> tuple[MinimumResidual, ...]:
        """The steps with the smallest residual of the Newton equation, in more and more of the directions."""
        steps = minimum_residual(
            self._product(place), -gradient, exactness=exactness, steps=INNER, dependent=(DEPENDENT, *CRUDE)
        )
        if not np.isfinite(steps[0].image).all():
            raise RefusedError("a Hessian product is not finite; begin from weights that fit")
        self._size = max(self._size, steps[0].norm)
        return steps
