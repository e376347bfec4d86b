"""The stack written down plainly, without a thought for speed: what the fast ways must give to the last bit."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.clipping import deviation_noise, share_variance
from nightdesk.science.flag import NO_DATA
from nightdesk.science.selection import combine_flags, select_values
from nightdesk.science.stack_variance import mean_variance, median_variance


def plain_middle(values: NDArray[Any], used: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The two middle values of those in use, by sorting."""
    count = np.count_nonzero(used, axis=0)
    ordered = np.sort(np.where(used, values, np.inf), axis=0)
    lower = np.take_along_axis(ordered, np.maximum(count - 1, 0)[None] // 2, axis=0)[0]
    upper = np.take_along_axis(ordered, np.minimum(count // 2, len(values) - 1)[None], axis=0)[0]
    return np.where(count > 0, lower, 0.0), np.where(count > 0, upper, 0.0)


def plain_outliers(
    values: NDArray[Any],
    variances: NDArray[Any],
    used: NDArray[Any],
    sigmas: NDArray[Any],
    clip_sigma: float,
    level: float | None,
    tolerance: float,
) -> NDArray[Any]:
    """Values too far from the median for the predicted noise."""
    lower, upper = plain_middle(values, used)
    if np.ptp(sigmas) == 0:
        predicted = np.broadcast_to(plain_middle(variances, used)[0], used.shape)
    else:
        count = np.count_nonzero(used, axis=0)
        order = np.argsort(np.where(used, variances, np.inf), axis=0, kind="stable")
        middle = np.take_along_axis(order, np.maximum(count - 1, 0)[None] // 2, axis=0)
        typical = np.take_along_axis(variances, middle, axis=0)[0]
        predicted = share_variance(typical, sigmas[middle[0]] ** 2, deviation_noise(sigmas))
    allowed = clip_sigma * np.sqrt(predicted)
    if level is not None:
        allowed = allowed + tolerance * np.maximum(lower - level, 0.0)
    rejected = used & (np.abs(values - 0.5 * (lower + upper)) > allowed)
    emptied = used.any(axis=0) & ~(used & ~rejected).any(axis=0)
    if emptied.any():
        rejected[:, emptied] = (
            False
            if level is None
            else used[:, emptied] & (np.abs(values[:, emptied] - lower[emptied]) > allowed[:, emptied])
        )
    return rejected


def plain_stack(
    values: NDArray[Any],
    variances: NDArray[Any],
    shared: NDArray[Any],
    flags: NDArray[Any],
    *,
    offset_groups: NDArray[Any],
    sigmas: NDArray[Any],
    method: str,
    clip_sigma: float | None,
    weights: NDArray[Any],
    level: float | None,
) -> tuple[NDArray[Any], ...]:
    """Data, variance, flags, coverage, rejected, and which values were clipped."""
    sound = np.isfinite(values) & np.isfinite(variances) & np.isfinite(shared)
    flags = np.where(sound, flags, flags | NO_DATA).astype(np.uint16)
    values, variances, shared = (np.where(sound, cube, 0.0) for cube in (values, variances, shared))
    variances, shared = np.maximum(variances, 0.0), np.maximum(shared, 0.0)
    used, doubtful = select_values(flags)
    clipped = np.zeros(used.shape, dtype=bool)
    if clip_sigma is not None and method != "mean" and len(values) > 1:
        clipped = plain_outliers(values, variances, used & ~doubtful, sigmas, clip_sigma, level, 0.5)
        used &= ~clipped
    joined = combine_flags(flags, used, doubtful)
    independent = np.maximum(variances - shared, 0.0)
    if method == "median":
        lower, upper = plain_middle(values, used)
        data = 0.5 * (lower + upper)
        variance = median_variance(independent, shared, used, sigmas=sigmas, offset_groups=offset_groups)
    else:
        weight = np.where(used, weights[:, None, None], 0.0)
        total = np.sum(weight, axis=0)
        data = np.sum(weight * values, axis=0) / np.where(total > 0, total, 1.0)
        variance = mean_variance(independent, shared, used, weights=weights, offset_groups=offset_groups)
    return data, variance, joined, np.count_nonzero(used, axis=0), np.count_nonzero(clipped, axis=0), clipped
