"""A similarity: how positions in one frame become positions in another."""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Transform:
    r"""Move, turn and scale positions.

    Attributes
    ----------
    rotation : float
        Angle from the x axis towards the y axis, in radians, from -pi to pi.
    scale : float
        Above 0.
    dx, dy : float
        Where the origin goes, in pixels.

    Notes
    -----
    :math:`x' = s (x \cos\theta - y \sin\theta) + d_x`, :math:`y' = s (x \sin\theta + y \cos\theta) + d_y`.

    Examples
    --------
    >>> turned = Transform(rotation=math.pi / 2, dx=10.0)
    >>> turned.apply([[1.0, 0.0]]).round(6)
    array([[10.,  1.]])
    """

    rotation: float = 0.0
    scale: float = 1.0
    dx: float = 0.0
    dy: float = 0.0

    @property
    def matrix(self) -> Points:
        """The 2 by 2 matrix that turns and scales (x, y)."""
        c, s = self.scale * math.cos(self.rotation), self.scale * math.sin(self.rotation)
        return np.array([[c, -s], [s, c]])

    @property
    def degrees(self) -> float:
        """The rotation in degrees, from -180 to 180."""
        return math.degrees(self.rotation)

    @property
    def is_flip(self) -> bool:
        """Whether it turns by more than a quarter of a circle, as crossing the meridian does."""
        return abs(self.rotation) > math.pi / 2

    def apply(self, points: ArrayLike) -> Points:
        """Return where points go.

        Parameters
        ----------
        points : array_like, shape (n, 2)
            Positions (x, y), in pixels.

        Returns
        -------
        ndarray, shape (n, 2)
            Positions (x', y').
        """
        moved: Points = np.asarray(points, dtype=np.float64) @ self.matrix.T + (self.dx, self.dy)
        return moved

    def inverse(self) -> Self:
        """Return the transform that leads back.

        Returns
        -------
        Transform
            Its inverse.
        """
        matrix = np.linalg.inv(self.matrix)
        dx, dy = -matrix @ (self.dx, self.dy)
        return type(self)(-self.rotation, 1.0 / self.scale, float(dx), float(dy))

    def after(self, first: "Transform") -> Self:
        """Return the transform that applies `first` and then this one.

        Parameters
        ----------
        first : Transform
            The one that comes first.

        Returns
        -------
        Transform
            Both together.
        """
        dx, dy = self.matrix @ (first.dx, first.dy) + (self.dx, self.dy)
        rotation = math.remainder(self.rotation + first.rotation, 2.0 * math.pi)
        return type(self)(rotation, self.scale * first.scale, float(dx), float(dy))

    def shift_at(self, x: float, y: float) -> tuple[float, float]:
        """Return by how much a position moves.

        Parameters
        ----------
        x, y : float
            Position, in pixels.

        Returns
        -------
        dx, dy : float
            Its move, in pixels.
        """
        ((xx, yy),) = self.apply([[x, y]])
        return float(xx - x), float(yy - y)


def half_turn(shape: tuple[int, int]) -> Transform:
    """Return the exact turn of a frame by 180 degrees about its centre.

    Parameters
    ----------
    shape : tuple of int
        Shape (ny, nx) of the frame.

    Returns
    -------
    Transform
        It takes pixel (0, 0) to (nx - 1, ny - 1).

    Examples
    --------
    >>> half_turn((10, 20)).apply([[0.0, 0.0]]).round(6)
    array([[19.,  9.]])
    """
    ny, nx = shape
    return Transform(math.pi, 1.0, nx - 1.0, ny - 1.0)


def fit_transform(
    source: ArrayLike, target: ArrayLike, weights: ArrayLike | None = None, *, free_scale: bool = False
) -> Transform:
    r"""Fit the transform that takes some positions to others.

    Parameters
    ----------
    source, target : array_like, shape (n, 2)
        Positions (x, y) of the same stars in two frames, in pixels; two stars at least.
    weights : array_like, shape (n,), optional
        Inverse variances, in pixels to the power of -2; all equal if not given.
    free_scale : bool
        Fit the scale too (a similarity); else it is 1 (a rigid motion).

    Returns
    -------
    Transform
        The weighted least-squares solution.

    Raises
    ------
    ValueError
        If there are fewer than two positions, or they all coincide.

    Notes
    -----
    The closed form of Umeyama (1991) in the plane: with centred positions as complex numbers,
    :math:`s e^{i\theta} = \sum w \bar{p} q / \sum w |p|^2`.

    Examples
    --------
    >>> p = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    >>> fit_transform(p, p + (3.0, -1.0)).shift_at(5.0, 5.0)
    (3.0, -1.0)
    """
    p, q = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if len(p) < 2 or p.shape != q.shape:
        raise ValueError(f"A transform is fitted to two positions or more in each frame, not {len(p)} and {len(q)}.")
    w = np.ones(len(p)) if weights is None else np.asarray(weights, dtype=np.float64)
    w = w / w.sum()
    p_mean, q_mean = w @ p, w @ q
    a, b = (p - p_mean) @ (1.0, 1.0j), (q - q_mean) @ (1.0, 1.0j)
    spread = float(np.sum(w * np.abs(a) ** 2))
    if spread == 0:
        raise ValueError("All positions coincide, so no rotation can be told.")
    product = complex(np.sum(w * np.conj(a) * b))
    scale = abs(product) / spread if free_scale else 1.0
    turned = Transform(math.atan2(product.imag, product.real), scale)
    dx, dy = q_mean - turned.matrix @ p_mean
    return Transform(turned.rotation, scale, float(dx), float(dy))
