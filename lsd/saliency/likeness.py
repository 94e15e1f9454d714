"""How alike two maps are, whatever their scales.

scipy is imported where it is used, since importing it takes up to a second.
"""

import numpy as np

from lsd.errors import UndefinedError


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's rank correlation of two arrays of one shape, ties averaged, in [-1, 1].

    A constant array has no order and is given 0, what unrelated ones have on average.

    Raises:
        UndefinedError: different shapes, or values that are not finite.
    """
    from scipy.stats import rankdata

    a, b = paired(a, b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def standardised_ranks(values: np.ndarray) -> np.ndarray:
    """The ranks of each row of (N, n), ties averaged, centred and of length 1, or 0 where a row is constant: of two such rows the
    product's sum is their rank correlation."""
    from scipy.stats import rankdata

    ranks = rankdata(values, axis=1)
    centred = ranks - ranks.mean(1, keepdims=True)
    norms = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, norms, out=np.zeros_like(centred), where=norms > 0)


def paired(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as float64. Raises UndefinedError for different shapes, or values that are not finite."""
    if a.shape != b.shape:
        raise UndefinedError(f"Arrays of {a.shape} and {b.shape} cannot be compared; they must have the same shape.")
    return as_finite(a), as_finite(b)


def as_finite(values: np.ndarray) -> np.ndarray:
    """As float64. Raises UndefinedError for values that are not finite."""
    values = np.asarray(values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise UndefinedError("The map holds values that are not finite; choose another method.")
    return values
