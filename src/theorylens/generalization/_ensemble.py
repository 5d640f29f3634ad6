"""Certificates of a vote of relatives: networks trained alike from several seeds on one part, bounded on the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from theorylens.core import Split, Subject, UnsuitableError, key_seed
from theorylens.results import Certificate, Message, Predictor

from ._answers import answers
from ._bound_units import ground, of_bound_units
from ._holdout import holdout_bound
from ._learnt_prior import parts
from ._tandem import first_order_bound, plurality, tandem_bound, tandem_losses

VOTE = Message("theorem.holdout_vote", "Clopper–Pearson on the units no voter saw")
TANDEM = Message("theorem.tandem", "tandem bound: four times the risk that two voters both err")
FIRST_ORDER = Message("theorem.first_order", "twice the risk of one voter")


@dataclass(frozen=True, kw_only=True)
class Ensemble:
    """One way to certify a vote. Everything here is fixed before a bound is computed.

    Parameters
    ----------
    networks
        How many are trained, with seeds of their own; they vote with equal weights.
    share
        Of the independent training units that they all see.
    seed
        Of the division and the training.
    """

    networks: int = 4
    share: float = 0.7
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Voted:
    """Three certificates of one vote, each at its own level; the first is that of the vote as one fixed classifier.

    Attributes
    ----------
    holdout, tandem, first_order
        From the errors of the vote, of pairs, of single voters.
    voters
        Error of each voter on the bound units.
    test_error
        Error of the vote on the test split where there is one; not used by any certificate.
    """

    holdout: Certificate
    tandem: Certificate
    first_order: Certificate
    voters: tuple[float, ...]
    test_error: float | None


def certify_ensemble(
    subject: Subject, way: Ensemble | None = None, *, delta: float = 0.05, comparisons: int = 1
) -> Voted:  # fmt: skip
    """Train several relatives of ``subject`` on the same units and certify their vote on the others.

    Arguments and errors as `certify_relative`.
    """
    way = way or Ensemble()
    if way.networks < 2:
        raise ValueError(f"a vote takes two networks or more, got {way.networks}")
    base = ground(subject, delta, comparisons)
    if base.found.answers.classes is None:
        text = "a vote is taken over classes, one per example; this task answers something else"
        raise UnsuitableError(Message("certify.no_classes", text))
    divided = parts(base.split, base.found.answers.rows.numpy(), way.share, seed=way.seed)
    n = len(divided.bound)
    seeds = [key_seed("ensemble", way.seed, i) % 2**31 for i in range(way.networks)]
    relatives = [base.trained(divided.prior, divided.bound, seed) for seed in seeds]
    units = Split(base.split.take(divided.bound))
    votes, right = _votes([replace(relative, test=units) for relative in relatives])
    wrong = (votes != right).astype(np.float64)
    vote_wrong = (plurality(votes) != right).astype(np.float64)
    tandem = float(tandem_losses(wrong).mean())
    gibbs, empirical = float(wrong.mean()), float(vote_wrong.mean())
    held = holdout_bound(vote_wrong, delta=delta, comparisons=comparisons)
    paid = {of_bound_units(n): base.share}

    def certificate(theorem: Message, bound: float) -> Certificate:
        return base.certificate(theorem, bound, empirical, divided.bound, paid, predictor=Predictor.ENSEMBLE)

    return Voted(
        holdout=certificate(VOTE, held.bound),
        tandem=certificate(TANDEM, tandem_bound(tandem, 0.0, n, base.share)),
        first_order=certificate(FIRST_ORDER, first_order_bound(gibbs, 0.0, n, base.share)),
        voters=tuple(map(float, wrong.mean(1))), test_error=_tested(relatives),
    )  # fmt: skip


def _votes(relatives: Sequence[Subject]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Class answered by each on its test split, (voters, examples), and the true classes (examples,)."""
    found = [answers(relative, "test") for relative in relatives]
    truth = found[0].classes
    said = [each.predicted for each in found if each.predicted is not None]
    assert truth is not None
    return torch.stack(said).numpy(), truth.numpy()


def _tested(relatives: Sequence[Subject]) -> float | None:
    if not relatives[0].has("test"):
        return None
    votes, right = _votes(relatives)
    return float((plurality(votes) != right).mean())
