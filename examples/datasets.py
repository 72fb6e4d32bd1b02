"""Image sets for the examples: digits, MNIST, Fashion-MNIST and Omniglot, grey or binarised.

`load` is all that a script needs:

    train, validation, test = datasets.load("mnist", path=arguments.data, binarize="fixed")

`labels` returns what the images show, in the same order.
"""

from __future__ import annotations

import contextlib
import io
import os
import posixpath
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

NAMES = ("digits", "mnist", "fashion_mnist", "omniglot")
LABELLED = NAMES[:3]
BINARIZATIONS = ("fixed", "threshold", "dynamic")

# The last training images are held out. For Omniglot this leaves 23,000 images to train on.
_VALIDATION = {"digits": 200, "mnist": 10_000, "fashion_mnist": 10_000, "omniglot": 1_345}

_OMNIGLOT_URL = "https://github.com/brendenlake/omniglot/raw/master/python/"
_OMNIGLOT_MD5 = {
    "images_background.zip": "68d2efa1b9178cc56df9314c21c6e718",
    "images_evaluation.zip": "6b91aef0f799c5bb55b94e3f2daec811",
}
_OMNIGLOT_TRAIN_DRAWINGS = 15
_OMNIGLOT_SIZE = (28, 28)


def load(
    name: str, path: str | os.PathLike | None = None, binarize: str | None = "fixed"
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loads an image set, downloading it on first use where no local copy is given.

    Args:
        name: `"digits"` (1,797 images of 8 x 8, part of scikit-learn), `"mnist"`, `"fashion_mnist"`
            or `"omniglot"` (28 x 28).
        path: A local copy: an `.npz` file with the arrays `x_train` and `x_test`, as in the file of
            `keras.datasets.mnist`, or a folder that holds `<name>.npz`. The digits need none and
            ignore it.
        binarize: How grey pixels become 0 or 1:

            - `"fixed"`: one Bernoulli draw per pixel with its intensity as the probability, the
              same in every run (NumPy's default generator with seed 0, over the training images in
              file order and then the test images).
            - `"threshold"`: 1 where the intensity exceeds a half.
            - `"dynamic"`: the training images stay grey, to be drawn anew in every epoch (see
              `bernoulli`); the validation and test images are those of `"fixed"`.
            - `None`: all images stay grey.

    Returns:
        Training, validation and test images: float32 arrays `[images, pixels]` with values in
        [0, 1]. The validation images are the last of the training images: 10,000 for MNIST and
        Fashion-MNIST, 1,345 for Omniglot, 200 for the digits, and at most a sixth.
    """
    if name not in NAMES:
        raise ValueError(f"Unknown image set {name!r}: choose one of {', '.join(NAMES)}.")
    if binarize is not None and binarize not in BINARIZATIONS:
        raise ValueError(
            f"Unknown binarisation {binarize!r}: choose one of {', '.join(BINARIZATIONS)}, or None "
            "for grey images."
        )
    if name == "digits":
        raw = _digits()
    elif path is not None:
        raw = _local(name, Path(path).expanduser())
    else:
        raw = _download(name)
    train, test = (_intensities(images) for images in raw)

    # Before the split: which value a pixel gets does not depend on how many images are held out.
    grey_train = train
    if binarize == "threshold":
        train, test = (np.float32(images > 0.5) for images in (train, test))
    elif binarize is not None:
        generator = np.random.default_rng(0)
        train, test = bernoulli(train, generator), bernoulli(test, generator)

    split = _split(name, len(train))
    validation = train[split:]
    train = (grey_train if binarize == "dynamic" else train)[:split]
    return train, validation, test


def labels(
    name: str, path: str | os.PathLike | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Loads the labels of the images that `load` returns.

    Args:
        name: `"digits"`, `"mnist"` or `"fashion_mnist"`; Omniglot's images come without.
        path: as for `load`; the file needs the arrays `y_train` and `y_test` too.

    Returns:
        Training, validation and test labels: int32 arrays `[images]`.
    """
    if name not in LABELLED:
        raise ValueError(f"No labels for {name!r}: choose one of {', '.join(LABELLED)}.")
    if name == "digits":
        train, test = _digits("target")
    elif path is not None:
        train, test = _local(name, Path(path).expanduser(), "y")
    else:
        train, test = _download(name, "y")
    train, test = train.astype(np.int32), test.astype(np.int32)
    split = _split(name, len(train))
    return train[:split], train[split:], test


def _split(name: str, count: int) -> int:
    """Returns how many of the images are left to train on."""
    return count - min(_VALIDATION[name], count // 6)


def bernoulli(intensities: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Draws a 0 or 1 for every pixel, with its intensity as the probability of a 1."""
    return np.float32(generator.random(intensities.shape, dtype=np.float32) < intensities)


def _intensities(images: np.ndarray) -> np.ndarray:
    """Flattens images and brings them to float32 in [0, 1]."""
    flat = images.reshape(len(images), -1)
    if images.dtype == np.uint8:
        return flat.astype(np.float32) / 255
    flat = flat.astype(np.float32)
    # Written so that NaN fails too.
    if not np.all((flat >= 0) & (flat <= 1)):
        raise ValueError(
            f"Images of type {images.dtype} must have values in [0, 1]; these range from "
            f"{flat.min()} to {flat.max()}. Store intensities from 0 to 255 as uint8."
        )
    return flat


def _digits(part: str = "images") -> tuple[np.ndarray, np.ndarray]:
    # Imported where needed: nothing else here asks for scikit-learn.
    from sklearn.datasets import load_digits

    digits = load_digits()
    array = digits.images / 16 if part == "images" else digits[part]
    # Consecutive images have one writer: a plain cut would test on other hands than it trained on.
    array = array[np.random.default_rng(0).permutation(len(array))]
    return array[:-200], array[-200:]


def _local(name: str, path: Path, letter: str = "x") -> tuple[np.ndarray, np.ndarray]:
    file = path / f"{name}.npz" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(
            f"There is no file {file}. Give --data an .npz file with the arrays x_train and x_test "
            f"or a folder that holds {name}.npz, or leave it out to download the images."
        )
    return _read_npz(file, letter)


def _read_npz(file: Path, letter: str = "x") -> tuple[np.ndarray, np.ndarray]:
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{file} is not an .npz file: write one with numpy.savez_compressed.")
    with np.load(file) as arrays:
        names = f"{letter}_train", f"{letter}_test"
        if missing := set(names).difference(arrays):
            kind = "images" if letter == "x" else "labels"
            raise ValueError(
                f"{file} has no array {' and no array '.join(sorted(missing))}, only "
                f"{', '.join(arrays)}. Name the {kind} {' and '.join(names)}."
            )
        train, test = (arrays[name] for name in names)
    if train.shape[1:] != test.shape[1:]:
        raise ValueError(
            f"{file} has training images of shape {train.shape[1:]} and test images of shape "
            f"{test.shape[1:]}: resize one of them."
        )
    return train, test


def _download(name: str, letter: str = "x") -> tuple[np.ndarray, np.ndarray]:
    # Imported where needed: reading a local file should not wait for TensorFlow to start.
    import keras

    if name == "omniglot":
        return _omniglot()
    with _remedy(name):
        train, test = getattr(keras.datasets, name).load_data()
    column = "xy".index(letter)
    return train[column], test[column]


@contextlib.contextmanager
def _remedy(name: str) -> Iterator[None]:
    """Adds to any failed download what the user can do about it."""
    try:
        yield
    # Keras reports failed downloads with a bare Exception.
    except Exception as error:
        raise RuntimeError(
            f"Could not download {name}: {error} Where there is no connection, fetch the images "
            f"elsewhere and pass the .npz file, or the folder that holds {name}.npz, with "
            "--data PATH."
        ) from error


def _omniglot() -> tuple[np.ndarray, np.ndarray]:
    import keras

    with _remedy("omniglot"):
        archives = [
            Path(
                keras.utils.get_file(
                    f"omniglot_{file}",
                    _OMNIGLOT_URL + file,
                    cache_subdir="datasets",
                    file_hash=md5,
                    hash_algorithm="md5",
                )
            )
            for file, md5 in _OMNIGLOT_MD5.items()
        ]
    cache = archives[0].with_name("omniglot_28x28.npz")
    if not cache.exists():
        # Renamed when complete, so that an interrupted run leaves no half-written cache behind.
        unfinished = cache.with_name(f"omniglot_28x28_{os.getpid()}.npz")
        np.savez_compressed(unfinished, **_convert_omniglot(archives))
        unfinished.replace(cache)
    return _read_npz(cache)


def _convert_omniglot(archives: Sequence[Path]) -> dict[str, np.ndarray]:
    """Resizes all drawings and splits those of each character: 15 for training, the rest for tests.

    Which drawings are for training and the order of the images are drawn with a fixed seed.
    """
    drawings: dict[str, list[np.ndarray]] = {}
    for archive in archives:
        with zipfile.ZipFile(archive) as files:
            for file in sorted(files.namelist()):
                if file.endswith(".png"):
                    image = _resize(files.read(file))
                    drawings.setdefault(posixpath.dirname(file), []).append(image)

    generator = np.random.default_rng(0)
    parts: dict[str, list[tuple[np.ndarray, int]]] = {"train": [], "test": []}
    for label, character in enumerate(sorted(drawings)):
        for place, index in enumerate(generator.permutation(len(drawings[character]))):
            part = "train" if place < _OMNIGLOT_TRAIN_DRAWINGS else "test"
            parts[part].append((drawings[character][index], label))

    arrays = {}
    for part, rows in parts.items():
        order = generator.permutation(len(rows))
        arrays[f"x_{part}"] = np.stack([rows[i][0] for i in order])
        arrays[f"y_{part}"] = np.array([rows[i][1] for i in order], np.uint16)
    return arrays


def _resize(png: bytes) -> np.ndarray:
    """Decodes a drawing, black strokes on white, to a small uint8 image with bright strokes."""
    # Imported where needed: only this conversion asks for Pillow.
    from PIL import Image

    with Image.open(io.BytesIO(png)) as image:
        small = image.convert("L").resize(_OMNIGLOT_SIZE, Image.Resampling.LANCZOS)
    return 255 - np.asarray(small)
