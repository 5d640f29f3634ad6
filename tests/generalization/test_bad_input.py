"""Numbers, names and shapes that no bound is about: one clear sentence, for every function of numbers."""

import math
import re

import numpy as np
import pytest

import theorylens.generalization as g

NAN, INF = math.nan, math.inf
BAD = {
    "delta": (0.0, 1.0, -0.1, 1.5, NAN, INF),  # strictly between 0 and 1
    "share": (-0.1, 1.1, NAN, -INF),  # in [0, 1]
    "count": (0, -3, 2.5, NAN, INF),  # whole, at least 1
    "count0": (-1, 2.5, NAN, INF),  # whole, at least 0
    "positive": (0.0, -1.0, NAN, INF),
    "amount": (-1.0, NAN, INF),  # finite, at least 0
    "nats": (-1e-9, -1.0, NAN),  # at least 0; infinity is a budget too
    "variance": (-0.1, 0.3, NAN),  # of a term in [0, 1]
    "sides": (0, 3),
    "name": ("no such name", ""),
    "shares": ([-0.1, 0.5], [0.5, NAN], [0.5, 1.2], []),
    "amounts": ([-0.1, 0.5], [0.5, NAN], [0.5, INF], []),
    "bits": ([0.5, 1], [0, NAN], [2, 0], []),
    "numbers": ([0.5, NAN], []),
}

# function: (valid arguments, kind of each that has bad values)
TABLE = {
    "kl": (dict(q=0.1, p=0.2), dict(q="share", p="share")),
    "kl_inverse": (dict(q=0.1, c=0.2, side="upper"), dict(q="share", c="nats", side="name")),
    "clopper_pearson": (
        dict(errors=1, n=9, delta=0.1, side="upper"), dict(errors="count0", n="count", delta="delta", side="name"),
    ),
    "clopper_pearson_interval": (dict(errors=1, n=9, delta=0.1), dict(errors="count0", n="count", delta="delta")),
    "hoeffding": (dict(n=9, delta=0.1), dict(n="count", delta="delta")),
    "bernstein": (dict(n=9, variance=0.1, delta=0.1), dict(n="count", variance="variance", delta="delta")),
    "bennett": (dict(n=9, variance=0.1, delta=0.1), dict(n="count", variance="variance", delta="delta")),
    "empirical_bernstein": (dict(n=9, variance=0.1, delta=0.1), dict(n="count", variance="variance", delta="delta")),
    "chernoff_kl": (
        dict(mean=0.1, n=9, delta=0.1, side="upper"), dict(mean="share", n="count", delta="delta", side="name"),
    ),
    "dkw": (dict(n=9, delta=0.1, sides=2), dict(n="count", delta="delta", sides="sides")),
    "mcdiarmid": (
        dict(differences=[0.1, 0.2], deviation=0.1, sides=2),
        dict(differences="amounts", deviation="amount", sides="sides"),
    ),
    "mcdiarmid_deviation": (
        dict(differences=[0.1, 0.2], delta=0.1, sides=2), dict(differences="amounts", delta="delta", sides="sides"),
    ),
    "azuma": (
        dict(differences=[0.1, 0.2], deviation=0.1, sides=2),
        dict(differences="amounts", deviation="amount", sides="sides"),
    ),
    "azuma_deviation": (
        dict(differences=[0.1, 0.2], delta=0.1, sides=2), dict(differences="amounts", delta="delta", sides="sides"),
    ),
    "confidence_sequence": (
        dict(sample=[0.1, 0.2], delta=0.1, method="betting"), dict(sample="shares", delta="delta", method="name"),
    ),
    "mixture_radius": (dict(t=5, delta=0.1, tuned=100.0), dict(t="count", delta="delta", tuned="positive")),
    "stitched_radius": (dict(t=5, delta=0.1), dict(t="count", delta="delta")),
    "bounded_mean": (
        dict(sample=[0.1, 0.2], delta=0.1, method="kl"), dict(sample="shares", delta="delta", method="name"),
    ),
    "sauer_shelah": (dict(m=5, d=2), dict(m="count0", d="count0")),
    "log_sauer_shelah": (dict(m=5, d=2), dict(m="count0", d="count0")),
    "cover_count": (dict(n=5, d=2), dict(n="count", d="count")),
    "massart": (dict(count=5, n=9, max_norm=1.0), dict(count="count", n="count", max_norm="amount")),
    "rademacher_bound": (dict(m=5, d=2, growth="exact"), dict(m="count", d="count", growth="name")),
    "vc_gap": (
        dict(m=50, d=2, delta=0.1, variant="mohri", growth="exact"),
        dict(m="count", d="count", delta="delta", variant="name", growth="name"),
    ),
    "vc_bound": (
        dict(empirical=0.1, m=50, d=2, delta=0.1, variant="mohri", growth="exact"),
        dict(empirical="share", m="count", d="count", delta="delta", variant="name", growth="name"),
    ),
    "relative_vc_bound": (
        dict(empirical=0.1, m=50, d=2, delta=0.1), dict(empirical="share", m="count", d="count", delta="delta"),
    ),
    "growth_gap": (
        dict(m=50, log_growth=lambda m: 1.0, delta=0.1, variant="mohri"),
        dict(m="count", delta="delta", variant="name"),
    ),
    "fat_shattering": (
        dict(radius=1.0, norm=1.0, margin=0.5, dimension=3),
        dict(radius="amount", norm="amount", margin="positive", dimension="count"),
    ),
    "fat_shattering_bound": (
        dict(margin_error=0.1, m=50, dimension=2, delta=0.1),
        dict(margin_error="share", m="count", dimension="count0", delta="delta"),
    ),
    "fat_covering": (dict(points=9, dimension=2), dict(points="count", dimension="count0")),
    "ball_covering": (
        dict(radius=1.0, scale=0.5, dimension=3), dict(radius="amount", scale="positive", dimension="count"),
    ),
    "ball_packing": (
        dict(radius=1.0, scale=0.5, dimension=3), dict(radius="amount", scale="positive", dimension="count"),
    ),
    "linear_covering": (
        dict(norm=1.0, radius=1.0, scale=0.5, dimension=3),
        dict(norm="amount", radius="amount", scale="positive", dimension="count"),
    ),
    "spectral_covering": (
        dict(spectral=[1.0, 2.0], distances=[0.5, 0.5], scale=0.5, inputs=1.0, width=4),
        dict(spectral="amounts", distances="amounts", scale="positive", inputs="amount", width="count"),
    ),
    "covering_bound": (dict(scale=0.1, log_covering=1.0, n=9), dict(scale="amount", log_covering="nats", n="count")),
    "covering_tail": (
        dict(deviation=0.1, log_covering=1.0, n=9), dict(deviation="positive", log_covering="nats", n="count"),
    ),
    "dudley": (dict(covering=lambda e: 1.0, n=9, largest=1.0), dict(n="count", largest="amount")),
    "uniform_convergence": (
        dict(complexity=0.1, n=9, delta=0.1, sides=1),
        dict(complexity="amount", n="count", delta="delta", sides="sides"),
    ),
    "uniform_convergence_necessary": (
        dict(complexity=0.1, n=9, largest_mean=0.0), dict(complexity="amount", n="count", largest_mean="amount"),
    ),
    "margin_loss": (dict(margins=[0.1, 0.2], margin=0.5), dict(margins="numbers", margin="positive")),
    "margin_gap": (
        dict(rademacher=0.1, margin=0.5, m=9, delta=0.1),
        dict(rademacher="amount", margin="positive", m="count", delta="delta"),
    ),
    "sample_complexity": (
        dict(epsilon=0.1, delta=0.1, vc_dimension=3, setting="realizable", theorem="blumer"),
        dict(epsilon="delta", delta="delta", vc_dimension="count", setting="name", theorem="name"),
    ),
    "sample_sizes": (
        dict(epsilon=0.1, delta=0.1, class_size=3), dict(epsilon="delta", delta="delta", class_size="count"),
    ),
    "attainable_error": (dict(m=9, delta=0.1, bits=3.0), dict(m="count", delta="delta", bits="amount")),
    "attainable_delta": (
        dict(m=9, epsilon=0.1, log_class_size=3.0), dict(m="count", epsilon="delta", log_class_size="amount"),
    ),
    "ehrenfeucht_lower_bound": (dict(d=9, epsilon=0.1, delta=0.01), dict(d="count", epsilon="delta", delta="delta")),
    "holdout_size": (
        dict(width=0.1, delta=0.1, error=0.1, theorem="hoeffding"),
        dict(width="delta", delta="delta", error="share", theorem="name"),
    ),
    "holdout_sizes": (dict(width=0.1, delta=0.1, error=0.1), dict(width="delta", delta="delta", error="share")),
    "holdout_bound": (
        dict(errors=[0, 1], delta=0.1, comparisons=2), dict(errors="shares", delta="delta", comparisons="count"),
    ),
    "group_bounds": (dict(errors=[0, 1], groups=[0, 1], delta=0.1), dict(errors="shares", delta="delta")),
    "progressive_validation": (dict(errors=[0, 1], delta=0.1), dict(errors="shares", delta="delta")),
    "pac_certificate": (
        dict(empirical=0.1, m=9, delta=0.1, class_size=4),
        dict(empirical="share", m="count", delta="delta", class_size="count"),
    ),
    "occam_bound": (
        dict(empirical=0.1, nats=1.0, n=9, delta=0.1), dict(empirical="share", nats="nats", n="count", delta="delta"),
    ),
    "affordable_bits": (
        dict(empirical=0.1, trivial=0.5, n=9, delta=0.1),
        dict(empirical="share", trivial="share", n="count", delta="delta"),
    ),
    "vc_linear": (dict(d=3), dict(d="count")),
    "vc_sigmoid_network": (dict(weights=3, units=2), dict(weights="count", units="count")),
    "vc_threshold_network": (dict(weights=3, units=2), dict(weights="count", units="count")),
    "vc_stump": (dict(features=3), dict(features="count")),
    "vc_tree": (dict(features=3, splits=2), dict(features="count", splits="count")),
    "xi": (dict(n=9), dict(n="count")),
    "pac_bayes_kl": (
        dict(empirical=0.1, divergence=1.0, n=9, delta=0.1, form="exact"),
        dict(empirical="share", divergence="nats", n="count", delta="delta", form="name"),
    ),
    "pac_bayes_mcallester": (
        dict(empirical=0.1, divergence=1.0, n=9, delta=0.1, form="exact"),
        dict(empirical="share", divergence="nats", n="count", delta="delta", form="name"),
    ),
    "pac_bayes_quadratic": (
        dict(empirical=0.1, divergence=1.0, n=9, delta=0.1, form="exact"),
        dict(empirical="share", divergence="nats", n="count", delta="delta", form="name"),
    ),
    "pac_bayes_lambda": (
        dict(empirical=0.1, divergence=1.0, n=9, delta=0.1, trade_off=0.5, form="exact"),
        dict(
            empirical="share", divergence="nats", n="count", delta="delta", trade_off="positive", form="name",
        ),
    ),
    "best_trade_off": (
        dict(empirical=0.1, divergence=1.0, n=9, delta=0.1),
        dict(empirical="share", divergence="nats", n="count", delta="delta"),
    ),
    "pac_bayes_catoni": (
        dict(empirical=0.1, divergence=1.0, n=9, delta=0.1, beta=1.0),
        dict(empirical="share", divergence="nats", n="count", delta="delta", beta="positive"),
    ),
    "pac_bayes_disintegrated": (
        dict(empirical=0.1, log_ratio=1.0, n=9, delta=0.1, form="exact"),
        dict(empirical="share", n="count", delta="delta", form="name"),
    ),
    "pac_bayes_empirical_bernstein": (
        dict(empirical=0.1, variance=0.05, divergence=1.0, n=9, delta=0.1),
        dict(empirical="share", variance="variance", divergence="nats", n="count", delta="delta"),
    ),
    "variance_bound": (
        dict(variance=0.05, divergence=1.0, n=9, delta=0.1),
        dict(variance="variance", divergence="nats", n="count", delta="delta"),
    ),
    "first_order_bound": (
        dict(gibbs=0.1, divergence=1.0, n=9, delta=0.1),
        dict(gibbs="share", divergence="nats", n="count", delta="delta"),
    ),
    "tandem_bound": (
        dict(tandem=0.1, divergence=1.0, n=9, delta=0.1),
        dict(tandem="share", divergence="nats", n="count", delta="delta"),
    ),
    "split_kl": (
        dict(values=[0.0, 0.5, 1.0], tails=[0.2, 0.1], divergence=1.0, n=9, delta=0.1),
        dict(values="numbers", tails="shares", divergence="nats", n="count", delta="delta"),
    ),
    "best_scale": (dict(rate=0.1, n=9, delta=0.1), dict(rate="share", n="count", delta="delta")),
    "progressive_bound": (
        dict(errors=1, n=9, scale=1.0, delta=0.1),
        dict(errors="count0", n="count", scale="positive", delta="delta"),
    ),
    "cmi_bound": (dict(information=0.1, n=9), dict(information="nats", n="count")),
    "xu_raginsky": (dict(information=0.1, n=9), dict(information="nats", n="count")),
    "rank_correlation": (
        dict(measure=[1.0, 2.0, 3.0, 4.0], gap=[1.0, 2.0, 4.0, 3.0], level=0.9),
        dict(measure="numbers", gap="numbers", level="delta"),
    ),
    "ridgeless_risk": (
        dict(ratio=0.5, noise=0.1, signal=1.0), dict(ratio="positive", noise="amount", signal="amount"),
    ),
    "ridge_risk": (
        dict(ratio=0.5, penalty=0.1, noise=0.1, signal=1.0),
        dict(ratio="positive", penalty="positive", noise="amount", signal="amount"),
    ),
    "mcnemar": (dict(first_only=1, second_only=2), dict(first_only="count0", second_only="count0")),
    "paired_comparison": (
        dict(first=[0, 1], second=[1, 1], delta=0.1), dict(first="bits", second="bits", delta="delta"),
    ),
    "selective_error": (
        dict(confidence=[0.1, 0.2], wrong=[0, 1], delta=0.1, coverages=(0.5,)),
        dict(confidence="numbers", wrong="bits", delta="delta"),
    ),
    "conformal_threshold": (dict(true_scores=[0.1, 0.2], alpha=0.1), dict(true_scores="numbers", alpha="delta")),
    "risk_p_value": (dict(mean=0.1, n=9, alpha=0.1), dict(mean="share", n="count", alpha="delta")),
    "binomial_p_value": (dict(errors=1, n=9, alpha=0.1), dict(errors="count0", n="count", alpha="delta")),
    "learn_then_test": (
        dict(p_values=[0.1, 0.2], delta=0.1, procedure="holm"),
        dict(p_values="shares", delta="delta", procedure="name"),
    ),
    "conformal_risk": (dict(losses=[[1.0, 0.0]], alpha=0.1, largest=1.0), dict(alpha="delta", largest="positive")),
    "reliability": (
        dict(confidence=[0.1, 0.9], correct=[0, 1], bins=2), dict(confidence="shares", correct="bits", bins="count"),
    ),
    "brier_parts": (
        dict(confidence=[0.1, 0.9], correct=[0, 1], bins=2), dict(confidence="shares", correct="bits", bins="count"),
    ),
    "squared_calibration_error": (
        dict(confidence=[0.1, 0.2, 0.9, 0.8], correct=[0, 1, 1, 1], bins=2),
        dict(confidence="shares", correct="bits", bins="count"),
    ),
    "stability_bound": (
        dict(empirical=0.1, stability=0.01, n=9, delta=0.1, largest=1.0, measured="training"),
        dict(empirical="share", stability="amount", n="count", delta="delta", largest="positive", measured="name"),
    ),
    "regularised_stability": (
        dict(penalty=1.0, radius=1.0, slope=1.0, judged=1.0),
        dict(penalty="positive", radius="positive", slope="positive", judged="positive"),
    ),
    "svm_stability": (dict(C=1.0, radius=1.0), dict(C="positive", radius="positive")),
    "ridge_stability": (
        dict(penalty=1.0, radius=1.0, largest=1.0, n=9),
        dict(penalty="positive", radius="positive", largest="positive", n="count"),
    ),
    "neighbours_bound": (
        dict(left_out=0.1, n=99, k=3, delta=0.1), dict(left_out="share", n="count", k="count", delta="delta"),
    ),
}  # fmt: skip
CASES = [
    (name, argument, value)
    for name, (_, kinds) in TABLE.items()
    for argument, kind in kinds.items()
    for value in BAD[kind]
]


@pytest.mark.parametrize("name", TABLE)
def test_the_arguments_of_the_table_are_good_ones(name):
    getattr(g, name)(**TABLE[name][0])


@pytest.mark.usefixtures("unchecked_shapes")
@pytest.mark.parametrize(("name", "argument", "value"), CASES, ids=lambda x: x if isinstance(x, str) else repr(x))
def test_a_bad_argument_is_refused_in_one_sentence(name, argument, value):
    with pytest.raises(ValueError, match=r"\w+ .*\w") as refused:
        getattr(g, name)(**{**TABLE[name][0], argument: value})
    said = str(refused.value)
    assert "\n" not in said
    assert len(said) < 320
    assert not re.search(r"math domain|cannot convert|truth value|broadcast together|NaN to integer|operand", said)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: g.clopper_pearson([1, 2, 3], [10, 10], 0.1), "shape"),
        (lambda: g.paired_comparison([0, 1], [0, 1, 1]), "one outcome per example"),
        (lambda: g.selective_error([0.1, 0.2], [0]), "one confidence and one outcome"),
        (lambda: g.reliability([0.1, 0.2], [0]), "one confidence and one outcome"),
        (lambda: g.spectral_covering([1.0], [1.0, 2.0], 0.5, inputs=1.0, width=3), "one distance per spectral norm"),
        (lambda: g.holdout_bound([0, 1], units=[0]), "as many units"),
        (lambda: g.efron_stein(np.mean, np.ones(3), np.ones(4)), "one copy of every input"),
        (lambda: g.clopper_pearson(5, 3, 0.1), "errors must not exceed n"),
        (lambda: g.sample_complexity(0.1, 0.1), "exactly one"),
        (lambda: g.sample_complexity(0.1, 0.1, bits=3.0, vc_dimension=2), "exactly one"),
        (lambda: g.vc_gap(10, "three", 0.1), "d must be a whole number"),
        (lambda: g.sauer_shelah(None, 3), "m must be a whole number"),
        (lambda: g.massart(True, 3, 1.0), "count must be a whole number"),
    ],
)
@pytest.mark.usefixtures("unchecked_shapes")
def test_shapes_that_do_not_match_and_numbers_that_contradict(call, said):
    with pytest.raises(ValueError, match=said):
        call()
