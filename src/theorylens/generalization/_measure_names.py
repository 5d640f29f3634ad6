"""What the measures on trained networks are called, in full and beside a line of a picture."""

from __future__ import annotations

from theorylens.results import Message

NAMES = {
    "parameters": Message("measure.parameters", "number of parameters"),
    "layers": Message("measure.layers", "number of weight matrices"),
    "length": Message("measure.length", "length of the weights"),
    "distance": Message("measure.distance", "distance from initialisation"),
    "frobenius": Message("measure.frobenius", "log10 of the product of squared Frobenius norms"),
    "frobenius_margin": Message("measure.frobenius_margin", "log10 of squared Frobenius norms over the squared margin"),
    "spectral": Message("measure.spectral_product", "log10 of the product of squared spectral norms"),
    "spectral_margin": Message("measure.spectral_margin", "log10 of squared spectral norms over the squared margin"),
    "stable_rank": Message("measure.stable_rank", "mean stable rank"),
    "spectral_complexity": Message("measure.spectral", "log10 of the spectral complexity"),
    "spectral_complexity_margin": Message(
        "measure.complexity_margin", "log10 of the spectral complexity of the change over the margin"
    ),
    "path_norm": Message("measure.path", "log10 of the squared path norm"),
    "path_norm_margin": Message("measure.path_margin", "log10 of the squared path norm over the squared margin"),
    "inverse_margin": Message("measure.margin", "inverse of the squared margin"),
    "sharpness": Message("measure.sharpness", "expected sharpness, same noise for all weights"),
    "adaptive_sharpness": Message("measure.adaptive", "expected sharpness, noise in proportion to each weight"),
    "flatness": Message("measure.flatness", "PAC-Bayes flatness"),
    "adaptive_flatness": Message("measure.adaptive_flatness", "PAC-Bayes flatness, magnitude-aware"),
    "flatness_length": Message("measure.flatness_length", "PAC-Bayes, prior around zero"),
    "flatness_distance": Message("measure.flatness_distance", "PAC-Bayes, prior around initialisation"),
    "worst_sharpness": Message("measure.worst_sharpness", "worst-case sharpness, magnitude-aware"),
    "gradient_noise": Message("measure.gradient_noise", "variance of the examples' gradients"),
    "weight_alpha": Message("measure.alpha", "mean power-law exponent of the weight spectra"),
    "effective_parameters": Message("measure.effective", "effective parameters"),
    "train_loss": Message("measure.loss", "training loss"),
}
SHORT = {  # beside a line of a picture there is room for about 20 letters
    "parameters": Message("measure.short.parameters", "parameters"),
    "layers": Message("measure.short.layers", "layers"),
    "length": Message("measure.short.length", "length of weights"),
    "distance": Message("measure.short.distance", "distance from init"),
    "frobenius": Message("measure.short.frobenius", "Frobenius product"),
    "frobenius_margin": Message("measure.short.frobenius_margin", "Frobenius / margin"),
    "spectral": Message("measure.short.spectral", "spectral product"),
    "spectral_margin": Message("measure.short.spectral_margin", "spectral / margin"),
    "stable_rank": Message("measure.short.rank", "stable rank"),
    "spectral_complexity": Message("measure.short.complexity", "spectral complexity"),
    "spectral_complexity_margin": Message("measure.short.complexity_margin", "complexity / margin"),
    "path_norm": Message("measure.short.path", "path norm"),
    "path_norm_margin": Message("measure.short.path_margin", "path norm / margin"),
    "inverse_margin": Message("measure.short.margin", "inverse margin"),
    "sharpness": Message("measure.short.sharpness", "sharpness"),
    "adaptive_sharpness": Message("measure.short.adaptive", "adaptive sharpness"),
    "flatness": Message("measure.short.flatness", "flatness"),
    "adaptive_flatness": Message("measure.short.adaptive_flatness", "adaptive flatness"),
    "flatness_length": Message("measure.short.from_zero", "PAC-Bayes from 0"),
    "flatness_distance": Message("measure.short.from_init", "PAC-Bayes from init"),
    "worst_sharpness": Message("measure.short.worst", "worst sharpness"),
    "gradient_noise": Message("measure.short.noise", "gradient noise"),
    "weight_alpha": Message("measure.short.alpha", "spectral exponent"),
    "effective_parameters": Message("measure.short.effective", "effective params"),
    "train_loss": Message("measure.short.loss", "training loss"),
    "steps": Message("measure.short.steps", "steps to loss 0.1"),
}
