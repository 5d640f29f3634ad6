"""How far can results on known data be trusted on new data?

Certificates say so with a stated probability: `holdout_bound` from untouched examples (the headline), `occam_bound`
from the training examples alone, `pac_bayes_kl` from a posterior. `samples` decides what is counted, nobody else does.

Names are loaded when they are first used (PEP 562): bounds that are functions of numbers need no torch, and
``theorylens sample-size`` must start without it. A new name goes into three lists: imports, `_HOMES`, ``__all__``.
Over 300 lines because it lists every name of the chapter three times; there is nothing else in it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from theorylens.core import Probe
    from theorylens.numerics.binomial import clopper_pearson, clopper_pearson_interval
    from theorylens.numerics.concentration import bennett, bernstein, chernoff_kl, dkw, empirical_bernstein, hoeffding
    from theorylens.numerics.differences import (
        azuma,
        azuma_deviation,
        bounded_differences,
        efron_stein,
        mcdiarmid,
        mcdiarmid_deviation,
    )
    from theorylens.numerics.relative_entropy import kl, kl_inverse
    from theorylens.numerics.sequences import ConfidenceSequence, confidence_sequence, mixture_radius, stitched_radius

    from ._abstention import probe_abstention
    from ._answers import Answers, answers
    from ._benign_overfitting import BenignOverfitting, benign_overfitting, covariance_eigenvalues, effective_ranks
    from ._bias_variance import BiasVariance, VoteDecomposition, bias_variance, retrained_outputs, vote_decomposition
    from ._block_bootstrap import BlockBootstrap, block_bootstrap, block_length
    from ._bounded_mean import bounded_mean
    from ._calibration import (
        BrierParts,
        Reliability,
        brier_parts,
        calibration_p,
        reliability,
        squared_calibration_error,
    )
    from ._calibration_probe import probe_calibration
    from ._capacity_probe import architecture_dimension, probe_capacity
    from ._certify import Certified, Way, certify
    from ._code_length import code_length
    from ._compressed import Compressed, certify_compressed
    from ._conformal import conformal_sets, conformal_threshold
    from ._conformal_probe import probe_conformal
    from ._covering import (
        EmpiricalCover,
        ball_covering,
        ball_packing,
        covering_bound,
        empirical_cover,
        linear_covering,
        spectral_covering,
    )
    from ._degrees_of_freedom import degrees_of_freedom
    from ._dudley import Dudley, dudley, entropy_integral
    from ._effective_parameters import (
        EffectiveParameters,
        effective_parameters,
        evidence_precision,
        ggn_eigenvalues,
        output_curvature,
    )
    from ._ensemble import Ensemble, Voted, certify_ensemble
    from ._excess import excess_bound, split_kl
    from ._fat_risk import fat_covering, fat_shattering_bound
    from ._fat_shattering import FatShattering, fat_shattered, fat_shattering, largest_shattered
    from ._finite_class import affordable_bits, occam_bound, probe_weight_bits, weight_bits
    from ._gap import probe_gap
    from ._gaussian_kl import gaussian_kl, multivariate_gaussian_kl
    from ._gaussian_posterior import GaussianPosterior
    from ._gibbs_risk import GibbsRisk, gibbs_risk
    from ._groups import GroupBounds, group_bounds
    from ._groups_probe import probe_worst_group
    from ._growth import cover_count, log_sauer_shelah, sauer_shelah
    from ._holdout import HoldoutBound, Sample, holdout_bound, one_bound, samples
    from ._holdout_size import holdout_size, holdout_sizes
    from ._holdout_theorems import probe_chernoff_kl
    from ._information import (
        InformationGap,
        cmi_bound,
        conditional_mutual_information,
        information_gap,
        pair_information,
        xu_raginsky,
    )
    from ._learning_coefficient import LearningCoefficient, local_learning_coefficient
    from ._learning_facts import PerceptronRun, no_free_lunch, perceptron, progressive_validation
    from ._least_squares import least_squares_risk, optimal_penalty, ridge_risk, ridgeless_risk
    from ._least_squares_descent import (
        least_squares_descent,
        minimum_norm,
        random_features_descent,
        sphere_features_descent,
    )
    from ._leave_one_out import neighbours_bound, neighbours_leave_one_out, ridge_leave_one_out
    from ._local_complexity import LocalKernelBall, fixed_point
    from ._margin_bound import MarginBound, margin_bound, margin_gap, margin_loss, margins
    from ._margins_probe import normalised_margins, probe_margins
    from ._measure_study import MeasureStudy, measure_study
    from ._measured_stability import MeasuredStability, measured_stability
    from ._measures import generalization_measures
    from ._network_growth import NetworkGrowth, feature_rank, network_growth, piecewise_linear_growth, vc_dimension
    from ._norm_margin import NormMarginBound, golowich, norm_margin_bound
    from ._norms import (
        SpectralComplexity,
        operator_norm,
        spectral_complexity,
        squared_path_norm,
        stable_rank,
        weight_matrices,
    )
    from ._norms_probe import probe_norms
    from ._pac import PacCertificate, pac_certificate
    from ._pac_bayes import pac_bayes_kl, xi
    from ._pac_bayes_bernstein import BernsteinBound, pac_bayes_empirical_bernstein, variance_bound
    from ._pac_bayes_forms import (
        best_trade_off,
        pac_bayes_catoni,
        pac_bayes_disintegrated,
        pac_bayes_lambda,
        pac_bayes_mcallester,
        pac_bayes_quadratic,
    )
    from ._pac_experiment import PacLearningCurve, failure_rate, pac_learning_curve, sample_size_curve
    from ._paired import Paired, mcnemar, paired_comparison
    from ._parameters_probe import probe_effective_parameters
    from ._posterior_training import PosteriorTraining
    from ._power_law import PowerLaw, power_law
    from ._private_prior import pac_bayes_private, privacy_price
    from ._progressive import Progressive, ProgressiveRun, best_scale, certify_progressive, progressive_bound
    from ._rademacher import Searched, gaussian_complexity, rademacher, rademacher_bound
    from ._random_features import random_features_risk
    from ._random_labels import RandomLabelStudy, random_label_study
    from ._rank_statistics import Ranking, rank_correlation, rank_statistics
    from ._rank_study import RankStudy, rank_study
    from ._recursive import RecursiveBound, RecursiveStep, pac_bayes_recursive
    from ._recursive_relative import Recursion, Recursive, certify_recursive
    from ._relative import LearntPrior, Relative, certify_relative
    from ._risk_control import binomial_p_value, conformal_risk, learn_then_test, risk_p_value
    from ._risk_curve import RiskCurve
    from ._rivals import probe_rivals
    from ._sample_complexity import (
        SampleSize,
        attainable_delta,
        attainable_error,
        ehrenfeucht_lower_bound,
        sample_complexity,
        sample_size_lines,
        sample_size_table,
        sample_sizes,
    )
    from ._selective import Selective, selective_error
    from ._sharpness_bound import SharpnessBound, sharpness_bound
    from ._shattering import Fitted, Halfspaces, ShatteredSet, Shattering, find_shattered, shatters, vc_of_labellings
    from ._spectral_margin import SpectralMarginBound, spectral_margin_bound, tolerated_margin
    from ._stability import regularised_stability, ridge_stability, stability_bound, svm_stability
    from ._subspace import Subspace
    from ._suprema import FiniteClass, FunctionClass, KernelBall, L1Ball, L2Ball, Stumps, massart
    from ._tandem import first_order_bound, plurality, tandem_bound, tandem_losses, tandem_weights, weights_divergence
    from ._temperature import temperature
    from ._test_error import probe_test_error
    from ._tolerated_noise import tolerated_noise, tolerated_perturbation
    from ._uniform_convergence import uniform_convergence, uniform_convergence_necessary
    from ._vc_dimension import VcDimension, vc_linear, vc_sigmoid_network, vc_stump, vc_threshold_network, vc_tree
    from ._vc_gap import VcBound, growth_gap, relative_vc_bound, vc_bound, vc_gap
    from ._weight_spectrum import LayerSpectrum, weight_spectrum
    from ._weight_spectrum_probe import probe_weight_spectrum
    from ._width_descent import DoubleDescent, double_descent, sample_descent

    PROBES: tuple[Probe, ...]

_HOMES = {
    "theorylens.numerics.binomial": ("clopper_pearson", "clopper_pearson_interval"),
    "theorylens.numerics.concentration": (
        "bennett",
        "bernstein",
        "chernoff_kl",
        "dkw",
        "empirical_bernstein",
        "hoeffding",
    ),
    "theorylens.numerics.differences": (
        "azuma",
        "azuma_deviation",
        "bounded_differences",
        "efron_stein",
        "mcdiarmid",
        "mcdiarmid_deviation",
    ),
    "theorylens.numerics.relative_entropy": ("kl", "kl_inverse"),
    "theorylens.numerics.sequences": ("ConfidenceSequence", "confidence_sequence", "mixture_radius", "stitched_radius"),
    "._answers": ("Answers", "answers"),
    "._benign_overfitting": ("BenignOverfitting", "benign_overfitting", "covariance_eigenvalues", "effective_ranks"),
    "._bias_variance": (
        "BiasVariance",
        "VoteDecomposition",
        "bias_variance",
        "retrained_outputs",
        "vote_decomposition",
    ),
    "._bounded_mean": ("bounded_mean",),
    "._covering": (
        "EmpiricalCover",
        "ball_covering",
        "ball_packing",
        "covering_bound",
        "empirical_cover",
        "linear_covering",
        "spectral_covering",
    ),
    "._degrees_of_freedom": ("degrees_of_freedom",),
    "._dudley": ("Dudley", "dudley", "entropy_integral"),
    "._effective_parameters": (
        "EffectiveParameters",
        "effective_parameters",
        "evidence_precision",
        "ggn_eigenvalues",
        "output_curvature",
    ),
    "._fat_shattering": ("FatShattering", "fat_shattered", "fat_shattering", "largest_shattered"),
    "._finite_class": ("affordable_bits", "occam_bound", "probe_weight_bits", "weight_bits"),
    "._gap": ("probe_gap",),
    "._gaussian_kl": ("gaussian_kl", "multivariate_gaussian_kl"),
    "._holdout": ("HoldoutBound", "Sample", "holdout_bound", "one_bound", "samples"),
    "._holdout_theorems": ("probe_chernoff_kl",),
    "._learning_coefficient": ("LearningCoefficient", "local_learning_coefficient"),
    "._least_squares": ("least_squares_risk", "optimal_penalty", "ridge_risk", "ridgeless_risk"),
    "._least_squares_descent": (
        "least_squares_descent",
        "minimum_norm",
        "random_features_descent",
        "sphere_features_descent",
    ),
    "._measures": ("generalization_measures",),
    "._measure_study": ("MeasureStudy", "measure_study"),
    "._norms": (
        "SpectralComplexity",
        "operator_norm",
        "spectral_complexity",
        "squared_path_norm",
        "stable_rank",
        "weight_matrices",
    ),
    "._norms_probe": ("probe_norms",),
    "._pac_bayes": ("pac_bayes_kl", "xi"),
    "._pac_bayes_bernstein": ("BernsteinBound", "pac_bayes_empirical_bernstein", "variance_bound"),
    "._pac_bayes_forms": (
        "best_trade_off",
        "pac_bayes_catoni",
        "pac_bayes_disintegrated",
        "pac_bayes_lambda",
        "pac_bayes_mcallester",
        "pac_bayes_quadratic",
    ),
    "._parameters_probe": ("probe_effective_parameters",),
    "._risk_curve": ("RiskCurve",),
    "._test_error": ("probe_test_error",),
    "._growth": ("cover_count", "log_sauer_shelah", "sauer_shelah"),
    "._uniform_convergence": ("uniform_convergence", "uniform_convergence_necessary"),
    "._vc_gap": ("VcBound", "growth_gap", "relative_vc_bound", "vc_bound", "vc_gap"),
    "._pac": ("PacCertificate", "pac_certificate"),
    "._pac_experiment": ("PacLearningCurve", "failure_rate", "pac_learning_curve", "sample_size_curve"),
    "._certify": ("Certified", "Way", "certify"),
    "._relative": ("LearntPrior", "Relative", "certify_relative"),
    "._gaussian_posterior": ("GaussianPosterior",),
    "._gibbs_risk": ("GibbsRisk", "gibbs_risk"),
    "._posterior_training": ("PosteriorTraining",),
    "._holdout_size": ("holdout_size", "holdout_sizes"),
    "._sample_complexity": (
        "SampleSize",
        "attainable_delta",
        "attainable_error",
        "ehrenfeucht_lower_bound",
        "sample_complexity",
        "sample_size_lines",
        "sample_size_table",
        "sample_sizes",
    ),
    "._suprema": ("FiniteClass", "FunctionClass", "KernelBall", "L1Ball", "L2Ball", "Stumps", "massart"),
    "._rademacher": ("Searched", "gaussian_complexity", "rademacher", "rademacher_bound"),
    "._margin_bound": ("MarginBound", "margin_bound", "margin_gap", "margin_loss", "margins"),
    "._calibration": (
        "BrierParts",
        "Reliability",
        "brier_parts",
        "calibration_p",
        "reliability",
        "squared_calibration_error",
    ),
    "._temperature": ("temperature",),
    "._calibration_probe": ("probe_calibration",),
    "._vc_dimension": ("VcDimension", "vc_linear", "vc_sigmoid_network", "vc_stump", "vc_threshold_network", "vc_tree"),
    "._network_growth": ("NetworkGrowth", "feature_rank", "network_growth", "piecewise_linear_growth", "vc_dimension"),
    "._shattering": (
        "Fitted",
        "Halfspaces",
        "ShatteredSet",
        "Shattering",
        "find_shattered",
        "shatters",
        "vc_of_labellings",
    ),
    "._margins_probe": ("normalised_margins", "probe_margins"),
    "._paired": (
        "Paired",
        "mcnemar",
        "paired_comparison",
    ),
    "._rivals": ("probe_rivals",),
    "._selective": (
        "Selective",
        "selective_error",
    ),
    "._abstention": ("probe_abstention",),
    "._conformal": (
        "conformal_sets",
        "conformal_threshold",
    ),
    "._conformal_probe": ("probe_conformal",),
    "._width_descent": ("DoubleDescent", "double_descent", "sample_descent"),
    "._local_complexity": ("LocalKernelBall", "fixed_point"),
    "._learning_facts": ("PerceptronRun", "no_free_lunch", "perceptron", "progressive_validation"),
    "._norm_margin": ("NormMarginBound", "golowich", "norm_margin_bound"),
    "._compressed": (
        "Compressed",
        "certify_compressed",
    ),
    "._code_length": ("code_length",),
    "._subspace": ("Subspace",),
    "._capacity_probe": ("architecture_dimension", "probe_capacity"),
    "._groups": (
        "GroupBounds",
        "group_bounds",
    ),
    "._groups_probe": ("probe_worst_group",),
    "._excess": (
        "excess_bound",
        "split_kl",
    ),
    "._recursive": (
        "RecursiveBound",
        "RecursiveStep",
        "pac_bayes_recursive",
    ),
    "._recursive_relative": (
        "Recursion",
        "Recursive",
        "certify_recursive",
    ),
    "._progressive": (
        "Progressive",
        "ProgressiveRun",
        "best_scale",
        "certify_progressive",
        "progressive_bound",
    ),
    "._tandem": (
        "first_order_bound",
        "plurality",
        "tandem_bound",
        "tandem_losses",
        "tandem_weights",
        "weights_divergence",
    ),
    "._ensemble": (
        "Ensemble",
        "Voted",
        "certify_ensemble",
    ),
    "._rank_statistics": (
        "Ranking",
        "rank_correlation",
        "rank_statistics",
    ),
    "._rank_study": (
        "RankStudy",
        "rank_study",
    ),
    "._tolerated_noise": (
        "tolerated_noise",
        "tolerated_perturbation",
    ),
    "._power_law": (
        "PowerLaw",
        "power_law",
    ),
    "._weight_spectrum": (
        "LayerSpectrum",
        "weight_spectrum",
    ),
    "._block_bootstrap": (
        "BlockBootstrap",
        "block_bootstrap",
        "block_length",
    ),
    "._fat_risk": (
        "fat_covering",
        "fat_shattering_bound",
    ),
    "._random_features": ("random_features_risk",),
    "._random_labels": (
        "RandomLabelStudy",
        "random_label_study",
    ),
    "._stability": (
        "stability_bound",
        "regularised_stability",
        "svm_stability",
        "ridge_stability",
    ),
    "._leave_one_out": (
        "ridge_leave_one_out",
        "neighbours_leave_one_out",
        "neighbours_bound",
    ),
    "._measured_stability": (
        "MeasuredStability",
        "measured_stability",
    ),
    "._weight_spectrum_probe": ("probe_weight_spectrum",),
    "._risk_control": (
        "conformal_risk",
        "risk_p_value",
        "binomial_p_value",
        "learn_then_test",
    ),
    "._information": (
        "InformationGap",
        "cmi_bound",
        "conditional_mutual_information",
        "information_gap",
        "pair_information",
        "xu_raginsky",
    ),
    "._private_prior": (
        "pac_bayes_private",
        "privacy_price",
    ),
    "._sharpness_bound": (
        "SharpnessBound",
        "sharpness_bound",
    ),
    "._spectral_margin": (
        "SpectralMarginBound",
        "spectral_margin_bound",
        "tolerated_margin",
    ),
}
_MODULE = {name: module for module, names in _HOMES.items() for name in names}
_PROBES = (
    "probe_test_error",
    "probe_worst_group",
    "probe_calibration",
    "probe_abstention",
    "probe_conformal",
    "probe_rivals",
    "probe_chernoff_kl",
    "probe_weight_bits",
    "probe_gap",
    "probe_effective_parameters",
    "probe_norms",
    "probe_weight_spectrum",
    "probe_capacity",
    "probe_margins",
)

__all__ = [
    "Answers", "BenignOverfitting", "BernsteinBound", "BiasVariance", "BlockBootstrap", "BrierParts", "Certified",
    "Compressed", "ConfidenceSequence", "DoubleDescent", "Dudley", "EffectiveParameters", "EmpiricalCover", "Ensemble",
    "FatShattering", "FiniteClass", "Fitted", "FunctionClass", "GaussianPosterior", "GibbsRisk", "GroupBounds",
    "Halfspaces", "HoldoutBound", "InformationGap", "KernelBall", "L1Ball", "L2Ball", "LayerSpectrum",
    "LearningCoefficient", "LearntPrior", "LocalKernelBall", "MarginBound", "MeasureStudy", "MeasuredStability",
    "NetworkGrowth", "NormMarginBound", "PROBES", "PacCertificate", "PacLearningCurve", "Paired", "PerceptronRun",
    "PosteriorTraining", "PowerLaw", "Progressive", "ProgressiveRun", "RandomLabelStudy", "RankStudy", "Ranking",
    "Recursion", "Recursive", "RecursiveBound", "RecursiveStep", "Relative", "Reliability", "RiskCurve", "Sample",
    "SampleSize", "Searched", "Selective", "SharpnessBound", "ShatteredSet", "Shattering", "SpectralComplexity",
    "SpectralMarginBound", "Stumps", "Subspace", "VcBound", "VcDimension", "VoteDecomposition", "Voted", "Way",
    "affordable_bits", "answers", "architecture_dimension", "attainable_delta", "attainable_error", "azuma",
    "azuma_deviation", "ball_covering", "ball_packing", "benign_overfitting", "bennett", "bernstein", "best_scale",
    "best_trade_off", "bias_variance", "binomial_p_value", "block_bootstrap", "block_length", "bounded_differences",
    "bounded_mean", "brier_parts", "calibration_p", "certify", "certify_compressed", "certify_ensemble",
    "certify_progressive", "certify_recursive", "certify_relative", "chernoff_kl", "clopper_pearson",
    "clopper_pearson_interval", "cmi_bound", "code_length", "conditional_mutual_information", "confidence_sequence",
    "conformal_risk", "conformal_sets", "conformal_threshold", "covariance_eigenvalues", "cover_count",
    "covering_bound", "degrees_of_freedom", "dkw", "double_descent", "dudley", "effective_parameters",
    "effective_ranks", "efron_stein", "ehrenfeucht_lower_bound", "empirical_bernstein", "empirical_cover",
    "entropy_integral", "evidence_precision", "excess_bound", "failure_rate", "fat_covering", "fat_shattered",
    "fat_shattering", "fat_shattering_bound", "feature_rank", "find_shattered", "first_order_bound", "fixed_point",
    "gaussian_complexity", "gaussian_kl", "generalization_measures", "ggn_eigenvalues", "gibbs_risk", "golowich",
    "group_bounds", "growth_gap", "hoeffding", "holdout_bound", "holdout_size", "holdout_sizes", "information_gap",
    "kl", "kl_inverse", "largest_shattered", "learn_then_test", "least_squares_descent", "least_squares_risk",
    "linear_covering", "local_learning_coefficient", "log_sauer_shelah", "margin_bound", "margin_gap", "margin_loss",
    "margins", "massart", "mcdiarmid", "mcdiarmid_deviation", "mcnemar", "measure_study", "measured_stability",
    "minimum_norm", "mixture_radius", "multivariate_gaussian_kl", "neighbours_bound", "neighbours_leave_one_out",
    "network_growth", "no_free_lunch", "norm_margin_bound", "normalised_margins", "occam_bound", "one_bound",
    "operator_norm", "optimal_penalty", "output_curvature", "pac_bayes_catoni", "pac_bayes_disintegrated",
    "pac_bayes_empirical_bernstein", "pac_bayes_kl", "pac_bayes_lambda", "pac_bayes_mcallester", "pac_bayes_private",
    "pac_bayes_quadratic", "pac_bayes_recursive", "pac_certificate", "pac_learning_curve", "pair_information",
    "paired_comparison", "perceptron", "piecewise_linear_growth", "plurality", "power_law", "privacy_price",
    "probe_abstention", "probe_calibration", "probe_capacity", "probe_chernoff_kl", "probe_conformal",
    "probe_effective_parameters", "probe_gap", "probe_margins", "probe_norms", "probe_rivals", "probe_test_error",
    "probe_weight_bits", "probe_weight_spectrum", "probe_worst_group", "progressive_bound", "progressive_validation",
    "rademacher", "rademacher_bound", "random_features_descent", "random_features_risk", "random_label_study",
    "rank_correlation", "rank_statistics", "rank_study", "regularised_stability", "relative_vc_bound", "reliability",
    "retrained_outputs", "ridge_leave_one_out", "ridge_risk", "ridge_stability", "ridgeless_risk", "risk_p_value",
    "sample_complexity", "sample_descent", "sample_size_curve", "sample_size_lines", "sample_size_table",
    "sample_sizes", "samples", "sauer_shelah", "selective_error", "sharpness_bound", "shatters", "spectral_complexity",
    "spectral_covering", "spectral_margin_bound", "sphere_features_descent", "split_kl", "squared_calibration_error",
    "squared_path_norm", "stability_bound", "stable_rank", "stitched_radius", "svm_stability", "tandem_bound",
    "tandem_losses", "tandem_weights", "temperature", "tolerated_margin", "tolerated_noise", "tolerated_perturbation",
    "uniform_convergence", "uniform_convergence_necessary", "variance_bound", "vc_bound", "vc_dimension", "vc_gap",
    "vc_linear", "vc_of_labellings", "vc_sigmoid_network", "vc_stump", "vc_threshold_network", "vc_tree",
    "vote_decomposition", "weight_bits", "weight_matrices", "weight_spectrum", "weights_divergence", "xi",
    "xu_raginsky",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "PROBES":
        value: Any = tuple(__getattr__(each) for each in _PROBES)
    elif name in _MODULE:
        value = getattr(importlib.import_module(_MODULE[name], __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
