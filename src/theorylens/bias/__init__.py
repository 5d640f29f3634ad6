"""Bias: what does the architecture assume, and do the data keep to what training assumed?

Design: architectures are measured, not looked up (shifts are made, windows followed through the real forward pass);
data are counted and compared exactly where that is possible, and tested with valid p-values where it is not.
"""

from theorylens.numerics.label_margins import margins

from ._adaptive import AdaptiveBias, AdaptiveState, NormBox, adaptive_optimizer_bias, adaptive_state, norm_box
from ._answer_shift import probe_answer_shift
from ._architecture_choice import ArchitectureChoice, select_architecture
from ._attention import (
    attention_distance,
    attention_entropy,
    attention_macs,
    collapsing_path,
    rank_one_residual,
    uniform_distance,
)
from ._attention_probe import entropy_share, probe_attention
from ._attention_weights import AttentionWeights, attention_weights
from ._boolean import (
    FunctionPrior,
    boolean_cube,
    degree_errors,
    degree_weights,
    fourier_coefficients,
    function_prior,
    lempel_ziv_complexity,
    lempel_ziv_words,
)
from ._candidates import Factory, candidates, parameter_count
from ._class_balance import ClassBalance, class_balance, effective_classes
from ._class_shares import probe_class_balance
from ._colour_refinement import (
    Separation,
    aggregator_collisions,
    colour_refinement,
    separations,
    weisfeiler_leman_separates,
)
from ._comparison import ArchitectureComparison, Ranked, compare_architectures
from ._convolution_counts import ConvolutionCount, convolution_counts, convolution_table
from ._crossed import crossed_mean
from ._data_structure import DataStructure, data_structure
from ._distances import (
    ClassifierTest,
    EnergyTest,
    FeatureShift,
    classifier_test,
    domain_bound,
    energy_distance,
    energy_test,
    feature_shift,
    holm,
    proxy_a_distance,
)
from ._early_stopping import FlowAndRidge, early_stopping_path, estimation_risk, gradient_flow_filter, ridge_filter
from ._effective_field import EffectiveField, effective_field
from ._equivariance import LayerShift, equivariance_error, shift_disagreement, shifted
from ._field_of_view import probe_receptive_field
from ._flat_minima import (
    FlatnessPreference,
    Sharpness,
    SharpnessSeries,
    flatness_preference,
    log_slope,
    sharpness_at,
    sharpness_series,
)
from ._gradient_flow import (
    FlowComparison,
    Trajectory,
    flow_comparison,
    gradient_descent,
    gradient_flow,
    model_gradient,
    modified_gradient,
)
from ._gradient_noise import GradientNoise, gradient_noise, gradient_noise_scale, noise_scale
from ._gradient_support import gradient_support
from ._graphs import GraphFacts, adjacency_matrix, graph_facts, normalised_laplacian
from ._implicit_regulariser import (
    ImplicitRegulariser,
    expected_regulariser,
    implicit_regulariser,
    label_noise_regulariser,
    minibatch_regulariser,
    regulariser_gradient,
    sgd_noise_scale,
)
from ._interpolation import MarginProgress, MaxMargin, excess_norm, margin_progress, max_margin, minimum_norm_solution
from ._label_dynamics import LogitRecorder, NoiseCurves, area_under_margin, clean_probability, noise_curves
from ._label_noise import (
    NoiseBreakdown,
    backward_correction,
    backward_loss,
    confident_joint,
    flip_labels,
    flip_rate,
    forward_loss,
    noise_breakdown,
    suspected_labels,
    symmetry_gap,
    transition_matrix,
)
from ._label_shift import LabelShift, label_shift
from ._learning_order import LearningOrder, explained_by, frequency_errors, information, learning_order, time_to_fit
from ._linear_stability import linear_stability
from ._long_tail import GroupAccuracy, effective_number, group_accuracy, ldam_margins, logit_adjustment
from ._message_passing import (
    Influence,
    dirichlet_energy,
    graph_permutation_test,
    node_features,
    node_influence,
    smoothing_by_depth,
    squashing_curve,
)
from ._minibatch_noise import probe_gradient_noise
from ._overlap import Overlap, duplicates, shared_units, split_overlap
from ._permutation import PermutationTest, permutation_test
from ._rearrangement import probe_permutation
from ._receptive_field import FieldLayer, ReceptiveField, receptive_field
from ._recurrence import Memory, is_causal, jacobian_by_lag, memory_curve, sequence_outputs, time_shift_errors
from ._shift_test import probe_two_sample
from ._simple_first import probe_learning_order
from ._split_overlap import probe_overlap
from ._stationary import stationary_covariance
from ._structure_probe import probe_data_structure
from ._suspects import probe_suspected_labels
from ._symmetry import TURNS, equivariance_curve, symmetry_error, turn_errors
from ._translation import probe_equivariance
from ._trials import Budget
from ._two_sample import TwoSample, mmd, mmd_test

__all__ = [
    "AdaptiveBias", "AdaptiveState", "ArchitectureChoice", "ArchitectureComparison", "AttentionWeights", "Budget",
    "ClassBalance", "ClassifierTest", "ConvolutionCount", "DataStructure", "EffectiveField", "EnergyTest", "Factory",
    "FeatureShift", "FieldLayer", "FlatnessPreference", "FlowAndRidge", "FlowComparison", "FunctionPrior",
    "GradientNoise", "GraphFacts", "GroupAccuracy", "ImplicitRegulariser", "Influence", "LabelShift", "LayerShift",
    "LearningOrder", "LogitRecorder", "MarginProgress", "MaxMargin", "Memory", "NoiseBreakdown", "NoiseCurves",
    "NormBox", "Overlap", "PROBES", "PermutationTest", "Ranked", "ReceptiveField", "Separation", "Sharpness",
    "SharpnessSeries", "TURNS", "Trajectory", "TwoSample", "adaptive_optimizer_bias", "adaptive_state",
    "adjacency_matrix", "aggregator_collisions", "area_under_margin", "attention_distance", "attention_entropy",
    "attention_macs", "attention_weights", "backward_correction", "backward_loss", "boolean_cube", "candidates",
    "class_balance", "classifier_test", "clean_probability", "collapsing_path", "colour_refinement",
    "compare_architectures", "confident_joint", "convolution_counts", "convolution_table", "crossed_mean",
    "data_structure", "degree_errors", "degree_weights", "dirichlet_energy", "domain_bound", "duplicates",
    "early_stopping_path", "effective_classes", "effective_field", "effective_number", "energy_distance", "energy_test",
    "entropy_share", "equivariance_curve", "equivariance_error", "estimation_risk", "excess_norm",
    "expected_regulariser", "explained_by", "feature_shift", "flatness_preference", "flip_labels", "flip_rate",
    "flow_comparison", "forward_loss", "fourier_coefficients", "frequency_errors", "function_prior", "gradient_descent",
    "gradient_flow", "gradient_flow_filter", "gradient_noise", "gradient_noise_scale", "gradient_support",
    "graph_facts", "graph_permutation_test", "group_accuracy", "holm", "implicit_regulariser", "information",
    "is_causal", "jacobian_by_lag", "label_noise_regulariser", "label_shift", "ldam_margins", "learning_order",
    "lempel_ziv_complexity", "lempel_ziv_words", "linear_stability", "log_slope", "logit_adjustment", "margin_progress",
    "margins", "max_margin", "memory_curve", "minibatch_regulariser", "minimum_norm_solution", "mmd", "mmd_test",
    "model_gradient", "modified_gradient", "node_features", "node_influence", "noise_breakdown", "noise_curves",
    "noise_scale", "norm_box", "normalised_laplacian", "parameter_count", "permutation_test", "probe_answer_shift",
    "probe_attention", "probe_class_balance", "probe_data_structure", "probe_equivariance", "probe_gradient_noise",
    "probe_learning_order", "probe_overlap", "probe_permutation", "probe_receptive_field", "probe_suspected_labels",
    "probe_two_sample", "proxy_a_distance", "rank_one_residual", "receptive_field", "regulariser_gradient",
    "ridge_filter", "select_architecture", "separations", "sequence_outputs", "sgd_noise_scale", "shared_units",
    "sharpness_at", "sharpness_series", "shift_disagreement", "shifted", "smoothing_by_depth", "split_overlap",
    "squashing_curve", "stationary_covariance", "suspected_labels", "symmetry_error", "symmetry_gap",
    "time_shift_errors", "time_to_fit", "transition_matrix", "turn_errors", "uniform_distance",
    "weisfeiler_leman_separates",
]  # fmt: skip

PROBES = (
    probe_equivariance, probe_receptive_field, probe_permutation, probe_attention, probe_data_structure,
    probe_class_balance, probe_overlap, probe_two_sample,
    probe_gradient_noise,
    probe_learning_order,
    probe_suspected_labels,
    probe_answer_shift,
)  # fmt: skip
