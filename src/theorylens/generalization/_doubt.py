"""Did a relative see what it was to leave out, by a way that no bookkeeping can see? Its errors would tell.

Examples that a network has not seen are alike to it, whether they were left out of the training split or stand in the
test split. A recipe that reads its data from elsewhere and trains on all of them errs far less on the former.

Method   Fisher's exact test, one-sided: as few errors on the units left out, given the errors on both together
Assumes  test examples come from where the training examples do; else a difference says that they do not
Breaks   for a look that hardly changes the errors: inputs standardised together, statistics of batch-norm
"""

from __future__ import annotations

from dataclasses import replace

from scipy.stats import hypergeom

from theorylens.core import Subject
from theorylens.results import Message

from ._answers import answers

RARE = 1e-3  # a doubt is raised for no more than this share of honest recipes


def doubt(errors: int, units: int, test_errors: int, tests: int) -> float:
    """Probability of at most ``errors`` among ``units`` left out if they were as hard as the ``tests``.

    >>> round(doubt(0, 100, 20, 100), 8), doubt(20, 100, 20, 100) > 0.5
    (3.3e-07, True)
    """
    return float(hypergeom.cdf(errors, units + tests, errors + test_errors, units))


def doubted(relative: Subject, subject: Subject, errors: int, units: int) -> Message | None:
    """What to say of a relative with ``errors`` on the ``units`` it was to leave out; None where nothing is odd."""
    if not subject.has("test"):
        return None
    known = replace(relative, test=subject.split("test"), validation=None)
    wrong = answers(known, "test").errors
    tests = len(wrong)
    p = doubt(errors, units, round(float(wrong.sum())), tests)
    if p >= RARE:
        return None
    text = (
        "The relative errs on {hidden:.2%} of {n} units it was to leave out and on {test:.2%} of {tests} test examples "
        "(p = {p:.1g}). Either its recipe has seen those units by a way of its own, and no bound above on a relative "
        "holds, or the test examples come from elsewhere."
    )
    values = {"hidden": errors / units, "n": units, "test": float(wrong.mean()), "tests": tests, "p": p}
    return Message("certify.doubt", text, **values)
