"""Files that are there whole or not at all, and are loaded whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import os
import uuid
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np

_DIGEST = "tf_relax_sha256"
_WEIGHTS, _MODEL = ".weights.h5", ".keras"


class WholeFiles(keras.Model):
    """A model that a kill, a full disk or a damaged file leaves with what there was before.

    A file is written beside its place and moved there when it is complete, so that a process that
    is killed meanwhile leaves the file of before. A file that cannot be loaded leaves the model as
    it was. Files of weights carry a digest of what they contain, as `.keras` files do (they are
    zip archives), so that a damaged one is told from a whole one.
    """

    def save(
        self, filepath: Any, overwrite: bool = True, zipped: bool | None = None, **kwargs: Any
    ) -> None:
        """Saves the model as `keras.Model.save` does, whole or not at all."""
        if zipped is not None:  # which is all that old versions of Keras know
            kwargs["zipped"] = zipped
        with _at_once(filepath, overwrite, _MODEL) as path:
            super().save(path, overwrite=overwrite, **kwargs)

    def save_weights(self, filepath: Any, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the weights as `keras.Model.save_weights` does, whole or not at all."""
        with _at_once(filepath, overwrite, _WEIGHTS) as path:
            super().save_weights(path, overwrite=overwrite, **kwargs)
            if str(path) != str(filepath):
                with h5py.File(path, "r+") as file:
                    file.attrs[_DIGEST] = digest(file)

    def load_weights(self, filepath: Any, *args: Any, **kwargs: Any) -> None:
        """Loads weights as `keras.Model.load_weights` does; if that fails, nothing has changed.

        Args:
            filepath: of a `.weights.h5` or a `.keras` file.
            *args: as of `keras.Model.load_weights`.
            **kwargs: as of `keras.Model.load_weights`.

        Raises:
            OSError: for a file that is damaged, or none of weights.
            ValueError: for the weights of another model.
        """
        _check(filepath)
        restore = self.restorer()
        try:
            super().load_weights(filepath, *args, **kwargs)
        except Exception:
            restore()
            raise

    def restorer(self) -> Callable[[], None]:
        """Returns a function that makes the model what it is now."""
        raise NotImplementedError(f"{type(self).__name__} does not implement `restorer`.")


def check_store(store: Any) -> None:
    """Raises an OSError if Keras reads from a `.keras` file that is damaged.

    Args:
        store: what `load_own_variables` is given.
    """
    archive = getattr(store, "archive", None)
    # Keras goes on with a member of which the archive says that it is not what was written.
    if archive is not None and archive.testzip() is not None:
        raise OSError(_damaged(archive.filename or "the file"))


def digest(file: h5py.File) -> str:
    """Returns the SHA-256 of the names, kinds and values of all that an HDF5 file contains."""
    hashed = hashlib.sha256()

    def add(name: str, item: Any) -> None:
        attributes = sorted((key, str(value)) for key, value in item.attrs.items())
        hashed.update(repr((name, attributes)).encode())
        if isinstance(item, h5py.Dataset):
            array = np.ascontiguousarray(item[()])
            hashed.update(repr((str(array.dtype), array.shape)).encode())
            hashed.update(array.tobytes())

    file.visititems(add)
    return hashed.hexdigest()


def _check(filepath: Any) -> None:
    """Raises an OSError for a file that is not what was written."""
    path = Path(filepath)
    if "://" in str(filepath) or not path.is_file():
        return  # Keras's to find
    try:
        if path.name.endswith(_MODEL):
            with zipfile.ZipFile(path) as archive:
                whole = archive.testzip() is None
        elif path.name.endswith(_WEIGHTS):
            with h5py.File(path) as file:
                written = file.attrs.get(_DIGEST)  # files of plain Keras have none
                whole = written is None or written == digest(file)
        else:
            return
    except Exception as error:  # of whatever kind: HDF5 meets damage anywhere
        raise OSError(f"{_damaged(filepath)} ({error})") from error
    if not whole:
        raise OSError(_damaged(filepath))


def _damaged(filepath: Any) -> str:
    return (
        f"'{filepath}' is damaged, cut short, or no file of weights; the model is what it was. "
        "Load an older file."
    )


@contextlib.contextmanager
def _at_once(filepath: Any, overwrite: bool, suffix: str) -> Iterator[Any]:
    """Yields where to write a file to, and moves it to its place at the end of a `with` block."""
    local = isinstance(filepath, (str, os.PathLike)) and "://" not in str(filepath)
    asks = local and not overwrite and os.path.exists(filepath)
    if not local or asks or not str(filepath).endswith(suffix):
        yield filepath  # what Keras writes, or refuses, in its own way
        return
    path = Path(os.path.realpath(filepath))
    temporary = path.with_name(f".{uuid.uuid4().hex}-{path.name}")
    try:
        yield temporary
        with open(temporary, "rb") as written:
            os.fsync(written.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """Returns the files that killed processes were writing in a folder."""
    return [path for path in folder.glob(".*-*") if len(path.name.split("-")[0]) == 33]
