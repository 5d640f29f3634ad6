"""Certificate of a relative that has learnt from all training units, in steps (recursive PAC-Bayes).

The recipe trains a network on the first portion; a Gaussian around it is the first distribution, and every later one is
trained on one portion more, from the last and with the last as its prior. What each step may be bounded on, its prior
has not seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from theorylens.core import Split, Subject, global_randomness_kept, key_seed
from theorylens.numerics.counting import count
from theorylens.results import Certificate, Message

from ._bound_units import Ground, error_on_test, ground, of_bound_units, of_draws, some, taken, wrong, wrong_as_trained
from ._excess import EXCESS_FORMS, ExcessForm, excess_values
from ._gaussian_posterior import GaussianPosterior
from ._gibbs_risk import GibbsRisk, gibbs_risks
from ._holdout import holdout_bound
from ._learnt_prior import Portion, portions
from ._posterior_training import PosteriorTraining, train_posterior
from ._recursive import RecursiveBound, RecursiveStep, pac_bayes_recursive
from ._relative import HOLDOUT, MONTE_CARLO, drawn_risk, posterior_around, terms_together

THEOREM = Message("theorem.pac_bayes_recursive", "recursive PAC-Bayes")


@dataclass(frozen=True, kw_only=True)
class Recursion:
    """One way to certify a relative recursively. Everything here is fixed before a bound is computed.

    Parameters
    ----------
    shares
        Of the independent training units, for the portions S_1, ..., S_T; two or more, adding up to 1.
    gamma
        Weight of the step before; 1 bounds what a step adds, smaller ones forget.
    form
        Of the bound on the excess loss, see `excess_bound`.
    prior_std
        Standard deviation of the first distribution around the trained weights.
    draws
        How often each bound unit is scored by a fresh pair of networks.
    training
        Of each later distribution.
    seed
        Of the division, the training and the draws.
    """

    shares: tuple[float, ...] = (0.6, 0.2, 0.2)
    gamma: float = 0.5
    form: ExcessForm = "split-kl"
    prior_std: float = 0.01
    draws: int = 100
    training: PosteriorTraining = field(default_factory=PosteriorTraining)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Recursive:
    """What a recipe certifies when every training unit serves learning and all but the first portion a bound.

    Attributes
    ----------
    certificate
        Of a network drawn from the last distribution. Its measured error is that on the last portion.
    holdout
        Of the first network on all later portions: the line to beat.
    steps, bounds
        What each later step measured (upper bounds on tails), and the bounds on the risk of every distribution.
    divergences
        KL(Q_t || Q_{t-1}) in nats, from the second on.
    posterior
        The last distribution: what the certificate is about is a network drawn from it.
    test_error
        Error of the first network on the test split where there is one; not used by any certificate.
    subject
        The first network with its data.
    """

    certificate: Certificate
    holdout: Certificate
    steps: tuple[RecursiveStep, ...]
    bounds: RecursiveBound
    divergences: tuple[float, ...]
    posterior: GaussianPosterior
    test_error: float | None
    subject: Subject


def certify_recursive(
    subject: Subject, way: Recursion | None = None, *, delta: float = 0.05, comparisons: int = 1
) -> Recursive:  # fmt: skip
    """Train relatives of ``subject`` on more and more portions and certify the last, see `pac_bayes_recursive`.

    Parameters
    ----------
    delta
        Failure probability of each of the two certificates.
    comparisons
        Number of ways that are or were tried on these units; they share ``delta``.

    Raises
    ------
    RefusedError
        The recipe cannot train on part of the data, or shows rows it was to leave out.
    UnsuitableError
        There is no recipe, or the task is not classification with the 0-1 error.
    ValueError
        A number outside its range.
    """
    way = way or Recursion()
    excess_values(way.gamma)
    if way.form not in EXCESS_FORMS:
        raise ValueError(f"form must be one of {', '.join(EXCESS_FORMS)}, got {way.form!r}")
    base = ground(subject, delta, comparisons)
    divided = portions(base.split, base.found.answers.rows.numpy(), way.shares, seed=way.seed)
    later = _units(divided, 1)
    relative = base.trained(divided[0].rows, later, way.seed)
    batch = taken(base, later, relative)
    errors = wrong_as_trained(relative, batch, len(later))
    share = base.share / len(divided)
    for_draws = share * MONTE_CARLO
    posterior = posterior_around(relative, batch, way.prior_std)
    start = drawn_risk(relative, posterior, batch, len(later), draws=way.draws, seed=way.seed)
    steps: list[RecursiveStep] = []
    scored = start
    for t in range(1, len(divided)):
        before, posterior = posterior, _next(base, relative, posterior, divided, t, way, share)
        step, scored = _step(base, relative, (posterior, before), _units(divided, t), way, for_draws, t)
        steps.append(step)
    spent = share - for_draws
    found = pac_bayes_recursive(
        start.upper(for_draws), len(later), steps, spent * len(divided), form=way.form
    )  # fmt: skip
    n = len(later)
    held = holdout_bound(errors.numpy(), delta=base.delta, comparisons=base.known)
    paid = {of_bound_units(n): spent * len(divided), of_draws(scored.terms): for_draws * len(divided)}
    return Recursive(
        certificate=base.certificate(THEOREM, found.bound, scored.mean, later, paid),
        holdout=base.certificate(HOLDOUT, held.bound, held.empirical, later, {of_bound_units(n): base.share}),
        steps=tuple(steps), bounds=found, divergences=tuple(step.divergence for step in steps),
        posterior=posterior, test_error=error_on_test(relative), subject=relative,
    )  # fmt: skip


def _units(divided: Sequence[Portion], first: int) -> tuple[int, ...]:
    """One row per unit of the portions from number ``first`` on, counted from 0."""
    return tuple(sorted(row for portion in divided[first:] for row in portion.units))


def _next(
    base: Ground, relative: Subject, posterior: GaussianPosterior, divided: Sequence[Portion], t: int, way: Recursion,
    delta: float,
) -> GaussianPosterior:  # fmt: skip
    """The posterior after portions 0, ..., t, with ``posterior`` as its prior."""
    after = posterior.successor()
    known = sorted(row for portion in divided[: t + 1] for row in portion.rows)
    data = Split(base.split.take(known))
    n = len(_units(divided, t))
    train_posterior(after, relative.judged, data, n=n, delta=delta, how=way.training, seed=way.seed)
    return after


def _step(
    base: Ground, relative: Subject, pair: tuple[GaussianPosterior, GaussianPosterior], rows: Sequence[int],
    way: Recursion, delta: float, t: int,
) -> tuple[RecursiveStep, GibbsRisk]:  # fmt: skip
    """Score pairs of networks, one of each posterior and drawn apart, and bound the tails of their excess loss."""
    batch, (new, old) = taken(base, rows, relative), pair
    new.eval(), old.eval()

    def tails(chosen: Tensor) -> Tensor:
        part = some(batch, chosen)
        mine, theirs = wrong(relative, new, part) > 0, wrong(relative, old, part) > 0
        return torch.stack([mine | ~theirs, mine, mine & ~theirs], 1)  # F >= 0, >= 1 - gamma, >= 1

    with global_randomness_kept(key_seed("recursive", way.seed, t)), torch.no_grad():
        risks = gibbs_risks(
            tails, len(rows), draws=way.draws, batch=terms_together(relative, new), by_example=new.by_example,
            measured=3,
        )  # fmt: skip
        divergence = max(0.0, float(new.divergence()))
    count(forwards=2 * len(rows) * way.draws)
    upper = [risk.upper(delta / 3) for risk in risks]
    upper = [max(upper[i:]) for i in range(3)]  # descending also where inflation differs
    step = RecursiveStep(
        tails=(upper[0], upper[1], upper[2]), divergence=divergence, n=len(rows), gamma=way.gamma
    )  # fmt: skip
    return step, risks[1]
