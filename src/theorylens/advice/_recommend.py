"""All rules over one audit, the firmest evidence first."""

from __future__ import annotations

from collections.abc import Sequence

from theorylens.results import Outcome, Recommendation, SubjectFacts

from ._architecture import assume_neighbourhoods
from ._certifying import (
    fresh_test_split,
    more_test_units,
    no_smaller_network,
    separate_test_rows,
    state_an_error,
)
from ._data import find_the_shift, train_every_class, worst_group_first
from ._features import no_shifts, pool_or_augment, train_the_features
from ._findings import Advice, Findings, Rule
from ._training import (
    close_the_gap,
    decay_the_rate,
    larger_steps,
    lower_at_the_end,
    no_regularisation,
    smaller_steps,
    stop_earlier,
    train_longer,
)

RULES: tuple[Rule, ...] = (
    separate_test_rows, train_every_class, find_the_shift, worst_group_first, stop_earlier, smaller_steps,
    close_the_gap, train_longer, state_an_error, more_test_units, fresh_test_split, pool_or_augment,
    train_the_features, assume_neighbourhoods, larger_steps, decay_the_rate, lower_at_the_end, no_regularisation,
    no_shifts, no_smaller_network,
)  # fmt: skip


def recommend(outcomes: Sequence[Outcome], subject: SubjectFacts | None = None) -> tuple[Recommendation, ...]:
    """What the results of one audit ask for, strongest evidence first; unopposed before opposed, then as listed.

    Parameters
    ----------
    outcomes
        Of one audit; only finished results without trouble are read.
    subject
        Facts about the subject; without them rules that need the number of classes stay silent.
    """
    found = Findings(outcomes, subject)
    advice = [a for rule in RULES if (a := rule(found)) is not None]
    return tuple(a.recommendation for a in sorted(advice, key=_place))


def _place(advice: Advice) -> tuple[int, bool]:
    return -advice.strength, bool(advice.recommendation.contradicts)
