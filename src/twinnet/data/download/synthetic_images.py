"""Synthetic images: ten garments or ten digits drawn by formula, for machines that reach no source.

A shape is the set of points where a function of (u, v) is positive: u to the right, v downwards, the image from -1 to
1 in both, and the value near an edge is the distance to it. Each picture moves, turns, stretches and shades its shape
in another way, so that a network has something to learn. The same seed draws the same pictures.
"""

import gzip
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from twinnet.core.errors import DataError
from twinnet.core.schema import ImageDataset, SyntheticKind
from twinnet.data.formats import idx

CLASSES, SIDE = 10, 28
BATCH = 2000
Shape = Callable[[np.ndarray, np.ndarray], np.ndarray]


def generate(dataset: ImageDataset, folder: Path) -> list[str]:
    """Write the arrays of the data set under `folder`; return the names of the files."""
    folder.mkdir(parents=True)
    for seed, split in enumerate(("train", "test")):
        X, y = dataset.arrays.get(f"X_{split}"), dataset.arrays.get(f"y_{split}")
        if X is None or y is None:
            continue
        if len(dataset.reading.classes or []) != CLASSES or list(X.shape[1:]) != [SIDE, SIDE] or X.member:
            raise DataError(
                f"{dataset.name}: synthetic images are of {CLASSES} classes, {SIDE} x {SIDE}, in IDX files; "
                "expected such arrays, or stand_in: none"
            )
        labels = np.random.default_rng(seed).permutation(np.arange(X.shape[0]) % CLASSES)
        pictures = draw(dataset.stand_in, labels, seed)
        for array, values in ((X, pictures), (y, labels)):
            packed = gzip.compress(idx.encode_idx(values), compresslevel=1, mtime=0)
            (folder / array.file).write_bytes(packed)
    return list(dataset.files)


def draw(kind: SyntheticKind, labels: np.ndarray, seed: int) -> np.ndarray:
    """Return pictures (samples, 28, 28) uint8 of the classes `labels` (samples,), 0 to 9."""
    shapes = GARMENTS if kind is SyntheticKind.garments else DIGITS
    rng = np.random.default_rng(seed)
    pictures = np.empty((len(labels), SIDE, SIDE), np.uint8)
    for label, shape in enumerate(shapes):
        members = np.flatnonzero(labels == label)
        for start in range(0, len(members), BATCH):
            some = members[start : start + BATCH]
            pictures[some] = _pictures(rng, shape, len(some), kind)
    return pictures


def _pictures(rng: np.random.Generator, shape: Shape, n: int, kind: SyntheticKind) -> np.ndarray:
    axis = np.linspace(-1, 1, SIDE, dtype=np.float32)
    v, u = np.meshgrid(axis, axis, indexing="ij")

    def each(low: float, high: float) -> np.ndarray:
        return rng.uniform(low, high, (n, 1, 1)).astype(np.float32)

    turn, width, height = each(-0.12, 0.12), each(0.82, 1.08), each(0.86, 1.08)
    slant = each(-0.2, 0.2) if kind is SyntheticKind.digits else np.float32(0)
    x, y = u - each(-0.1, 0.1), v - each(-0.08, 0.08)
    x, y = (np.cos(turn) * x + np.sin(turn) * y) / width, (np.cos(turn) * y - np.sin(turn) * x) / height
    inside = np.clip(shape(x + slant * y, y) * 14 + 0.5, 0, 1)
    if kind is SyntheticKind.digits:
        return (255 * inside * each(0.8, 1.0)).astype(np.uint8)
    stripes = 1 + each(0, 0.3) * np.sin(each(4, 25) * y + each(0, 6))
    shaded = inside * each(0.35, 0.95) * stripes + inside * 0.08 * rng.standard_normal((n, SIDE, SIDE), np.float32)
    return (255 * np.clip(shaded, 0, 1)).astype(np.uint8)


def _box(u: np.ndarray, v: np.ndarray, left: float, right: float, top: float, bottom: float) -> np.ndarray:
    return np.minimum(np.minimum(u - left, right - u), np.minimum(v - top, bottom - v))


def _disc(u: np.ndarray, v: np.ndarray, x: float, y: float, radius: float) -> np.ndarray:
    return radius - np.hypot(u - x, v - y)


def _union(*parts: np.ndarray) -> np.ndarray:
    return np.maximum.reduce(parts)


def _without(part: np.ndarray, *holes: np.ndarray) -> np.ndarray:
    return np.minimum.reduce([part, *(-hole for hole in holes)])


def _top(u: np.ndarray, v: np.ndarray, sleeve: float, hem: float, width: float) -> np.ndarray:
    """A body with sleeves that hang down to `sleeve`, and a neck."""
    a = np.abs(u)
    arm = _box(a - 0.25 * (v + 0.8), v, 0.3, width + 0.22, -0.8, sleeve)
    return _without(_union(_box(a, v, -1, width, -0.8, hem), arm), _disc(u, v, 0, -0.85, 0.2))


def _shirt(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    buttons = 0.035 - np.hypot(u, np.mod(v, 0.3) - 0.15)
    return _without(_top(u, v, 0.35, 0.8, 0.4), buttons, _box(np.abs(u) + 0.5 * v, v, -1, -0.22, -0.9, -0.45))


def _coat(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return _without(_top(u, v, 0.65, 0.92, 0.46), _box(u, v, -0.04, 0.04, -0.9, 0.95))


def _trouser(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    a = np.abs(u)
    return _union(_box(a, v, -1, 0.36, -0.9, -0.5), _box(a - 0.06 * (v + 0.9), v, 0.06, 0.36, -0.7, 0.92))


def _dress(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    skirt = _box(np.abs(u) - 0.28 * np.maximum(v + 0.1, 0), v, -1, 0.24, -0.9, 0.92)
    return _without(skirt, _disc(u, v, 0, -0.95, 0.14))


def _sneaker(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    heel = _box(u + 0.2 * v, v, -0.85, 0.05, -0.15, 0.4)
    toe = np.minimum(_box(u, v, -0.2, 0.9, -0.5, 0.4), 0.5 * (v + 0.25 - 0.4 * u))
    return _union(heel, toe, _box(u, v, -0.88, 0.92, 0.3, 0.48))


def _sandal(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    sole = np.minimum(_box(u, v, -0.9, 0.9, -0.1, 0.5), 0.09 - np.abs(v - 0.35 + 0.25 * (u < 0) * u * u))
    straps = [0.06 - np.abs(0.8 * (u - x) + 0.5 * (v - 0.1) * side) for x, side in ((-0.5, 1), (0.2, -1), (0.5, 1))]
    return _union(sole, *(np.minimum(strap, _box(u, v, -0.9, 0.9, -0.35, 0.35)) for strap in straps))


def _bag(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    handle = 0.07 - np.abs(np.hypot(u, v + 0.2) - 0.45)
    return _union(_box(np.abs(u) - 0.08 * v, v, -1, 0.75, -0.2, 0.7), np.minimum(handle, -0.2 - v))


def _boot(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    foot = np.minimum(_box(u, v, -0.6, 0.85, 0.05, 0.7), 0.6 * (v + 0.35 - 0.5 * u))
    return _union(_box(u, v, -0.6, 0.05, -0.8, 0.6), foot, _box(u, v, -0.62, -0.35, 0.6, 0.85))


GARMENTS: Sequence[Shape] = (
    lambda u, v: _top(u, v, -0.3, 0.8, 0.42),
    _trouser,
    lambda u, v: _top(u, v, 0.6, 0.75, 0.46),
    _dress,
    _coat,
    _sandal,
    _shirt,
    _sneaker,
    _bag,
    _boot,
)

# Strokes of each digit as lines through points (u, v).
STROKES: dict[int, list[list[tuple[float, float]]]] = {
    0: [[(0, -0.7), (0.38, -0.45), (0.42, 0.4), (0, 0.7), (-0.42, 0.4), (-0.38, -0.45), (0, -0.7)]],
    1: [[(-0.2, -0.5), (0.05, -0.7), (0.05, 0.7)]],
    2: [[(-0.38, -0.45), (0, -0.7), (0.38, -0.4), (0.2, 0), (-0.42, 0.68), (0.45, 0.68)]],
    3: [[(-0.35, -0.6), (0.1, -0.7), (0.35, -0.4), (0, -0.05), (0.4, 0.3), (0.1, 0.7), (-0.4, 0.58)]],
    4: [[(0.2, 0.7), (0.2, -0.7), (-0.45, 0.2), (0.45, 0.2)]],
    5: [[(0.38, -0.68), (-0.32, -0.68), (-0.36, -0.1), (0.1, -0.15), (0.4, 0.25), (0.1, 0.68), (-0.4, 0.6)]],
    6: [[(0.3, -0.68), (-0.2, -0.3), (-0.4, 0.3), (0, 0.68), (0.38, 0.35), (0.1, 0), (-0.36, 0.2)]],
    7: [[(-0.42, -0.66), (0.42, -0.66), (-0.08, 0.7)]],
    8: [
        [(0, -0.05), (0.32, -0.38), (0, -0.7), (-0.32, -0.38), (0, -0.05)],
        [(0, -0.05), (0.4, 0.33), (0, 0.7), (-0.4, 0.33), (0, -0.05)],
    ],
    9: [[(0.36, -0.25), (0, 0), (-0.36, -0.3), (0, -0.68), (0.36, -0.4), (0.34, 0.2), (0.1, 0.7)]],
}


def _digit(label: int) -> Shape:
    def strokes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        nearest: np.ndarray | float = np.inf
        for line in STROKES[label]:
            for (x0, y0), (x1, y1) in pairwise(line):
                dx, dy = x1 - x0, y1 - y0
                along = np.clip(((u - x0) * dx + (v - y0) * dy) / (dx * dx + dy * dy), 0, 1)
                nearest = np.minimum(nearest, (u - x0 - along * dx) ** 2 + (v - y0 - along * dy) ** 2)
        return np.float32(0.1) - np.sqrt(nearest)

    return strokes


DIGITS: Sequence[Shape] = tuple(_digit(label) for label in range(10))
