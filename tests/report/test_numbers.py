import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from theorylens.report import _numbers as numbers
from theorylens.results import Enclosure, Estimate, Exact, Message, Statistical, Unknown

S = "\N{NO-BREAK SPACE}"
WHY = Message("t.why", "because")


def between(value, lower, upper, unit=""):
    uncertainty = Statistical(lower=lower, upper=upper, level=0.95, method=WHY)
    return Estimate(value=value, uncertainty=uncertainty, unit=unit)


@pytest.mark.parametrize(
    ("value", "lower", "upper", "unit", "text", "interval"),
    [
        (5.2314, 4.6, 5.8, "", "5.2", "[4.6, 5.8]"),
        (0.020100, 0.01, 0.03236, "0-1 loss", f"2.0{S}%", f"[1.0, 3.3]{S}%"),
        (0.456, 0.32, 0.58, "0-1 loss", f"46{S}%", f"[32, 58]{S}%"),
        (0.567, 0.529, 0.601, "", "0.57", "[0.52, 0.61]"),
        (0.53, 0.49, 0.57, "", "0.53", "[0.49, 0.57]"),  # an end that is exact at this precision does not move
        (12345.0, 11900, 12800, "", "12,300", "[11,900, 12,800]"),
        (-0.31, -0.5, -0.1, "", "−0.31", "[−0.50, −0.10]"),
        (3.0, -math.inf, 4.2, "", "3.0", f"≤{S}4.2"),
        (3.0, 2.5, math.inf, "", "3.0", f"≥{S}2.5"),
        (3.0, -math.inf, math.inf, "", "3", ""),
        (1.2345e-7, 1.1e-7, 1.4e-7, "", "1.23×10⁻⁷", "[1.10×10⁻⁷, 1.40×10⁻⁷]"),
        (0.001, 0.0, 0.004, "0-1 loss", f"0.10{S}%", f"[0.00, 0.40]{S}%"),
    ],
)
def test_a_value_has_the_digits_that_its_interval_allows(value, lower, upper, unit, text, interval):
    made = numbers.shown(between(value, lower, upper, unit))
    assert (made.value, made.interval) == (text, interval)


@pytest.mark.parametrize(
    ("value", "unit", "text", "left"),
    [
        (4.0912, "", "4.09", ""),
        (38282.0, "parameters", "38,282", "parameters"),
        (0.0033, "fraction", f"0.33{S}%", ""),
        (0.0, "0-1 loss", f"0{S}%", ""),
        (1.0, "accuracy", f"100{S}%", ""),
        (0.28, "", "0.28", ""),
        (-2.5, "nats", "−2.5", "nats"),
    ],
)
def test_an_exact_number_has_three_digits_and_shares_are_per_cent(value, unit, text, left):
    made = numbers.shown(Estimate(value=value, uncertainty=Exact(), unit=unit))
    assert (made.value, made.interval, made.unit) == (text, "", left)


def test_a_number_that_is_none_says_so():
    made = numbers.shown(Estimate(value=math.nan, uncertainty=Unknown(why=WHY), trouble=WHY, unit="0-1 loss"))
    assert (made.value, made.interval) == ("n/a", "")
    assert numbers.plain(math.inf) == "∞"
    assert numbers.plain(-math.inf) == "−∞"


def test_an_enclosure_is_an_interval_too():
    made = numbers.shown(Estimate(value=1.27, uncertainty=Enclosure(lower=1.2, upper=1.3, why=WHY)))
    assert (made.value, made.interval) == ("1.27", "[1.20, 1.30]")


@pytest.mark.parametrize(
    ("value", "share", "text"),
    [
        (0.032364, True, f"3.24{S}%"),
        (0.014867, True, f"1.49{S}%"),  # 0 errors in 200, exact
        (0.16, True, f"16.0{S}%"),
        (1.0, True, f"100{S}%"),
        (0.0007481, True, f"0.0749{S}%"),
        (1.2341, False, "1.24"),
        (12345.6, False, "12,346"),
        (0.1 + 0.2, False, "0.301"),
    ],
)
def test_a_bound_is_rounded_upwards(value, share, text):
    assert numbers.bound(value, share=share) == text


@given(st.floats(1e-3, 1.0))
def test_a_printed_bound_never_claims_more_than_was_proved(value):
    printed = float(numbers.bound(value, share=True).removesuffix(f"{S}%")) / 100
    assert printed >= value * (1 - 1e-12)
    assert printed <= value * 1.011


def parsed(text):
    mantissa, _, power = text.replace("−", "-").replace(",", "").partition("×10")
    return float(mantissa) * 10.0 ** int(power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")) or 0)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_a_printed_interval_holds_the_interval(value, below, above):
    made = numbers.shown(between(value, value - below, value + above))
    low, high = (parsed(e) for e in made.interval.strip("[]").split(", "))
    rounding = 1e-12 * max(abs(value - below), abs(value + above))
    assert low <= value - below + rounding
    assert high >= value + above - rounding
    fifth_digit = 2e-4 * max(abs(value - below), abs(value + above))
    assert high - low <= max(1.5 * (below + above), below + above + fifth_digit) + 1e-9


@pytest.mark.parametrize(
    ("value", "lower", "upper", "text", "beside"),
    [
        (0.0, 0.0, math.inf, "≥~0", ""),  # the value is the only end: said once
        (1.0, 1.0, math.inf, "≥~1", ""),
        (0.0, -math.inf, 0.018, "0.000", "(≤~0.018)"),  # never "0.000 ≤ 0.018"
        (math.inf, 234.11, math.inf, "∞", "(≥~234)"),
        (math.inf, 0.0, math.inf, "∞", "(≥~0)"),
        (0.5, 0.4, 0.6, "0.50", "[0.40, 0.60]"),
    ],
)
def test_an_end_alone_stands_in_brackets_or_for_the_value(value, lower, upper, text, beside):
    ends = Statistical(lower=lower, upper=upper, level=0.95, method=Message("t.m", "m"))
    trouble = None if math.isfinite(value) else Message("t.t", "t")
    own = numbers.shown(Estimate(value=value, uncertainty=ends, trouble=trouble))
    assert (own.value, own.beside) == (text.replace("~", S), beside.replace("~", S))


def test_an_end_that_is_zero_but_for_rounding_is_zero():
    assert numbers.shown(between(0.001, -2e-19, 1.001)).interval == "[0.0, 1.1]"
    assert numbers.shown(between(0.3, 0.3 - 0.1 - 0.2, 0.5)).interval == "[0.00, 0.50]"


def test_an_interval_finer_than_anybody_reads_is_cut_at_five_digits():
    made = numbers.shown(between(0.26905498, 0.26905479, 0.26905517))
    assert (made.value, made.interval) == ("0.26905", "[0.26905, 0.26906]")


@pytest.mark.parametrize(("value", "text"), [(0.95, "95"), (0.999, "99.9"), (0.5, "50"), (0.0201, "2.01"), (0, "0")])
def test_a_share_is_shown_in_per_cent_without_trailing_zeros(value, text):
    assert numbers.percent(value) == f"{text}{S}%"
