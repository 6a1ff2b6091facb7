"""Pictures of solids on a floor, drawn here, each with its exact class, depth map and label map.

A camera looks down on a floor, whose inverse depth is then linear in a picture's rows and columns. One to three
solids stand on it, upright, so that each has the depth of its foot: the nearer, the lower in the picture, the
larger, and the clearer through the haze. Lengths are in picture widths, x to the right and y down from the
upper left corner.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ppap.utils.seeds import name_seed

Array = NDArray[Any]

KINDS = ("disc", "square", "triangle", "ring")
"""The classes, in order; a label map has 0 for the floor and 1 + the class for a solid."""

_MOST = 3
_BATCH = 500
_CELLS = 4
"A side of the grid of `arrangements`."
_SECOND = 0.7
"Side of the other solids, at most, as a share of the largest one's: so the class is beyond doubt."

_COLOURS = np.array(
    [
        (0.86, 0.22, 0.20), (0.96, 0.60, 0.14), (0.95, 0.84, 0.25), (0.24, 0.64, 0.32),
        (0.20, 0.42, 0.82), (0.56, 0.30, 0.72), (0.92, 0.48, 0.68), (0.20, 0.22, 0.28),
    ]
)  # fmt: skip
_FLOORS = np.array([(0.66, 0.52, 0.38), (0.46, 0.56, 0.46), (0.44, 0.50, 0.60)])
_HAZE = np.array((0.90, 0.92, 0.95))


class Shapes(NamedTuple):
    """N pictures: `images` uint8 (N, H, W, 3); `classes` int64 (N,), the kind of the solid that most is seen of;
    `depth` float32 (N, H, W) in [0, 1], larger is nearer; `labels` int64 (N, H, W), 0 the floor, 1 to 4 the kinds.
    """

    images: NDArray[np.uint8]
    classes: Tensor
    depth: Tensor
    labels: Tensor


class _Floors(NamedTuple):
    """Floors of N pictures: depth `at_origin`, its growth `across` and `down` the picture, each (N,); `colour`
    (N, 3) in [0, 1]."""

    at_origin: Array
    across: Array
    down: Array
    colour: Array


class _Solids(NamedTuple):
    """Solids, each (...,): are they `there`, their `shape` (an index of KINDS), the `side` of a square as large, `x` of the centre,
    `foot` (y where they stand), `depth`; and `colour` (..., 3) in [0, 1]."""

    there: Array
    shape: Array
    side: Array
    x: Array
    foot: Array
    depth: Array
    colour: Array


class _Outline(NamedTuple):
    """A kind of solid, of area 1: signed distance of (x, y) from its edge, negative inside; half its width; and
    how high the centre is above the foot."""

    distance: Callable[[Array, Array], Array]
    half_width: float
    height: float


_RADIUS = math.sqrt(1 / math.pi)
_INRADIUS = math.sqrt(1 / math.sqrt(27))
_RIM = math.sqrt(1 / (0.75 * math.pi))  # of a ring whose hole is half as wide

_OUTLINES = (  # in the order of KINDS
    _Outline(lambda x, y: np.hypot(x, y) - _RADIUS, _RADIUS, _RADIUS),
    _Outline(lambda x, y: np.maximum(np.abs(x), np.abs(y)) - 0.5, 0.5, 0.5),
    _Outline(
        lambda x, y: np.maximum(y, math.sqrt(0.75) * np.abs(x) - 0.5 * y) - _INRADIUS,
        math.sqrt(3) * _INRADIUS,
        _INRADIUS,
    ),
    _Outline(lambda x, y: np.abs(np.hypot(x, y) - 0.75 * _RIM) - 0.25 * _RIM, _RIM, _RIM),
)
_HALF_WIDTHS = np.array([outline.half_width for outline in _OUTLINES])
_HEIGHTS = np.array([outline.height for outline in _OUTLINES])
_TALLEST = 1.32  # none reaches beyond the upper edge


def draw(count: int, size: int, seed: int) -> Shapes:
    """Draw the first `count` pictures of a seed, of `size` pixels a side.

    Picture i depends on the seed and i alone; at another size, it is of the same scene.
    """
    floors = _draw_floors(count, name_seed(seed, "floors"))
    solids = _draw_solids(floors, name_seed(seed, "solids"))
    parts = []
    for first in range(0, count, _BATCH):
        batch = slice(first, first + _BATCH)
        some_floors = _Floors(*(value[batch] for value in floors))
        parts.append(_paint(some_floors, _Solids(*(value[batch] for value in solids)), size))
    return Shapes(
        np.concatenate([part.images for part in parts]),
        *(torch.cat(maps) for maps in zip(*(part[1:] for part in parts), strict=True)),
    )


def arrangements(labels: Tensor) -> Tensor:
    """Describe what stands where in label maps (N, H, W): the share of each kind in a grid of cells, float32 (N, 64).

    The numbers are those of the 16 cells, row by row, for each of the four kinds in turn. H and W are 4 or more.
    """
    kinds = torch.arange(1, 1 + len(KINDS))[:, None, None]
    batches = ((few[:, None] == kinds).float() for few in labels.split(_BATCH))
    return torch.cat([F.adaptive_avg_pool2d(batch, _CELLS).flatten(1) for batch in batches])


def _draw_floors(count: int, seed: int) -> _Floors:
    """Draw the floors; row i of the random numbers is picture i's, however many rows there are."""
    numbers = np.random.default_rng(seed).random((count, 7))
    far, near, roll, chosen = numbers[:, :4].T
    top, bottom, across = 0.05 + 0.2 * far, 0.7 + 0.2 * near, 0.16 * (roll - 0.5)
    return _Floors(top - across / 2, across, bottom - top, _tinted(_FLOORS, chosen, numbers[:, 4:]))


def _draw_solids(floors: _Floors, seed: int) -> _Solids:
    """Draw the solids of each picture, (N, 3), the farthest first."""
    count = len(floors.down)
    numbers = np.random.default_rng(seed).random((count, 1 + 8 * _MOST))
    there = np.arange(_MOST) < np.ceil(numbers[:, :1] * _MOST)
    each = numbers[:, 1:].reshape(count, _MOST, 8)
    kinds, sizes, columns, rows, chosen = np.moveaxis(each[..., :5], 2, 0)
    shape = (kinds * len(KINDS)).astype(np.int64)
    foot = 0.5 + 0.47 * rows
    depth = floors.at_origin[:, None] + floors.down[:, None] * foot
    side = _sides(there * np.minimum((0.6 + 0.4 * sizes) * 0.42 * (0.45 + depth), foot / _TALLEST))
    margin = _HALF_WIDTHS[shape] * side + 0.02
    x = margin + (1 - 2 * margin) * columns
    depth = depth + floors.across[:, None] * x
    solids = _Solids(there, shape, side, x, foot, depth, _tinted(_COLOURS, chosen, each[..., 5:]))
    order = np.argsort(depth, axis=1)
    return _Solids(*(value[np.arange(count)[:, None], order] for value in solids))


def _sides(sides: Array) -> Array:
    """Make one solid of each picture clearly the largest."""
    largest = sides.max(axis=1, keepdims=True)
    return np.where(sides < largest, np.minimum(sides, _SECOND * largest), sides)


def _tinted(palette: Array, chosen: Array, tint: Array) -> Array:
    """Choose colours (..., 3) of a palette by numbers in [0, 1), and change each channel by up to 0.05."""
    return np.clip(palette[(chosen * len(palette)).astype(int)] + 0.1 * (tint - 0.5), 0, 1)


def _paint(floors: _Floors, solids: _Solids, size: int) -> Shapes:
    y, x = (np.mgrid[:size, :size][:, None] + 0.5) / size  # centres of pixels, (1, H, W) each
    depth = _of(floors.at_origin) + _of(floors.across) * x + _of(floors.down) * y  # (N, H, W)
    light = _shadows(solids, x, y)[..., None]
    colours = _through_haze(_of(floors.colour) * light, depth)  # (N, H, W, 3)
    owner = np.full(depth.shape, -1)
    for nth in range(_MOST):
        solid = _Solids(*(value[:, nth] for value in solids))
        distance, shade = _seen(solid, x, y)
        lit = _through_haze(_of(solid.colour) * shade[..., None], _of(solid.depth))
        cover = np.clip(0.5 - distance * size, 0, 1)[..., None]
        colours += cover * (lit - colours)
        inside = distance < 0
        owner[inside] = nth
        depth = np.where(inside, _of(solid.depth), depth)
    shapes = np.concatenate([solids.shape, np.full((len(depth), 1), -1)], axis=1)  # the floor last
    pictures = np.arange(len(depth))
    areas = np.stack([(owner == nth).sum((1, 2)) for nth in range(_MOST)], axis=1)
    return Shapes(
        np.rint(np.clip(colours, 0, 1) * 255).astype(np.uint8),
        torch.from_numpy(solids.shape[pictures, areas.argmax(1)]),
        torch.from_numpy(depth.astype(np.float32)),
        torch.from_numpy(1 + shapes[pictures[:, None, None], owner]),
    )


def _seen(solid: _Solids, x: Array, y: Array) -> tuple[Array, Array]:
    """Return, of one solid a picture, the signed distance of each point from its edge, and its brightness there."""
    side = _of(np.where(solid.there, solid.side, 1))
    across = (x - _of(solid.x)) / side
    down = (y - _of(solid.foot)) / side + _of(_HEIGHTS[solid.shape])
    distance = np.full(across.shape, np.inf)
    for kind, outline in enumerate(_OUTLINES):
        mine = solid.there & (solid.shape == kind)
        distance[mine] = outline.distance(across[mine], down[mine])
    return distance * side, 1 - 0.2 * np.clip(across + down, -1, 1)


def _shadows(solids: _Solids, x: Array, y: Array) -> Array:
    """Return the light that is left on the floor at the foot of solids, (N, H, W)."""
    light = np.ones(1)
    for nth in range(_MOST):
        side = _of(np.where(solids.there, solids.side, 1)[:, nth])
        across, down = (x - _of(solids.x[:, nth])) / side, (y - _of(solids.foot[:, nth])) / side
        dark = _of(solids.there[:, nth]) * np.exp(-((across / 0.5) ** 2) - (down / 0.12) ** 2)
        light = light * (1 - 0.4 * dark)
    return light


def _through_haze(colours: Array, depth: Array) -> Array:
    """Fade colours (..., 3) as they are seen from afar."""
    return colours + (_HAZE - colours) * 0.8 * (1 - depth[..., None])


def _of(values: Array) -> Array:
    """Shape numbers or colours of pictures, (N, ...), to be combined with maps (N, H, W, ...)."""
    return values[:, None, None]
