"""Gaussian process on search parameters of all kinds, for few observations.

Rasmussen and Williams 2006, Gaussian Processes for Machine Learning, algorithm 2.1 and eq. 5.9. The kernel is a product
over the parameters plus their mean. The product models how they act together; the mean learns from few trials how each
acts alone (an additive process, Duvenaud et al. 2011, arXiv 1112.4394, of the first and the highest order).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve, solve_triangular
from scipy.optimize import minimize

from nas_compress.values.pareto import Floats

JITTER = 1e-6
STEPS = 30
"""Number of steps of the optimiser for the hyperparameters."""

WEIGHT, PRODUCT, MEAN, NOISE = np.log([0.5, 0.5, 1.0, 0.01])
"""Expected logarithms of the hyperparameters, for values of variance 1: weight of each parameter, variances of the two
kernels, variance of the noise.
"""


def differences(left: Floats, right: Floats, unordered: NDArray[np.bool_]) -> Floats:
    """Return the distances (n, m, d) of rows of left (n, d) from rows of right (m, d), by parameter.

    The squared difference; 1 between two names. A missing parameter (nan) is a point outside of the interval, at
    distance 1 from both ends. These are squared distances in a plane, which keeps the kernel positive definite.
    """
    apart: Floats = left[:, None, :] - right[None, :, :]
    apart *= apart
    apart[:, :, unordered] = apart[:, :, unordered] != 0
    absent = np.isnan(left), np.isnan(right)
    for column in np.flatnonzero(absent[0].any(axis=0) | absent[1].any(axis=0)):
        here, there = absent[0][:, column, None], absent[1][None, :, column]
        place = np.where(here, right[None, :, column], left[:, column, None])  # of the one that has it
        away = np.ones_like(place) if unordered[column] else (place - 0.5) ** 2 + 0.75
        apart[:, :, column] = np.where(here & there, 0.0, np.where(here | there, away, apart[:, :, column]))
    return apart


@dataclass(frozen=True, kw_only=True, eq=False)
class GaussianProcess:
    """The posterior after n observations. `shift` and `scale` convert predictions to the values' own unit."""

    hyperparameters: Floats
    shift: float
    scale: float
    _factor: Floats
    _answer: Floats

    def predict(self, apart: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (m,) of the noiseless value at distances `apart` (m, n, d)."""
        cross = _kernel(apart, self.hyperparameters)
        left = solve_triangular(self._factor, cross.T, lower=True)
        prior = np.exp(self.hyperparameters[-3:-1]).sum()
        variance = np.maximum(prior - (left**2).sum(axis=0), JITTER)
        return self.shift + self.scale * (cross @ self._answer), self.scale * np.sqrt(variance)


@dataclass(frozen=True, kw_only=True)
class Constant:
    """Prediction if there are no observations or they do not differ."""

    mean: float
    deviation: float

    def predict(self, apart: Floats) -> tuple[Floats, Floats]:
        """Return mean and standard deviation (m,) at distances `apart` (m, n, d)."""
        return np.full(len(apart), self.mean), np.full(len(apart), self.deviation)


def condition(apart: Floats, values: Floats, variances: Floats, hyperparameters: Floats) -> GaussianProcess:
    """Fit to `values` (n,) at distances `apart` (n, n, d). Each has its own variance besides the common noise."""
    shift, scale = _standard(values)
    covariance = _kernel(apart, hyperparameters) + np.diag(np.exp(hyperparameters[-1]) + variances / scale**2 + JITTER)
    factor = np.asarray(np.linalg.cholesky(covariance), dtype=np.float64)
    answer = np.asarray(cho_solve((factor, True), (values - shift) / scale), dtype=np.float64)
    return GaussianProcess(hyperparameters=hyperparameters, shift=shift, scale=scale, _factor=factor, _answer=answer)


def find_hyperparameters(apart: Floats, values: Floats, variances: Floats) -> Floats:
    """Return the most probable logarithms (d + 3,): parameter weights, variances of product and mean, noise.

    The last results are cached, because a sampler asks again with the same values until enough new ones arrive.
    """
    return _found(np.ascontiguousarray(apart).tobytes(), apart.shape, values.tobytes(), variances.tobytes()).copy()


@lru_cache(maxsize=16)
def _found(apart: bytes, shape: tuple[int, int, int], values: bytes, variances: bytes) -> Floats:
    table, targets = np.frombuffer(apart).reshape(shape), np.frombuffer(values)
    shift, scale = _standard(targets)
    own = np.frombuffer(variances) / scale**2
    expected = np.append(np.full(shape[-1], WEIGHT), [PRODUCT, MEAN, NOISE])
    result = minimize(
        _misfit,
        expected,
        args=(table, (targets - shift) / scale, own, expected),
        jac=True,
        method="L-BFGS-B",
        bounds=[(value - 5, value + 5) for value in expected],
        options={"maxiter": STEPS},
    )
    return np.asarray(result.x, dtype=np.float64)


def _misfit(logs: Floats, apart: Floats, targets: Floats, variances: Floats, expected: Floats) -> tuple[float, Floats]:
    """Return the negative logarithm of the posterior probability up to a constant, and its gradient."""
    count = apart.shape[-1]
    weights, (product, mean, noise) = np.exp(logs[:count]), np.exp(logs[count:])
    single = apart * -weights
    np.exp(single, out=single)
    joint, alone = product * np.exp(-(apart @ weights)), mean / count * single
    covariance = joint + alone @ np.ones(count) + np.diag(noise + variances + JITTER)
    factor = np.linalg.cholesky(covariance)
    inverse = cho_solve((factor, True), np.eye(len(targets)))
    answer = inverse @ targets
    slope = 0.5 * (inverse - np.outer(answer, answer))
    spread = np.append(np.full(count, 1.5), [1.0, 1.0, 1.5])
    away = (logs - expected) / spread
    gradient = away / spread
    together, sums = slope * joint, slope.ravel() @ alone.reshape(-1, count)
    gradient[:count] -= weights * np.einsum("ij,ijk->k", together, apart)
    gradient[:count] -= weights * np.einsum("ij,ijk,ijk->k", slope, alone, apart)
    gradient[count:] += [together.sum(), sums.sum(), noise * np.trace(slope)]
    misfit = 0.5 * targets @ answer + np.log(np.diag(factor)).sum() + 0.5 * away @ away
    return float(misfit), gradient


def _kernel(apart: Floats, logs: Floats) -> Floats:
    count = apart.shape[-1]
    weights, (product, mean) = np.exp(logs[:count]), np.exp(logs[count : count + 2])
    scaled, ones = apart * -weights, np.ones(count)
    together = np.exp(scaled @ ones)  # a product of matrices: several times faster than a sum over a short axis
    return np.asarray(product * together + mean / count * (np.exp(scaled, out=scaled) @ ones), dtype=np.float64)


def _standard(values: Floats) -> tuple[float, float]:
    return float(values.mean()), max(float(values.std()), 1e-9)
