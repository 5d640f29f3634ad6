"""VC dimensions by theorem, from numbers: how many points can a class label in all ways?

Each says whether it is exact or only enclosed. Upper ends of networks and trees come from a bound on the growth
function, evaluated: the largest m that it does not exclude, m ln 2 <= ln Pi(m).

Source   Radon's theorem; Vapnik (1998), theorem 8.3; Leboeuf, LeBlanc, Marchand (2020); Baum, Haussler (1989); Anthony,
         Bartlett (1999), theorems 6.1 and 8.13
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from theorylens.results import Message

from ._asked import positive, whole
from ._sample_theorems import LARGEST

LogGrowth = Callable[[int], float]


@dataclass(frozen=True, kw_only=True)
class VcDimension:
    """Between ``lower`` and ``upper``; exact when they agree."""

    lower: int
    upper: int
    lower_theorem: Message
    upper_theorem: Message

    def __post_init__(self) -> None:
        if not 0 <= self.lower <= self.upper:
            raise ValueError(f"a VC dimension needs 0 <= lower <= upper, got {self.lower} and {self.upper}")

    @property
    def exact(self) -> bool:
        return self.lower == self.upper


def vc_linear(d: int, *, bias: bool = True, radius: float | None = None, margin: float | None = None) -> VcDimension:
    """Halfspaces of ``d`` features: d + 1 with a bias, d without.

    With ``radius`` R and ``margin`` g: hyperplanes that part points inside a ball of radius R by at least g from the
    hyperplane, at most min(ceil(R^2/g^2), d) + 1.

    >>> [vc_linear(10).upper, vc_linear(10, bias=False).upper, vc_linear(1000, radius=1, margin=0.5).upper]
    [11, 10, 5]
    """
    d = whole("d", d)
    if (radius is None) != (margin is None):
        raise ValueError("give radius and margin together: the margin is measured against the radius")
    halfspaces = Message("theorem.radon", "halfspaces, by Radon's theorem")
    if radius is None or margin is None:
        value = d + bias
        return VcDimension(lower=value, upper=value, lower_theorem=halfspaces, upper_theorem=halfspaces)
    ratio = positive("radius", radius) / positive("margin", margin)
    theorem = Message("theorem.margin_hyperplanes", "hyperplanes with a margin (Vapnik)")
    at_most = d + 1 if ratio * ratio > d else math.ceil(ratio * ratio * (1 - 1e-12)) + 1
    return VcDimension(lower=1, upper=at_most, lower_theorem=theorem, upper_theorem=theorem)


def vc_stump(features: int) -> VcDimension:
    """Trees with one split on one of ``features`` real features: the largest d with C(d, floor(d/2)) <= 2 features.

    >>> [vc_stump(n).upper for n in (1, 2, 3, 10, 100)]
    [2, 3, 4, 6, 9]
    """
    features, d = whole("features", features), 1
    while math.comb(d + 1, (d + 1) // 2) <= 2 * features:
        d += 1
    theorem = Message("theorem.stump", "decision stumps (Leboeuf, LeBlanc, Marchand)")
    return VcDimension(lower=d, upper=d, lower_theorem=theorem, upper_theorem=theorem)


def vc_tree(
    features: int, *, splits: int | None = None, depth: int | None = None, trees: int = 1,
    categories: Sequence[int] = (),
) -> VcDimension:  # fmt: skip
    """Binary trees that compare one of ``features`` real features with a threshold at each of ``splits`` nodes.

    At least the number of leaves (as many points on a line), and no less than a stump. At most what the growth
    function allows: a tree on m points is a shape, one of features (m - 1) + 1 cuts at each node, and a label for each
    leaf. ``depth`` k stands for the complete tree of 2^k - 1 splits, whose shape is known. The 2^k often quoted for
    trees of depth k is only the lower end. ``trees`` above 1: a majority vote of so many, as in a random forest; what
    it answers is decided by what each tree answers, so the growth functions multiply.

    ``categories``: numbers of values of further features without an order (2 for yes or no), of which a node asks
    whether one has a given value; then ``features`` may be 0.

    >>> found = vc_tree(10, depth=3)
    >>> found.lower, found.upper
    (8, 74)
    >>> found = vc_tree(0, depth=3, categories=[2] * 20)
    >>> found.lower, found.upper
    (8, 38)
    """
    values = [whole("a number of values", c, 2) for c in categories]
    features, trees = whole("features", features, 0 if values else 1), whole("trees", trees)
    if (splits is None) == (depth is None):
        raise ValueError("give either splits, the number of inner nodes, or depth, of a complete tree")
    nodes = 2 ** whole("depth", depth) - 1 if splits is None else whole("splits", splits)
    shapes = 0.0 if splits is None else math.lgamma(2 * nodes + 1) - math.lgamma(nodes + 2) - math.lgamma(nodes + 1)
    alone = trees == 1 and not values
    if nodes == 1 and alone:
        return vc_stump(features)
    leaves = Message("theorem.leaves", "one point per leaf")
    if features == 1 and alone:  # a line cut into intervals, one per leaf
        return VcDimension(lower=nodes + 1, upper=nodes + 1, lower_theorem=leaves, upper_theorem=leaves)
    asked = sum(1 if c == 2 else c for c in values)  # "is it 0" and "is it 1" are one cut

    def log_growth(m: int) -> float:
        return trees * (shapes + nodes * math.log(features * (m - 1) + asked + 1) + (nodes + 1) * math.log(2))

    upper = largest_shattered(log_growth)
    if features:
        lower = max(nodes + 1, vc_stump(features).lower)
    else:
        kinds = math.prod(values)  # of points there are
        chain = nodes if depth is None else depth  # one value after the other; or a new feature on every level
        lower, upper = max(min(chain + 1, kinds), 2 ** min(depth or 1, len(values))), min(upper, kinds)
    return VcDimension(
        lower=lower, upper=upper, lower_theorem=leaves,
        upper_theorem=Message("theorem.tree_growth", "growth function of trees: shapes, cuts and leaves counted"),
    )  # fmt: skip


def vc_threshold_network(weights: int, units: int) -> VcDimension:
    """Feed-forward networks of ``units`` linear threshold units with ``weights`` weights and thresholds in all.

    Pi(m) <= (e m units / weights)^weights for m >= weights, evaluated; below its closed form
    2 weights log2(2 units / ln 2). At least 1.

    >>> vc_threshold_network(100, 10).upper
    771
    """
    weights, units = whole("weights", weights), whole("units", units)
    if units > weights:
        raise ValueError(f"every unit has at least a threshold, got {units} units with {weights} weights in all")

    def log_growth(m: int) -> float:
        return m * math.log(2) if m < weights else weights * (1 + math.log(m * units / weights))

    theorem = Message("theorem.baum_haussler", "threshold network, growth function (Baum, Haussler)")
    one = Message("theorem.one_unit", "one unit of the network")
    return VcDimension(lower=1, upper=largest_shattered(log_growth), lower_theorem=one, upper_theorem=theorem)


def vc_sigmoid_network(weights: int, units: int) -> VcDimension:
    """Feed-forward networks with ``units`` sigmoid units: at most (W k)^2 + 11 W k log2(18 W k^2).

    Anthony, Bartlett (1999), theorem 8.13, after Karpinski and Macintyre: W weights, k units, a linear output unit.

    >>> vc_sigmoid_network(10, 3).upper
    4418
    """
    w, k = whole("weights", weights), whole("units", units)
    theorem = Message("theorem.karpinski_macintyre", "sigmoid network (Karpinski, Macintyre)")
    upper = math.floor((w * k) ** 2 + 11 * w * k * math.log2(18 * w * k**2))
    return VcDimension(
        lower=1, upper=upper, upper_theorem=theorem,
        lower_theorem=Message("theorem.one_unit", "one unit of the network"),
    )  # fmt: skip


def largest_shattered(log_growth: LogGrowth) -> int:
    """Largest m with ``log_growth(m) >= m ln 2``; the growth falls behind once and for all.

    Raises
    ------
    ValueError
        When it has not fallen behind at 2**500 points.
    """

    def allowed(m: int) -> bool:
        return log_growth(m) >= m * math.log(2) * (1 - 1e-12)

    high = 1
    while allowed(high):
        high *= 2
        if high > LARGEST:
            raise ValueError("the growth function allows more than 2**500 points to be labelled in all ways")
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if allowed(middle) else (low, middle)
    return low
