"""How fast must an algorithm converge? Guarantees with all the constants they need, and what each one bounds.

Source   Nesterov (2018), Lectures on Convex Optimization, ch. 2; Drori, Teboulle (2014), Math. Program. 145:451 (tight
         constant of gradient descent); Kim, Fessler (2016), Math. Program. 159:81 (optimised gradient method);
         Taylor, Hendrickx, Glineur (2018), J. Optim. Theory Appl. 178:455 (strongly convex, exact); Lacoste-Julien,
         Schmidt, Bach (2012), arXiv:1212.2002; Ghadimi, Lan (2013), SIAM J. Optim. 23:2341; Abbaszadehpeivasti,
         de Klerk, Zamani (2022), Optim. Lett. 16:1649 (tight constant without convexity)
Assumes  what the setting says, everywhere between the iterates: a network gives local constants only
Breaks   a rate without its constants bounds nothing
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

Setting = Literal["convex", "strongly convex", "nonconvex"]
Form = Literal["classic", "tight"]
POSITIVE = ("smoothness", "strong_convexity", "distance", "gap", "gradient_bound")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """Constants of a minimisation problem; None where unknown.

    Attributes
    ----------
    smoothness
        L: the gradient is L-Lipschitz.
    strong_convexity
        µ: f - µ |x|² / 2 is convex.
    distance
        R: distance from the start to a minimiser.
    gap
        Δ = f(start) - minimum.
    gradient_bound
        G: E|g|² <= G² for the (stochastic, sub-) gradients used.
    noise
        σ: E|g - ∇f|² <= σ² for the gradient of one example.
    batch
        Examples per stochastic gradient.
    """

    smoothness: float | None = None
    strong_convexity: float | None = None
    distance: float | None = None
    gap: float | None = None
    gradient_bound: float | None = None
    noise: float | None = None
    batch: int = 1

    def __post_init__(self) -> None:
        for name in POSITIVE:
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be a positive number, got {value}")
        if self.noise is not None and not (math.isfinite(self.noise) and self.noise >= 0):
            raise ValueError(f"noise must be a finite number, zero or more, got {self.noise}")
        if self.batch < 1:
            raise ValueError(f"batch must be at least 1, got {self.batch}")
        if self.smoothness and self.strong_convexity and self.smoothness < self.strong_convexity:
            raise ValueError(
                f"the condition number {self.smoothness / self.strong_convexity:g} lies below 1: smoothness "
                f"{self.smoothness} must be at least strong_convexity {self.strong_convexity}"
            )

    @property
    def condition(self) -> float:
        """κ = L / µ."""
        return self.need("smoothness") / self.need("strong_convexity")

    def need(self, name: str) -> float:
        """A constant that a bound cannot do without."""
        value = getattr(self, name)
        if value is None:
            raise ValueError(f"this bound needs {name}; give Problem({name}=...)")
        return float(value)


@dataclass(frozen=True, kw_only=True)
class Bound:
    """A guarantee after t steps.

    Attributes
    ----------
    value
        The number that ``quantity`` does not exceed.
    quantity
        What is bounded: not the same for every algorithm.
    step
        The step size it holds for.
    reference
        Who proved it.
    """

    value: float
    quantity: str
    step: str
    reference: str


Formula = Callable[[Problem, int], float]


@dataclass(frozen=True, kw_only=True)
class _Rule:
    formula: Formula
    quantity: str
    step: str
    reference: str

    def at(self, problem: Problem, t: int) -> Bound:
        return Bound(value=self.formula(problem, t), quantity=self.quantity, step=self.step, reference=self.reference)


GAP = "f(x_t) - f*"
NESTEROV = "Nesterov (2018)"


def convergence_bound(algorithm: str, setting: Setting, t: int, problem: Problem, *, form: Form = "classic") -> Bound:
    """Guarantee of a first-order method after ``t`` steps.

    Parameters
    ----------
    algorithm
        ``"gd"``, ``"nag"`` (Nesterov), ``"ogm"`` (optimised gradient method, convex only), ``"sgd"``; for strongly
        convex problems also ``"gd_optimal"``, the step 2 / (L + µ).
    setting
        ``"convex"``, ``"strongly convex"`` or ``"nonconvex"``.
    t
        Steps taken, at least 1.
    problem
        The constants; those a bound needs and does not find are named.
    form
        ``"classic"``, or ``"tight"``: no smaller number holds for every such problem.

    Raises
    ------
    ValueError
        Unknown algorithm or setting, ``t`` below 1, a constant missing, a condition number below 1.

    >>> round(convergence_bound("gd", "convex", 10, Problem(smoothness=1, distance=1), form="tight").value, 6)
    0.02381
    """
    if t < 1:
        raise ValueError(f"a rate needs at least 1 step, got t={t}")
    known = {(a, s) for a, s, _ in RULES}
    if algorithm not in {a for a, _ in known}:
        raise ValueError(f"no guarantee is known here for algorithm {algorithm!r}; there are {', '.join(ALGORITHMS)}")
    if (algorithm, setting) not in known:
        fitting = sorted(s for a, s in known if a == algorithm)
        raise ValueError(f"no {setting!r} guarantee for {algorithm!r} here; there are {', '.join(map(repr, fitting))}")
    if form not in ("classic", "tight"):
        raise ValueError(f"form must be 'classic' or 'tight', got {form!r}")
    rule = RULES.get((algorithm, setting, form))
    if rule is None:
        raise ValueError(f"no tight {setting} constant for {algorithm!r} is known here; use form='classic'")
    return rule.at(problem, t)


def _ogm(p: Problem, t: int) -> float:
    theta = 1.0
    for _ in range(t - 1):
        theta = (1 + math.sqrt(1 + 4 * theta**2)) / 2
    last = (1 + math.sqrt(1 + 8 * theta**2)) / 2
    return p.need("smoothness") * p.need("distance") ** 2 / (2 * last**2)


def _nag_strong(p: Problem, t: int) -> float:
    start = p.need("gap") + p.need("strong_convexity") * p.need("distance") ** 2 / 2
    return float((1 - 1 / math.sqrt(p.condition)) ** t * start)


def _gd_optimal(p: Problem, t: int) -> float:
    shrink = (p.condition - 1) / (p.condition + 1)
    return float(shrink ** (2 * t) * p.need("smoothness") * p.need("distance") ** 2 / 2)


def _gd_optimal_tight(p: Problem, t: int) -> float:
    return float(((p.condition - 1) / (p.condition + 1)) ** (2 * t) * p.need("gap"))


def sgd_step(problem: Problem, t: int) -> float:
    """The constant step of `convergence_bound` for ``"sgd"`` without convexity: min(1/L, sqrt(2 Δ b / (L σ² t)))."""
    largest = 1 / problem.need("smoothness")
    noise = problem.need("noise") ** 2 / problem.batch
    return largest if noise == 0 else min(largest, math.sqrt(2 * problem.need("gap") * largest / (noise * t)))


def _sgd_nonconvex(p: Problem, t: int) -> float:
    # E f falls by at least η |∇f|² / 2 - L η² σ² / (2 b) in every step with η <= 1/L; summed and divided by η t / 2.
    step = sgd_step(p, t)
    return 2 * p.need("gap") / (step * t) + p.need("smoothness") * step * p.need("noise") ** 2 / p.batch


SMALLEST_SEEN = "min over x_0..x_t of |∇f|"
RULES: dict[tuple[str, str, str], _Rule] = {
    ("gd", "convex", "classic"): _Rule(
        formula=lambda p, t: p.need("smoothness") * p.need("distance") ** 2 / (2 * t),
        quantity=GAP, step="1/L", reference=NESTEROV,
    ),
    ("gd", "convex", "tight"): _Rule(
        formula=lambda p, t: p.need("smoothness") * p.need("distance") ** 2 / (4 * t + 2),
        quantity=GAP, step="1/L", reference="Drori, Teboulle (2014)",
    ),
    ("nag", "convex", "classic"): _Rule(
        formula=lambda p, t: 2 * p.need("smoothness") * p.need("distance") ** 2 / (t + 1) ** 2,
        quantity=GAP, step="1/L", reference="Nesterov (1983)",
    ),
    ("ogm", "convex", "classic"): _Rule(
        formula=_ogm, quantity=GAP, step="the method's own", reference="Kim, Fessler (2016)"
    ),
    ("ogm", "convex", "tight"): _Rule(
        formula=_ogm, quantity=GAP, step="the method's own", reference="Kim, Fessler (2016)"
    ),
    ("sgd", "convex", "classic"): _Rule(
        formula=lambda p, t: p.need("distance") * p.need("gradient_bound") / math.sqrt(t),
        quantity="E f(mean of x_0..x_{t-1}) - f*", step="R / (G sqrt(t))",
        reference="Nemirovski, Juditsky, Lan, Shapiro (2009)",
    ),
    ("gd", "strongly convex", "classic"): _Rule(
        formula=lambda p, t: (1 - 1 / p.condition) ** t * p.need("gap"),
        quantity=GAP, step="1/L", reference=NESTEROV,
    ),
    ("gd", "strongly convex", "tight"): _Rule(
        formula=lambda p, t: (1 - 1 / p.condition) ** (2 * t) * p.need("gap"),
        quantity=GAP, step="1/L", reference="Taylor, Hendrickx, Glineur (2018)",
    ),
    ("gd_optimal", "strongly convex", "classic"): _Rule(
        formula=_gd_optimal, quantity=GAP, step="2/(L+µ)", reference=NESTEROV
    ),
    ("gd_optimal", "strongly convex", "tight"): _Rule(
        formula=_gd_optimal_tight, quantity=GAP, step="2/(L+µ)", reference="Taylor, Hendrickx, Glineur (2018)"
    ),
    ("nag", "strongly convex", "classic"): _Rule(
        formula=_nag_strong, quantity=GAP, step="1/L, momentum (1-q)/(1+q) with q = sqrt(µ/L)", reference=NESTEROV
    ),
    ("sgd", "strongly convex", "classic"): _Rule(
        formula=lambda p, t: 2 * p.need("gradient_bound") ** 2 / (p.need("strong_convexity") * (t + 1)),
        quantity="E f(mean of x_0..x_{t-1}, x_k weighted by k+1) - f*", step="2/(µ(k+2)) at step k from 0",
        reference="Lacoste-Julien, Schmidt, Bach (2012)",
    ),
    ("gd", "nonconvex", "classic"): _Rule(
        formula=lambda p, t: math.sqrt(2 * p.need("smoothness") * p.need("gap") / t),
        quantity="min over x_0..x_{t-1} of |∇f|", step="1/L", reference=NESTEROV,
    ),
    ("gd", "nonconvex", "tight"): _Rule(
        formula=lambda p, t: math.sqrt(4 * p.need("smoothness") * p.need("gap") / (3 * t + 2)),
        quantity=SMALLEST_SEEN, step="1/L", reference="Abbaszadehpeivasti, de Klerk, Zamani (2022)",
    ),
    ("sgd", "nonconvex", "classic"): _Rule(
        formula=_sgd_nonconvex, quantity="mean over x_0..x_{t-1} of E|∇f|²", step="min(1/L, sqrt(2Δb/(Lσ²t)))",
        reference="Ghadimi, Lan (2013)",
    ),
}  # fmt: skip
ALGORITHMS = tuple(sorted({algorithm for algorithm, _, _ in RULES}))


def gradient_bound_from_decrease(smoothness: float, decrease: float, t: int) -> float:
    """Bound on min over x_0..x_t of |∇f| when f(x_0) - f(x_t) is known instead of the gap: sqrt(4 L Δ / (3 t)).

    The minimum need not be known: what the run itself achieved is enough. Step 1/L, no convexity
    (Taylor, Hendrickx, Glineur 2017).

    >>> round(gradient_bound_from_decrease(4.0, 0.5, 100), 6)
    0.163299
    """
    if t < 1:
        raise ValueError(f"a rate needs at least 1 step, got t={t}")
    if not (math.isfinite(smoothness) and smoothness > 0):
        raise ValueError(f"smoothness must be a positive number, got {smoothness}")
    if not (math.isfinite(decrease) and decrease >= 0):
        raise ValueError(f"the decrease f(x_0) - f(x_t) must be zero or more, got {decrease}")
    return math.sqrt(4 * smoothness * decrease / (3 * t))
