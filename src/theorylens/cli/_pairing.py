"""Two stored reports on the same test examples: which of the two networks errs less, by an exact paired test."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theorylens.results import Certificate, Message, Record

DELTA = 0.05


def paired_note(a: Record, b: Record) -> Message:
    """What the stored right and wrong answers say about the two networks, or why they say nothing."""
    from theorylens.results import Message

    first, second = _stored(a), _stored(b)
    if first is None or second is None:
        texts = {
            (True, True): "The networks are not compared example by example: neither report holds right or wrong for "
            "each test example (TL101 on answers that are right or wrong stores it).",
            (True, False): "The networks are not compared example by example: the first report does not hold right or "
            "wrong for each test example (TL101 on answers that are right or wrong stores it).",
            (False, True): "The networks are not compared example by example: the second report does not hold right or "
            "wrong for each test example (TL101 on answers that are right or wrong stores it).",
        }
        return Message("compare.paired.missing", texts[first is None, second is None])
    if first.hashes.get("test") != second.hashes.get("test") or first.examples != second.examples:
        text = "The networks are not compared example by example: the reports are about different test examples."
        return Message("compare.paired.different", text)
    if first.loss != second.loss:
        text = "The networks are not compared example by example: one counts {first}, the other {second}."
        return Message("compare.paired.loss", text, first=first.loss, second=second.loss)
    try:
        return _compared(first, second)
    except ImportError:
        text = "The networks are not compared example by example: that needs scipy, which is not installed here."
        return Message("compare.paired.scipy", text)


def _stored(record: Record) -> Certificate | None:
    result = record.result("TL101")
    certificate = result.certificate if result is not None else None
    return certificate if certificate is not None and certificate.wrong else None


def _compared(first: Certificate, second: Certificate) -> Message:
    from theorylens.generalization import paired_comparison
    from theorylens.results import Message, unpacked_bits

    n = first.examples
    found = paired_comparison(unpacked_bits(first.wrong, n), unpacked_bits(second.wrong, n), delta=DELTA)
    low, high = found.difference.lower, found.difference.upper
    values: dict[str, Any] = {
        "n": n, "one": found.first_only, "two": found.second_only, "level": 1 - DELTA, "p": found.p,
    }  # fmt: skip
    if low > 0:
        text = (
            "The second network errs less often: by {low:.2%} to {high:.2%} of new examples (exact, {level:.0%}); of "
            "{n} test examples only the first errs on {one}, only the second on {two}; McNemar's exact p is {p:.2g}. "
            "This is one comparison of two networks, not the best of many."
        )
        return Message("compare.paired.second", text, low=low, high=high, **values)
    if high < 0:
        text = (
            "The first network errs less often: by {low:.2%} to {high:.2%} of new examples (exact, {level:.0%}); of "
            "{n} test examples only the first errs on {one}, only the second on {two}; McNemar's exact p is {p:.2g}. "
            "This is one comparison of two networks, not the best of many."
        )
        return Message("compare.paired.first", text, low=-high, high=-low, **values)
    text = (
        "Neither network is shown to err less often: error of the first minus error of the second lies between "
        "{low:+.2%} and {high:+.2%} (exact, {level:.0%}); of {n} test examples only the first errs on {one}, only the "
        "second on {two}; McNemar's exact p is {p:.2g}."
    )
    return Message("compare.paired.neither", text, low=low, high=high, **values)
