"""Subjects whose answers are known: for tests, documentation, and anybody who wants to see a measure be right.

Each function returns a small frozen record: a `Subject` ready for any probe, and the numbers that theory gives for it.
"""

from ._classifiers import BernoulliClassifier, GaussianBlobs, bernoulli_classifier, gaussian_blobs
from ._no_bad_minima import NoBadMinima, linear_network, matrix_factorisation, phase_retrieval
from ._quadratics import LinearRegression, Quadratic, linear_regression, quadratic

__all__ = [
    "BernoulliClassifier", "GaussianBlobs", "LinearRegression", "NoBadMinima", "Quadratic", "bernoulli_classifier",
    "gaussian_blobs", "linear_network", "linear_regression", "matrix_factorisation", "phase_retrieval", "quadratic",
]  # fmt: skip
