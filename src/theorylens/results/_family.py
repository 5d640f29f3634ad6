"""All p-values of a run are one family: Holm's method over its probes, and verdicts that follow the adjusted values.

Method   Holm's step-down method with one step for each probe. A probe hands over p-values that already pay for its own
         tests; at each step the probes that are left share the level, and a probe leaves, with its share, when
         everything it tests is rejected. With one test for each probe this is Holm's method
Source   Holm (1979), Scand. J. Statist. 6:65; the argument: while no true statement is rejected, the probes that hold
         one are all still there, so that each of them tests at level / (their number) or less, and Bonferroni adds up
Assumes  p-values that are valid alone; any dependence between them
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from ._message import Message
from ._outcome import Done, Outcome
from ._p_value import FAMILY_LEVEL, PValue
from ._result import Result


def holm_over_groups(groups: Sequence[Sequence[float]]) -> list[list[float]]:
    """Adjusted p-values of each group: rejecting those at most a level errs at all with at most that probability.

    Parameters
    ----------
    groups
        For each group its p-values, adjusted within the group where there are several; no group is empty.

    >>> holm_over_groups([[0.01], [0.04], [0.03]])
    [[0.03], [0.06], [0.06]]
    """
    whole = [max(group) for group in groups]  # a group leaves when its largest is rejected
    return [
        [_step_down(p, sorted(whole[:number] + whole[number + 1 :])) for p in group]
        for number, group in enumerate(groups)
    ]


def _step_down(p: float, others: Sequence[float]) -> float:
    """Holm's adjustment of ``p`` among ``others``, which are in ascending order."""
    before = [other for other in others if other < p]
    steps = [(len(others) + 1 - rank) * value for rank, value in enumerate([*before, p])]
    return min(1.0, max(steps))


def one_family(outcomes: Iterable[Outcome]) -> tuple[Outcome, ...]:
    """``outcomes`` with every p-value adjusted over all of them, and each verdict that no longer stands replaced."""
    kept = tuple(outcomes)
    tested = [o for o in kept if isinstance(o, Done) and o.result.p_values]
    adjusted = holm_over_groups([[p.own for p in o.result.p_values] for o in tested])
    results = {id(o): _settled(o.result, values) for o, values in zip(tested, adjusted, strict=True)}
    return tuple(replace(o, result=results[id(o)]) if isinstance(o, Done) and id(o) in results else o for o in kept)


def _settled(result: Result, adjusted: Sequence[float]) -> Result:
    after = tuple(replace(p, adjusted=value) for p, value in zip(result.p_values, adjusted, strict=True))
    said = {before.said: new.said for before, new in zip(result.p_values, after, strict=True)}
    stands = all(p.adjusted is not None and p.adjusted <= FAMILY_LEVEL for p in after if p.decides)
    other = result.otherwise
    left = result if stands or other is None else replace(
        result, verdict=other.verdict, reason=other.reason, reading=other.reading, assumptions=other.assumptions
    )  # fmt: skip
    return replace(
        left, p_values=after, otherwise=None, reason=_resaid(left.reason, said),
        reading=None if left.reading is None else _resaid(left.reading, said),
        assumptions=tuple(
            replace(a, evidence=None if a.evidence is None else _resaid(a.evidence, said)) for a in left.assumptions
        ),
    )  # fmt: skip


def _resaid(message: Message, said: dict[Message, Message]) -> Message:
    """``message`` with the p-values in it said anew."""
    if message in said:
        return said[message]
    values = {k: _resaid(v, said) if isinstance(v, Message) else v for k, v in message.values.items()}
    return message.refilled(**values)


def p_values_of(outcomes: Iterable[Outcome]) -> tuple[tuple[str, PValue], ...]:
    """Every p-value with the code of its probe, the most surprising first."""
    found = [(o.about.code, p) for o in outcomes if isinstance(o, Done) for p in o.result.p_values]
    return tuple(sorted(found, key=lambda pair: (pair[1].decisive, pair[1].p)))
