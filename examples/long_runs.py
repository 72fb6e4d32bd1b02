"""Training runs of hours, which go on where they were stopped, and the bound along the way."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import tf_relax


class Checkpoint(NamedTuple):
    """What a run had reached.

    Attributes:
        step: of training.
        seconds: of training, evaluations left out.
        bound: the ELBO of the images that were held against it, in nats.
    """

    step: int
    seconds: float
    bound: float


def train(
    model: tf_relax.RelaxModel,
    batches: tf.data.Dataset,
    images: np.ndarray,
    steps: int,
    checkpoints: int,
    folder: Path,
    settings: dict[str, Any],
) -> list[Checkpoint]:
    """Trains a model, or goes on with what another process left in the folder.

    Args:
        model: a compiled autoencoder.
        batches: that never end.
        images: whose bound is computed at every checkpoint.
        steps: in all.
        checkpoints: as many, evenly spaced; a run goes on from the last.
        folder: of this run alone.
        settings: whatever else tells one run from another.

    Raises:
        ValueError: if the folder holds a run of other settings.
    """
    every = max(1, steps // checkpoints)
    _claim(folder, {**settings, "every": every})
    log = folder / "log.csv"
    if len(found := read(log, every)) < checkpoints:
        model.fit(
            batches,
            epochs=checkpoints,
            steps_per_epoch=every,
            shuffle=False,  # the batches are
            validation_data=(images, images),
            validation_batch_size=500,
            verbose=0,
            callbacks=[
                Duration(),
                keras.callbacks.CSVLogger(log, append=True),
                # Last, so that what has been backed up has been logged; kept, so that a complete
                # run can be made longer.
                tf_relax.callbacks.BackupAndRestore(folder / "backups", delete_checkpoint=False),
            ],
        )
        found = read(log, every)
    return found


def _claim(folder: Path, settings: dict[str, Any]) -> None:
    """Writes the settings of a run into its folder, or compares them with those of the last."""
    file = folder / "settings.json"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(settings))
        return
    earlier = json.loads(file.read_text())
    if earlier != settings:
        raise ValueError(
            f"{folder} holds a run of {earlier}, and this one is of {settings}. Choose another "
            "folder with --output."
        )


def read(log: Path, every: int) -> list[Checkpoint]:
    """Returns the checkpoints of a run, none of them twice.

    Args:
        log: the file that `train` writes.
        every: steps from one to the next.
    """
    if not log.exists():
        return []
    rows = {int(row["epoch"]): row for row in csv.DictReader(log.read_text().splitlines())}
    result: list[Checkpoint] = []
    for epoch, row in sorted(rows.items()):
        before = result[-1].seconds if result else 0.0
        seconds = before + float(row["seconds"])
        result.append(Checkpoint((epoch + 1) * every, seconds, -float(row["val_loss"])))
    return result


class Duration(keras.callbacks.Callback):
    """Logs the seconds that an epoch has trained, without the evaluation at its end."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._start, self._end = time.perf_counter(), None

    def on_test_begin(self, logs: Any = None) -> None:
        self._end = time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        end = time.perf_counter() if self._end is None else self._end
        logs["seconds"] = end - self._start
