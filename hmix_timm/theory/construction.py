"""Theorem 2: a mask distribution for any regularization coefficients, as long as they can be a second moment.

The printed proof sets M = 1 − λ + B Z with B Bᵀ = A − (1 − λ)² 11ᵀ and Z standard normal. Then 1 − M has the mean λ,
and E[(1 − M_j)(1 − M_k)] = λ² + A_jk − (1 − λ)², which is A_jk only for λ = 1/2. With M = λ + B Z it is A_jk always.
"""

import numpy as np

from ..checks import check_number


def mask_root(coefficients: np.ndarray, lam: float) -> np.ndarray:
    """The symmetric root B of A − (1 − λ)² 11ᵀ, with B Bᵀ = A − (1 − λ)² 11ᵀ.

    Args:
        coefficients: A of Eq. 9, symmetric, shape (n, n) for n pixels.
        lam: λ.

    Returns:
        B, shape (n, n), float64.

    Raises:
        ValueError: A is not square and symmetric, or A − (1 − λ)² 11ᵀ is not nonnegative definite, so that no mask with
            mean λ has these coefficients; the message gives the smallest eigenvalue.
    """
    check_number('lam', lam, high=1.0)
    a = np.asarray(coefficients, dtype=np.float64)
    if a.ndim != 2 or a.shape[0] != a.shape[1] or not np.allclose(a, a.T):
        raise ValueError(f'coefficients must be a symmetric matrix, got shape {a.shape}')
    covariance = a - (1.0 - lam) ** 2
    values, vectors = np.linalg.eigh(covariance)
    # rounding makes a zero eigenvalue slightly negative
    if values[0] < -1e-10 * max(1.0, float(np.abs(a).max())) * len(a):
        raise ValueError(
            'coefficients − (1 − lam)² must be nonnegative definite (Theorem 2), '
            f'got smallest eigenvalue {values[0]:.6g} at lam={lam!r}'
        )
    return (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T


def sample_masks(coefficients: np.ndarray, lam: float, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws masks M = λ + B Z with E[M] = λ and E[(1 − M_j)(1 − M_k)] = A_jk (Theorem 2).

    The masks are normally distributed, so that single values lie outside [0, 1].

    Args:
        coefficients: A of Eq. 9, symmetric, shape (n, n) for n pixels.
        lam: λ, 0 to 1.
        count: number of masks.
        generator: source of the random numbers.

    Returns:
        Masks (count, n), float64.

    Raises:
        ValueError: as `mask_root`.
    """
    root = mask_root(coefficients, lam)
    return lam + generator.standard_normal((count, len(root))) @ root
