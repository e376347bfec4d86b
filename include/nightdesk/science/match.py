"""Match the stars of one frame with those of another, or refuse to, with the figures that say why."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from nightdesk.science.star import Stars, squared_distances
from nightdesk.science.transform import Transform, fit_transform

Points = NDArray[np.float64]
Complexes = NDArray[np.complexfloating]

BRIGHTEST: Final = 40
MOST_ROTATION: Final = math.radians(3.0)
LARGEST_SCALE_STEP: Final = 0.005
INLIER_PIXELS: Final = 2.0
LENGTH_PIXELS: Final = 2.0
SHORTEST_PAIR: Final = 8.0
VOTE_PIXELS: Final = 6.0
CANDIDATES: Final = 300
SIMILARITY_STARS: Final = 8
SCALE_SIGMAS: Final = 4.0
CLIP_SIGMA: Final = 4.0
EVEN_ERROR: Final = 0.3

FEWEST_MATCHES: Final = 5
LEAST_SHARE: Final = 0.5
MOST_RMS: Final = 1.2
LARGEST_LOG_NFA: Final = -4.0


@dataclass(frozen=True)
class Match:
    """Say how one frame lies on another, and how far that can be trusted.

    Attributes
    ----------
    transform : Transform
        From positions in the frame to positions in the reference frame; the identity without a match.
    matches : int
        Stars that agree within 2 pixels.
    share : float
        Their part of the shorter list of stars in the overlap, from 0 to 1.
    rms : float
        Root mean square of what is left between the matched stars, in pixels.
    error : float
        Standard error of the transform at the centre of the stars, in pixels.
    scale : float
        Scale as the stars have it, also where the transform keeps it at 1.
    log_nfa : float
        Decimal logarithm of how many matches as good are expected by chance.
    refusal : str
        Why the match is not to be trusted, with the figure and its limit; empty when it is.
    """

    transform: Transform
    matches: int
    share: float
    rms: float
    error: float
    scale: float
    log_nfa: float
    refusal: str

    @property
    def accepted(self) -> bool:
        """Whether the transform is to be trusted."""
        return not self.refusal


def match_stars(stars: Stars, reference: Stars, shape: tuple[int, int]) -> Match:
    r"""Find how the stars of a frame lie on those of the reference frame.

    Parameters
    ----------
    stars, reference : Stars
        The stars of both frames.
    shape : tuple of int
        Shape (ny, nx) of both frames.

    Returns
    -------
    Match
        Refused unless at least 5 stars agree, these are half of the shorter list in the overlap, the scale
        is 1 within 0.005, the rest is below 1.2 pixels rms, and the expected number of chance matches is
        below 1e-4.

    Notes
    -----
    Each pair of the 40 brightest stars, with each pair of like length in the other frame, gives a
    hypothesis: a rotation within 3 degrees of 0 or of 180 (a meridian flip) and a shift. They vote by where
    they put the frame's centre; the best candidates are scored by the stars that agree, and the winner
    is fitted again to all stars, weighted by their centroids' errors, with clipping. It is a rigid motion;
    from 8 stars on the scale is fitted too if it differs from 1 by more than four standard errors.

    The number of false alarms (Desolneux, Moisan & Morel, a contrario) is the number of hypotheses times the
    binomial probability that as many of `n` stars agree by chance.

    Examples
    --------
    >>> x, y = np.random.default_rng(1).uniform(0, 500, (2, 12))
    >>> one = Stars(x, y, x, np.full(12, 0.02), x, x < 0, 3.0)
    >>> other = Stars(x + 7.0, y - 3.0, x, np.full(12, 0.02), x, x < 0, 3.0)
    >>> match = match_stars(other, one, (500, 500))
    >>> match.accepted, match.matches, [round(d, 3) for d in match.transform.shift_at(250, 250)]
    (True, 12, [-7.0, 3.0])
    """
    if min(len(stars), len(reference)) < FEWEST_MATCHES:
        few = f"{len(stars)} stars were found in it, {len(reference)} in the reference frame"
        return _refused(f"too few stars: {few}; {FEWEST_MATCHES} must match")
    hypotheses, tried = _hypotheses(stars, reference, shape)
    best = _best(hypotheses, stars, reference)
    if best is None:
        return _refused("no pattern of stars is common to both")
    return _judged(best, stars, reference, shape, tried)


def match_near(stars: Stars, reference: Stars, shape: tuple[int, int]) -> Match:
    """Do what :func:`match_stars` does for stars that should lie on one another already.

    Parameters
    ----------
    stars, reference : Stars
        The stars of both frames.
    shape : tuple of int
        Shape (ny, nx) of both frames.

    Returns
    -------
    Match
        By those that are within 2 pixels of one another as they are; where these do not agree, by all hypotheses.

    Examples
    --------
    >>> x, y = np.random.default_rng(1).uniform(0, 500, (2, 12))
    >>> one = Stars(x, y, x, np.full(12, 0.02), x, x < 0, 3.0)
    >>> other = Stars(x + 0.3, y - 0.4, x, np.full(12, 0.02), x, x < 0, 3.0)
    >>> match = match_near(other, one, (500, 500))
    >>> match.accepted, match.matches, [round(d, 3) for d in match.transform.shift_at(250, 250)]
    (True, 12, [-0.3, 0.4])
    """
    if min(len(stars), len(reference)) >= FEWEST_MATCHES:
        match = _judged(Transform(), stars, reference, shape, 1)
        moved = np.linalg.norm(match.transform.apply(stars.positions) - stars.positions, axis=1)
        if match.accepted and moved.max() <= INLIER_PIXELS:
            return match
    return match_stars(stars, reference, shape)


def _refused(reason: str) -> Match:
    nan = float("nan")
    return Match(Transform(), 0, 0.0, nan, nan, 1.0, 0.0, reason)


def _pairs(points: Points) -> tuple[Complexes, Complexes]:
    """Return the first points of all pairs, as complex numbers, and the way to the second."""
    i, j = np.triu_indices(len(points), 1)
    z = points @ (1.0, 1.0j)
    long = np.abs(z[j] - z[i]) >= SHORTEST_PAIR
    return z[i[long]], (z[j] - z[i])[long]


def _hypotheses(stars: Stars, reference: Stars, shape: tuple[int, int]) -> tuple[list[Transform], int]:
    """Return the transforms that most pairs of bright stars vote for, and how many were possible."""
    start, way = _pairs(stars.positions[:BRIGHTEST])
    start_there, way_there = _pairs(reference.positions[:BRIGHTEST])
    length, length_there = np.abs(way), np.abs(way_there)
    tolerance = LENGTH_PIXELS + LARGEST_SCALE_STEP * length_there
    alike = np.abs(length[:, None] - length_there[None, :]) <= tolerance
    a, b = np.nonzero(alike)
    turn = np.angle(way_there[b] / way[a])
    # The two stars of a pair may stand in either order, which is a further half turn.
    near_zero = np.abs(turn) <= MOST_ROTATION
    near_half = np.abs(turn) >= np.pi - MOST_ROTATION
    rotation, middle, middle_there, lengths = [], [], [], []
    for angles, which in (
        (turn, near_zero | near_half),
        (np.angle(-np.exp(1j * turn)), near_zero | near_half),
    ):
        rotation.append(angles[which])
        middle.append((start + way / 2)[a[which]])
        middle_there.append((start_there + way_there / 2)[b[which]])
        lengths.append(length[a[which]])
    theta = np.concatenate(rotation)
    shift = np.concatenate(middle_there) - np.exp(1j * theta) * np.concatenate(middle)
    centre = complex((shape[1] - 1) / 2, (shape[0] - 1) / 2)
    goal = np.exp(1j * theta) * centre + shift
    chosen = _most_voted(goal, np.abs(theta) > np.pi / 2, np.concatenate(lengths))
    transforms = [
        Transform(float(theta[index]), 1.0, float(shift[index].real), float(shift[index].imag)) for index in chosen
    ]
    return transforms, 2 * len(way) * len(way_there)


def _most_voted(goal: Complexes, flipped: NDArray[np.bool_], length: Points) -> NDArray[np.intp]:
    """Return the hypotheses with the most neighbours; of neighbours those of the longest pairs first."""
    if len(goal) == 0:
        return np.zeros(0, dtype=np.intp)
    from scipy.spatial import cKDTree  # a fifth of a second, which frames that lie on one another do without

    place = np.column_stack([goal.real, goal.imag, np.where(flipped, 1e6, 0.0)])
    tree = cKDTree(place)
    votes = tree.query_ball_point(place, VOTE_PIXELS, return_length=True)
    order = np.lexsort((-length, -votes))
    return np.asarray(order[:CANDIDATES], dtype=np.intp)


def _best(hypotheses: list[Transform], stars: Stars, reference: Stars) -> Transform | None:
    """Return the hypothesis on which most of the bright stars agree, fitted to these."""
    if not hypotheses:
        return None
    from scipy.spatial import cKDTree

    points, there = stars.positions[: 2 * BRIGHTEST], reference.positions[: 2 * BRIGHTEST]
    tree = cKDTree(there)
    moved = np.stack([hypothesis.apply(points) for hypothesis in hypotheses])
    distance, _ = tree.query(moved, distance_upper_bound=2 * INLIER_PIXELS)
    near = np.minimum(distance, 2 * INLIER_PIXELS)
    score = np.sum(1.0 - near / (2 * INLIER_PIXELS), axis=1)
    return hypotheses[int(np.argmax(score))]


def _partners(
    transform: Transform, stars: Stars, reference: Stars, radius: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the indices of stars that are each other's nearest within `radius`."""
    moved = transform.apply(stars.positions)
    apart = squared_distances(moved, reference.positions)
    there, back = apart.argmin(axis=1), apart.argmin(axis=0)
    mine = np.flatnonzero(apart[np.arange(len(moved)), there] < radius**2)
    mutual = back[there[mine]] == mine
    return mine[mutual], there[mine][mutual]


def _judged(first: Transform, stars: Stars, reference: Stars, shape: tuple[int, int], tried: int) -> Match:
    """Fit a hypothesis to all stars, and judge it."""
    transform = first
    radius = 2 * INLIER_PIXELS
    for _ in range(4):
        mine, theirs = _partners(transform, stars, reference, radius)
        if len(mine) < 3:
            return _refused(f"too few stars agree: {len(mine)}, at least {FEWEST_MATCHES}")
        before, transform = transform, _fit(stars, reference, mine, theirs)
        if transform == before and radius == INLIER_PIXELS:
            break  # the same stars again and again
        radius = INLIER_PIXELS
    mine, theirs = _partners(transform, stars, reference, INLIER_PIXELS)
    if len(mine) < 3:
        return _refused(f"too few stars agree: {len(mine)}, at least {FEWEST_MATCHES}")
    mine, theirs, weights = _clipped(transform, stars, reference, mine, theirs)
    transform, scale = _final_fit(stars, reference, mine, theirs, weights)
    agreeing = len(_partners(transform, stars, reference, INLIER_PIXELS)[0])
    rest = np.linalg.norm(transform.apply(stars.positions[mine]) - reference.positions[theirs], axis=1)
    rms = float(np.sqrt(np.mean(rest**2)))
    error = float(np.sqrt(np.mean(rest**2 * weights) / 2 / np.sum(weights)))
    short, long, area = _overlap(transform, stars, reference, shape)
    share = min(agreeing / max(short, 1), 1.0)
    log_nfa = _log_false_alarms(agreeing, short, long, area, tried)
    refusal = _refusal(agreeing, share, short, scale if len(mine) >= SIMILARITY_STARS else 1.0, rms, log_nfa)
    return Match(transform, agreeing, share, rms, error, scale, log_nfa, refusal)


def _errors(stars: Stars, reference: Stars, mine: NDArray[np.intp], theirs: NDArray[np.intp]) -> Points:
    return np.asarray(np.hypot(stars.error[mine], reference.error[theirs]))


def _fit(stars: Stars, reference: Stars, mine: NDArray[np.intp], theirs: NDArray[np.intp]) -> Transform:
    """Fit with nearly equal weights, so that one bright star that is off cannot decide which others are."""
    weights = 1.0 / (_errors(stars, reference, mine, theirs) ** 2 + EVEN_ERROR**2)
    return fit_transform(stars.positions[mine], reference.positions[theirs], weights)


def _clipped(
    transform: Transform, stars: Stars, reference: Stars, mine: NDArray[np.intp], theirs: NDArray[np.intp]
) -> tuple[NDArray[np.intp], NDArray[np.intp], Points]:
    """Leave out stars that are farther off than the others' scatter allows, and return the others' weights."""
    everything = mine, theirs
    for _ in range(5):
        mine, theirs = everything
        rest = np.linalg.norm(transform.apply(stars.positions[mine]) - reference.positions[theirs], axis=1)
        errors = _errors(stars, reference, mine, theirs)
        errors = np.hypot(errors, _common_error(rest, errors))
        of_fit = float(np.median(rest)) / math.sqrt(len(rest))
        keep = rest <= CLIP_SIGMA * np.hypot(errors, of_fit)
        if np.count_nonzero(keep) < max(FEWEST_MATCHES, 0.6 * len(keep)):
            keep[:] = True
        mine, theirs, errors = mine[keep], theirs[keep], errors[keep]
        before = transform
        transform = fit_transform(stars.positions[mine], reference.positions[theirs], 1.0 / errors**2)
        if transform == before:
            break
    return mine, theirs, 1.0 / errors**2


def _common_error(rest: Points, errors: Points) -> float:
    """Return what must be added to the errors of all centroids, in squares, to explain what is left; mostly 0.

    Air that moves stars apart, interlaced rows or a distorted field limit bright stars as much as faint ones. Without
    this the brightest star alone would decide.
    """
    degrees = 2 * len(rest) - 3
    expected = 2.0 * math.log(2.0) * max(degrees, 1) / (2 * len(rest))  # median of the squared ratio of two coordinates
    if np.median((rest / errors) ** 2) <= expected * (1.0 + 3.0 / math.sqrt(max(degrees, 1))):
        return 0.0
    low, high = 0.0, float(rest.max()) + 1e-9
    for _ in range(40):
        middle = 0.5 * (low + high)
        if np.median(rest**2 / (errors**2 + middle**2)) > expected:
            low = middle
        else:
            high = middle
    return high


def _final_fit(
    stars: Stars, reference: Stars, mine: NDArray[np.intp], theirs: NDArray[np.intp], weights: Points
) -> tuple[Transform, float]:
    """Return the rigid fit, or the similarity where the stars ask for one, and the scale that they show."""
    here, there = stars.positions[mine], reference.positions[theirs]
    rigid = fit_transform(here, there, weights)
    free = fit_transform(here, there, weights, free_scale=True)
    if len(mine) < SIMILARITY_STARS:
        return rigid, free.scale
    centred = here - np.average(here, axis=0, weights=weights)
    rest = np.sum((free.apply(here) - there) ** 2, axis=1)
    unit = max(float(np.sum(weights * rest)) / (2 * len(mine) - 4), 1.0)
    error = math.sqrt(unit / float(np.sum(weights * np.sum(centred**2, axis=1))))
    return (free if abs(free.scale - 1.0) > SCALE_SIGMAS * error else rigid), free.scale


def _overlap(transform: Transform, stars: Stars, reference: Stars, shape: tuple[int, int]) -> tuple[int, int, float]:
    """Return the numbers of stars in the common part of both frames, the smaller first, and its area in pixels."""
    ny, nx = shape

    def inside(points: Points) -> int:
        x, y = points.T
        return int(np.count_nonzero((x >= 0) & (y >= 0) & (x <= nx - 1) & (y <= ny - 1)))

    mine, theirs = inside(transform.apply(stars.positions)), inside(transform.inverse().apply(reference.positions))
    grid = _grid_of_points(shape)
    area = max(inside(transform.apply(grid)), 1) / len(grid) * nx * ny
    return min(mine, theirs), max(mine, theirs), area


@lru_cache(maxsize=8)
def _grid_of_points(shape: tuple[int, int]) -> Points:
    ny, nx = shape
    return np.stack(np.meshgrid(np.linspace(0, nx - 1, 20), np.linspace(0, ny - 1, 20)), axis=-1).reshape(-1, 2)


def _log_false_alarms(agreeing: int, short: int, long: int, area: float, tried: int) -> float:
    """Return the decimal logarithm of the expected number of chance matches as good as this one."""
    wanted, others = agreeing - 2, max(short, agreeing) - 2  # two stars made the hypothesis
    if wanted < 1:
        return 0.0
    p = -math.expm1(-long / area * math.pi * INLIER_PIXELS**2)
    return max(math.log10(max(tried, 1)) + _log_tail(wanted, others, p) / math.log(10.0), -999.0)


def _log_tail(wanted: int, tries: int, p: float) -> float:
    """Return the logarithm of the chance that as many of so many tries succeed, or more, each with the chance p.

    The terms of the binomial distribution are added up from the first one on, of which the others are multiples. scipy
    has it too, but takes a tenth of a second to be imported.
    """
    if not 0.0 < p < 1.0:
        return 0.0 if p >= 1.0 else -math.inf
    ways = math.lgamma(tries + 1) - math.lgamma(wanted + 1) - math.lgamma(tries - wanted + 1)
    first = ways + wanted * math.log(p) + (tries - wanted) * math.log1p(-p)
    total = term = 1.0
    for number in range(wanted, tries):
        term *= (tries - number) / (number + 1) * p / (1.0 - p)
        total += term
    return min(first + math.log(total), 0.0)


def _refusal(matches: int, share: float, short: int, scale: float, rms: float, log_nfa: float) -> str:
    """Return what is wrong with a match, in words; empty when nothing is."""
    if matches < FEWEST_MATCHES:
        return f"too few stars agree: {matches}, at least {FEWEST_MATCHES}"
    if share < LEAST_SHARE:
        return f"too few of its stars agree: {matches} of {short} ({share:.0%}, at least {LEAST_SHARE:.0%})"
    if abs(scale - 1.0) >= LARGEST_SCALE_STEP:
        return f"its scale differs: {scale:.4f} (1 within {LARGEST_SCALE_STEP})"
    if rms >= MOST_RMS:
        return f"its stars agree badly: {rms:.2f} px rms (below {MOST_RMS:g})"
    if log_nfa > LARGEST_LOG_NFA:
        return f"the match may be chance: 1e{log_nfa:.1f} expected (at most 1e{LARGEST_LOG_NFA:g})"
    return ""
