"""Landscape: what is the shape of the loss around the solution?

Design: everything rests on exact Hessian-vector products over a fixed set of rows. Each eigenvalue comes with the
residual that bounds its error, and each number of a trained network with the same number before training. A network is
never moved: the loss elsewhere is that of a copy.
"""

from theorylens.numerics.bulk import BulkFit
from theorylens.numerics.random_matrix import goe_all_positive, goe_exponent, marchenko_pastur_edges

from ._accelerated_gd import AcceleratedMove, AcceleratedPerturbedGD, accelerated_noise
from ._alignment import Alignment, align
from ._average_probe import probe_averaged_checkpoints
from ._averaging import average_weights, averaged_model, averaging, update_statistics
from ._blocks import LayerCurvature, layer_curvature
from ._bulk import bulk_fit
from ._connect import Connection, connect
from ._critical import probe_critical_point
from ._cubic_newton import CubicNewton, NewtonEvent, SaddleFreeNewton
from ._cubic_step import CubicStep, cubic_step
from ._curvature import Eigenvalues, Ends, both_ends, eigenvalues, hessian_eigenvalues
from ._density import SpectralDensity, operator_density, spectral_density
from ._diagonal import Diagonal, diagonal, frobenius_norm
from ._directions import curvature_directions, random_direction
from ._displaced import Displaced
from ._escape_direction import EscapeDirection, StrictSaddle, downward_direction, escape_direction, strict_saddle
from ._escape_run import EscapeRun, escape_time, noise_along
from ._escape_time import (
    flow_escape_time,
    gd_escape_steps,
    mean_exit_time,
    noisy_gd_escape_steps,
    perturbed_gd_escape_steps,
    small_noise_exit_time,
)
from ._exact_trace import gauss_newton_trace
from ._expected_sharpness import expected_sharpness
from ._find_critical import CriticalPointSearch, Found, find_critical_point
from ._fisher import MonteCarloFisher, fisher
from ._flatness import CurvatureSummary, curvature_summary
from ._gauss_newton import EmpiricalFisher, GaussNewton, ggn, hessian
from ._line_probe import probe_linear_path
from ._negative_curvature import CurvatureMove, NegativeCurvature
from ._noisy_gd import NoisyGD
from ._octopus import octopus
from ._outermost import probe_eigenvalues
from ._paths import Path, barrier, linear_path
from ._perturbed_gd import Perturbation, PerturbedGD, Thresholds, perturbed_gd_thresholds
from ._piecewise import PiecewiseLinear, piecewise_linear
from ._random_fields import p_spin_complexity, p_spin_count, p_spin_index_share, p_spin_threshold
from ._recursive_gd import SSRGD, ssrgd_thresholds
from ._relative_flatness import relative_flatness
from ._rescaling import Invariance, Rescaling, invariance, rescaled
from ._sam import ASAM, SAM
from ._sam_family import GSAM, USAM, FisherSAM, LookSAM
from ._second_order import SecondOrderTest, is_second_order_stationary, is_strict_saddle, second_order_test
from ._shards import fisher_rao_norm, m_sharpness
from ._sharpness import SHARPNESS_KINDS, SharpnessKind, rescaling_table, sharpness
from ._sharpness_probe import probe_expected_sharpness
from ._signs import Signs
from ._slices import Slice, Surface, slice_1d, slice_2d
from ._soups import LatestWeights, Soup, greedy_soup, uniform_soup
from ._spectrum_probe import probe_spectral_density
from ._spectrum_split import SpectrumSplit, spectrum_split
from ._stability import StepRule, adam_stability_limit, stability_limit, step_rule
from ._stationarity import CriticalPoint, Place, classify, critical_point
from ._surroundings_probe import probe_surroundings
from ._swag import SWAG
from ._symmetries import symmetry_directions
from ._tolerated_radius import pac_bayes_sharpness, tolerated_radius
from ._trace import hessian_trace, trace
from ._trace_probe import probe_trace
from ._trace_split import TraceSplit, trace_split
from ._tracking import SharpnessTracker
from ._trajectory import TrajectoryPlane, trajectory_plane
from ._trust_region import TrustEvent, TrustRegionNewton
from ._unit_flow import UnitAxis
from ._unit_groups import UnitGroup, unit_groups
from ._worst_case import WorstCase, keskar_sharpness, worst_case_sharpness

PROBES = (
    probe_eigenvalues, probe_trace, probe_critical_point, probe_spectral_density, probe_expected_sharpness,
    probe_linear_path, probe_averaged_checkpoints, probe_surroundings,
)  # fmt: skip

__all__ = [
    "ASAM", "GSAM", "PROBES", "SAM", "SHARPNESS_KINDS", "SSRGD", "SWAG", "USAM", "AcceleratedMove",
    "AcceleratedPerturbedGD", "Alignment", "BulkFit", "Connection", "CriticalPoint", "CriticalPointSearch",
    "CubicNewton", "CubicStep", "CurvatureMove", "CurvatureSummary", "Diagonal", "Displaced", "Eigenvalues",
    "EmpiricalFisher", "Ends", "EscapeDirection", "EscapeRun", "FisherSAM", "Found", "GaussNewton", "Invariance",
    "LatestWeights", "LayerCurvature", "LookSAM", "MonteCarloFisher", "NegativeCurvature", "NewtonEvent", "NoisyGD",
    "Path", "Perturbation", "PerturbedGD", "PiecewiseLinear", "Place", "Rescaling", "SaddleFreeNewton",
    "SecondOrderTest", "SharpnessKind", "SharpnessTracker", "Signs", "Slice", "Soup", "SpectralDensity",
    "SpectrumSplit", "StepRule", "StrictSaddle", "Surface", "Thresholds", "TraceSplit", "TrajectoryPlane",
    "TrustEvent", "TrustRegionNewton", "UnitAxis", "UnitGroup", "WorstCase", "accelerated_noise",
    "adam_stability_limit", "align", "average_weights", "averaged_model", "averaging", "barrier", "both_ends",
    "bulk_fit", "classify", "connect", "critical_point", "cubic_step", "curvature_directions", "curvature_summary",
    "diagonal", "downward_direction", "eigenvalues", "escape_direction", "escape_time", "expected_sharpness",
    "find_critical_point", "fisher", "fisher_rao_norm", "flow_escape_time", "frobenius_norm", "gauss_newton_trace",
    "gd_escape_steps", "ggn", "goe_all_positive", "goe_exponent", "greedy_soup", "hessian", "hessian_eigenvalues",
    "hessian_trace", "invariance", "is_second_order_stationary", "is_strict_saddle", "keskar_sharpness",
    "layer_curvature", "linear_path", "m_sharpness", "marchenko_pastur_edges", "mean_exit_time", "noise_along",
    "noisy_gd_escape_steps", "octopus", "operator_density", "p_spin_complexity", "p_spin_count", "p_spin_index_share",
    "p_spin_threshold", "pac_bayes_sharpness", "perturbed_gd_escape_steps", "perturbed_gd_thresholds",
    "piecewise_linear", "probe_averaged_checkpoints", "probe_critical_point", "probe_eigenvalues",
    "probe_expected_sharpness", "probe_linear_path", "probe_spectral_density", "probe_surroundings", "probe_trace",
    "random_direction", "relative_flatness", "rescaled", "rescaling_table", "second_order_test", "sharpness",
    "slice_1d", "slice_2d", "small_noise_exit_time", "spectral_density", "spectrum_split", "ssrgd_thresholds",
    "stability_limit", "step_rule", "strict_saddle", "symmetry_directions", "tolerated_radius", "trace", "trace_split",
    "trajectory_plane", "uniform_soup", "unit_groups", "update_statistics", "worst_case_sharpness",
]  # fmt: skip
