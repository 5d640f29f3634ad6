"""Dynamics: how did training go, and where would it have gone?

Design: the record of a run is read with intervals that know its noise is correlated; what the record does not hold
(curvature along the way) is measured at the checkpoints, on the same rows at each.
"""

from ._batch_scaling import ScaledRate, max_stable_lr, scale_learning_rate
from ._change_points import ChangePoints, change_points
from ._convergence import Convergence, State, convergence_diagnostic, mean_product, pl_ratio
from ._drift_probe import probe_drift
from ._early_stopping import (
    EarlyStopping,
    Stopped,
    early_stop,
    generalisation_loss,
    patience,
    progress_quotient,
    relative_rise,
    successive_rises,
    training_progress,
)
from ._label_noise import LabelNoiseCourse, label_noise_course, label_noise_experiment
from ._learning_speed import LearningSpeed, LossPowerLaw, learning_speed, loss_power_law
from ._linear_modes import ModeCourse, half_learning_time, mode_course, mode_residual, residual_modes, two_layer_mode
from ._loss_slope import Slope, last_part, loss_slope
from ._measured_rate import ObservedRate, measured_problem, observed_rate
from ._phases import probe_phases
from ._progress import Turning, probe_loss_slope, turning
from ._range_test import RangeTest, range_test
from ._rates import ALGORITHMS, Bound, Problem, convergence_bound, gradient_bound_from_decrease, sgd_step
from ._schedules import (
    Schedule,
    constant,
    cosine_annealing,
    cosine_restarts,
    exponential_decay,
    followed,
    linear_to_zero,
    step_decay,
    warmup,
    warmup_stable_decay,
)
from ._sharpening import Course, probe_sharpening, sharpening
from ._successive import SuccessiveGradients, successive_gradients

PROBES = (probe_loss_slope, probe_phases, probe_drift, probe_sharpening)

__all__ = [
    "ALGORITHMS", "Bound", "ChangePoints", "Convergence", "Course", "EarlyStopping", "LabelNoiseCourse",
    "LearningSpeed", "LossPowerLaw", "ModeCourse", "ObservedRate", "PROBES", "Problem", "RangeTest", "ScaledRate",
    "Schedule", "Slope", "State", "Stopped", "SuccessiveGradients", "Turning", "change_points", "constant",
    "convergence_bound", "convergence_diagnostic", "cosine_annealing", "cosine_restarts", "early_stop",
    "exponential_decay", "followed", "generalisation_loss", "gradient_bound_from_decrease", "half_learning_time",
    "label_noise_course", "label_noise_experiment", "last_part", "learning_speed", "linear_to_zero", "loss_power_law",
    "loss_slope", "max_stable_lr", "mean_product", "measured_problem", "mode_course", "mode_residual", "observed_rate",
    "patience", "pl_ratio", "probe_drift", "probe_loss_slope", "probe_phases", "probe_sharpening", "progress_quotient",
    "range_test", "relative_rise", "residual_modes", "scale_learning_rate", "sgd_step", "sharpening", "step_decay",
    "successive_gradients", "successive_rises", "training_progress", "turning", "two_layer_mode", "warmup",
    "warmup_stable_decay",
]  # fmt: skip
