"""How far can results on known data be trusted on new data?

Certificates say so with a stated probability: `holdout_bound` from untouched examples (the headline), `occam_bound`
from the training examples alone, `pac_bayes_kl` from a posterior. `samples` decides what is counted, nobody else does.

Names are loaded when they are first used (PEP 562): bounds that are functions of numbers need no torch, and
``theorylens sample-size`` must start without it. A new name goes, as everywhere, into the imports and ``__all__``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from theorylens._first_use import load

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
    from theorylens.numerics.label_margins import margins
    from theorylens.numerics.relative_entropy import kl, kl_inverse
    from theorylens.numerics.sequences import ConfidenceSequence, confidence_sequence, mixture_radius, stitched_radius
    from theorylens.representation import covariance_eigenvalues

    from ._abstention import probe_abstention
    from ._answers import Answers, answers
    from ._benign_overfitting import BenignOverfitting, benign_overfitting, effective_ranks
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
    from ._conditional_information import conditional_information
    from ._conformal import conformal_sets, conformal_threshold
    from ._conformal_probe import probe_conformal
    from ._covering import (
        EmpiricalCover,
        ball_covering,
        ball_packing,
        covering_bound,
        covering_tail,
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
    from ._layer_norms import operator_norm
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
    from ._margin_bound import MarginBound, margin_bound, margin_gap, margin_loss
    from ._margins_probe import normalised_margins, probe_margins
    from ._measure_study import MeasureStudy, measure_study
    from ._measured_stability import MeasuredStability, measured_stability
    from ._measures import generalization_measures
    from ._network_growth import NetworkGrowth, feature_rank, network_growth, piecewise_linear_growth, vc_dimension
    from ._norm_margin import NormMarginBound, golowich, norm_margin_bound, path_complexity
    from ._norms import SpectralComplexity, spectral_complexity, squared_path_norm
    from ._norms_probe import probe_norms
    from ._other_dimensions import natarajan_linear, natarajan_of_labellings, pseudo_dimension
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
    from ._progressive import (
        Progressive,
        ProgressiveRun,
        best_scale,
        certify_progressive,
        progressive_bound,
        scales_around,
    )
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
    from ._shattering import (
        Halfspaces,
        LearnerOracle,
        ShatteredSet,
        Shattering,
        find_shattered,
        shatters,
        vc_of_labellings,
    )
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
    from ._weight_matrices import stable_rank, weight_matrices
    from ._weight_spectrum import LayerSpectrum, weight_spectrum
    from ._weight_spectrum_probe import probe_weight_spectrum
    from ._width_descent import DoubleDescent, double_descent, sample_descent

    PROBES: tuple[Probe, ...]

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
    "FatShattering", "FiniteClass", "FunctionClass", "GaussianPosterior", "GibbsRisk", "GroupBounds", "Halfspaces",
    "HoldoutBound", "InformationGap", "KernelBall", "L1Ball", "L2Ball", "LayerSpectrum", "LearnerOracle",
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
    "clopper_pearson_interval", "cmi_bound", "code_length", "conditional_information",
    "conditional_mutual_information", "confidence_sequence", "conformal_risk", "conformal_sets", "conformal_threshold",
    "covariance_eigenvalues", "cover_count", "covering_bound", "covering_tail", "degrees_of_freedom", "dkw",
    "double_descent", "dudley", "effective_parameters", "effective_ranks", "efron_stein", "ehrenfeucht_lower_bound",
    "empirical_bernstein", "empirical_cover", "entropy_integral", "evidence_precision", "excess_bound", "failure_rate",
    "fat_covering", "fat_shattered", "fat_shattering", "fat_shattering_bound", "feature_rank", "find_shattered",
    "first_order_bound", "fixed_point", "gaussian_complexity", "gaussian_kl", "generalization_measures",
    "ggn_eigenvalues", "gibbs_risk", "golowich", "group_bounds", "growth_gap", "hoeffding", "holdout_bound",
    "holdout_size", "holdout_sizes", "information_gap", "kl", "kl_inverse", "largest_shattered", "learn_then_test",
    "least_squares_descent", "least_squares_risk", "linear_covering", "local_learning_coefficient", "log_sauer_shelah",
    "margin_bound", "margin_gap", "margin_loss", "margins", "massart", "mcdiarmid", "mcdiarmid_deviation", "mcnemar",
    "measure_study", "measured_stability", "minimum_norm", "mixture_radius", "multivariate_gaussian_kl",
    "natarajan_linear", "natarajan_of_labellings", "neighbours_bound", "neighbours_leave_one_out", "network_growth",
    "no_free_lunch", "norm_margin_bound", "normalised_margins", "occam_bound", "one_bound", "operator_norm",
    "optimal_penalty", "output_curvature", "pac_bayes_catoni", "pac_bayes_disintegrated",
    "pac_bayes_empirical_bernstein", "pac_bayes_kl", "pac_bayes_lambda", "pac_bayes_mcallester", "pac_bayes_private",
    "pac_bayes_quadratic", "pac_bayes_recursive", "pac_certificate", "pac_learning_curve", "pair_information",
    "paired_comparison", "path_complexity", "perceptron", "piecewise_linear_growth", "plurality", "power_law",
    "privacy_price", "probe_abstention", "probe_calibration", "probe_capacity", "probe_chernoff_kl", "probe_conformal",
    "probe_effective_parameters", "probe_gap", "probe_margins", "probe_norms", "probe_rivals", "probe_test_error",
    "probe_weight_bits", "probe_weight_spectrum", "probe_worst_group", "progressive_bound", "progressive_validation",
    "pseudo_dimension", "rademacher", "rademacher_bound", "random_features_descent", "random_features_risk",
    "random_label_study", "rank_correlation", "rank_statistics", "rank_study", "regularised_stability",
    "relative_vc_bound", "reliability", "retrained_outputs", "ridge_leave_one_out", "ridge_risk", "ridge_stability",
    "ridgeless_risk", "risk_p_value", "sample_complexity", "sample_descent", "sample_size_curve", "sample_size_lines",
    "sample_size_table", "sample_sizes", "samples", "sauer_shelah", "scales_around", "selective_error",
    "sharpness_bound", "shatters", "spectral_complexity", "spectral_covering", "spectral_margin_bound",
    "sphere_features_descent", "split_kl",
    "squared_calibration_error", "squared_path_norm", "stability_bound", "stable_rank", "stitched_radius",
    "svm_stability", "tandem_bound", "tandem_losses", "tandem_weights", "temperature", "tolerated_margin",
    "tolerated_noise", "tolerated_perturbation", "uniform_convergence", "uniform_convergence_necessary",
    "variance_bound", "vc_bound", "vc_dimension", "vc_gap", "vc_linear", "vc_of_labellings", "vc_sigmoid_network",
    "vc_stump", "vc_threshold_network", "vc_tree", "vote_decomposition", "weight_bits", "weight_matrices",
    "weight_spectrum", "weights_divergence", "xi", "xu_raginsky",
]  # fmt: skip

if not TYPE_CHECKING:  # a type checker that saw __getattr__ would let every misspelt name pass

    def __getattr__(name: str) -> Any:
        if name == "PROBES":
            return globals().setdefault("PROBES", tuple(load(__name__, each) for each in _PROBES))
        return load(__name__, name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
