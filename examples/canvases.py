"""Canvases of 60 x 60 pixels: a digit at a random place, and pieces of other digits around it.

Mnih et al. (2014). What `hard_attention.py` reads.
"""

from __future__ import annotations

import keras
import numpy as np

SIDE = 60  # of the canvas
DIGIT, MARGIN = 28, 4  # side of an image, and of the frame around its ink
PIECES, PIECE = 4, 8  # clutter: how many, and the side of each


def digit_images(images: np.ndarray) -> np.ndarray:
    """Brings flat images to bytes of 28 x 28; those of 8 x 8 are doubled and framed."""
    side = round(images.shape[1] ** 0.5)
    images = np.uint8(np.round(255 * images)).reshape(-1, side, side)
    if side == DIGIT:
        return images
    images = images.repeat(2, axis=1).repeat(2, axis=2)
    margin = DIGIT - 2 * side
    before, after = margin // 2, margin - margin // 2
    return np.pad(images, ((0, 0), (before, after), (before, after)))


def place(
    images: np.ndarray, rows: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Makes one canvas for each of the rows: its image, and pieces of other images around it.

    Pieces keep off the middle of the image, which holds the ink: they mislead about the place of
    the digit and leave it legible.

    Returns:
        The canvases, and the upper left corners of the images in them.
    """
    canvases = np.zeros((len(rows), SIDE, SIDE), np.uint8)
    corners = rng.integers(SIDE - DIGIT + 1, size=(len(rows), 2))
    sources = rng.integers(len(images), size=(len(rows), PIECES))
    cuts = rng.integers(MARGIN, DIGIT - MARGIN - PIECE + 1, size=(len(rows), PIECES, 2))
    # More spots than pieces: those on the digit are passed over.
    spots = rng.integers(SIDE - PIECE + 1, size=(len(rows), 6 * PIECES, 2))
    distance = spots - corners[:, None] - MARGIN
    apart = np.any((distance <= -PIECE) | (distance >= DIGIT - 2 * MARGIN), axis=-1)
    order = np.argsort(~apart, axis=1, kind="stable")[:, :PIECES]
    for canvas, row, (y, x), *clutter in zip(
        canvases,
        rows,
        corners,
        sources,
        cuts,
        np.take_along_axis(spots, order[:, :, None], axis=1),
        np.take_along_axis(apart, order, axis=1),
        strict=True,
    ):
        canvas[y : y + DIGIT, x : x + DIGIT] = images[row]
        for source, (v, u), (y, x), free in zip(*clutter, strict=True):
            piece = images[source, v : v + PIECE, u : u + PIECE]
            spot = canvas[y : y + PIECE, x : x + PIECE]
            np.maximum(spot, piece * free, out=spot)
    return canvases, corners


class Canvases(keras.utils.PyDataset):
    """Batches of fresh canvases: no two epochs see the same one."""

    def __init__(
        self, images: np.ndarray, labels: np.ndarray, batches: int, batch_size: int, seed: int
    ):
        super().__init__()
        self.images, self.labels = images, labels
        self.batches, self.batch_size = batches, batch_size
        self.rng = np.random.default_rng(seed)

    def __len__(self) -> int:
        return self.batches

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = self.rng.integers(len(self.images), size=self.batch_size)
        return place(self.images, rows, self.rng)[0], self.labels[rows]
