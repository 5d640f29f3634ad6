"""Noise and what stands out of it: a Marchenko-Pastur law for the bulk of a Hessian's spectrum.

Method   the law with the bulk's first two moments (`numerics.fit_marchenko_pastur`); moments from Lanczos quadrature
Source   Marchenko, Pastur (1967), Math. USSR-Sbornik 1:457; Pennington, Bahri (2017), ICML (Gauss-Newton matrices as
         such products); Papyan (2019), ICML (as many outliers as classes less one)
Breaks   Hessians have negative eigenvalues and heavier tails than noise: the fit's distance says how far off the law is
"""

from __future__ import annotations

import numpy as np

from theorylens.numerics.bulk import BulkFit, fit_marchenko_pastur, fit_rests

from ._density import SpectralDensity


def bulk_fit(density: SpectralDensity) -> BulkFit:
    """The Marchenko-Pastur law closest to the bulk of ``density``, and how many eigenvalues lie beyond its edge.

    At most as many outliers are counted as there are eigenvalues in ``density.ends``; ask `spectral_density` for more
    of them (``k``) where all lie beyond. Compare the count with the number of classes less one where the fit's distance
    is small; of a Hessian it mostly is not, and ``density.outliers``, by the largest gap, says more.

    Raises
    ------
    ValueError
        The bulk has no positive spread.
    """
    if density.quadrature.exact:
        return fit_marchenko_pastur(density.quadrature.known)
    values = density.ends.top.values
    rules = [density.without(k) for k in range(len(values))]
    rests = [None if r is None else list(zip(r.nodes, r.weights, strict=True)) for r in rules]
    return fit_rests(np.asarray(values), rests, size=density.quadrature.size)
