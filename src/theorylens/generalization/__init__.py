"""How far can results on known data be trusted on new data?

Certificates say so with a stated probability: `holdout_bound` from untouched examples (the headline), `occam_bound`
from the training examples alone, `pac_bayes_kl` from a posterior. `samples` decides what is counted, nobody else does.
"""

from theorylens.numerics.binomial import clopper_pearson, clopper_pearson_interval
from theorylens.numerics.concentration import hoeffding
from theorylens.numerics.relative_entropy import kl, kl_inverse

from ._answers import Answers, answers
from ._finite_class import affordable_bits, occam_bound, probe_weight_bits, weight_bits
from ._gap import probe_gap
from ._holdout import HoldoutBound, Sample, holdout_bound, one_bound, samples
from ._holdout_theorems import probe_chernoff_kl
from ._pac_bayes import pac_bayes_kl, xi
from ._test_error import probe_test_error

PROBES = (probe_test_error, probe_chernoff_kl, probe_weight_bits, probe_gap)

__all__ = [
    "PROBES", "Answers", "HoldoutBound", "Sample", "affordable_bits", "answers", "clopper_pearson",
    "clopper_pearson_interval", "hoeffding", "holdout_bound", "kl", "kl_inverse", "occam_bound", "one_bound",
    "pac_bayes_kl", "probe_chernoff_kl", "probe_gap", "probe_test_error", "probe_weight_bits", "samples", "weight_bits",
    "xi",
]  # fmt: skip
