"""Training that goes on, to the bit, where a process was killed."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.compat import build_metrics, start_at_epoch
from tf_relax._src.whole_files import leftovers

_SUFFIX = ".weights.h5"
_KEPT = 2


class BackupAndRestore(keras.callbacks.Callback):
    """Backs up a training run, and lets the same `fit` of another process go on from there.

    As `keras.callbacks.BackupAndRestore` does, but to the bit: a run that was killed at any moment,
    while a backup was being written too, ends with the weights of one that was not. The file names
    the epoch and the batch that it was written after, and is moved to its place when it is
    complete; the one before is kept for as long. A run that goes on in the middle of an epoch
    passes over the batches that it has trained on already.

    It takes a model that saves what its training goes on from, as a `RelaxModel` does (weights,
    what estimators learn, optimizers, seeds, metrics); data in an order that follows from the seed
    (arrays shuffled by `fit` after `keras.utils.set_random_seed`, for example); and the same
    program. What other callbacks remember, such as the patience of `EarlyStopping`, starts anew.

    Args:
        backup_dir: folder for the backups, of this run alone. Under
            `MultiWorkerMirroredStrategy` one for all workers, or one on each machine.
        save_freq: `"epoch"`, or a number of batches.
        delete_checkpoint: whether a run that comes to its end removes its backups.
        continuous: whether the data of an epoch continue those of the last, as a repeated
            `tf.data.Dataset` does with `steps_per_epoch`, instead of starting anew.

    Raises:
        ValueError: for another `save_freq`; from `fit`, if the folder has backups of another model,
            or if workers have none of the same batch.

    Example:

    >>> import keras, numpy as np, tempfile, tf_relax
    >>> layers = [keras.layers.Dense(4), tf_relax.layers.RelaxBernoulli()]
    >>> model = tf_relax.RelaxModel([keras.Input((8,)), *layers])
    >>> model.compile("adam", loss="mse")
    >>> x = np.ones((16, 8), "float32")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     backup = BackupAndRestore(folder, save_freq=1)
    ...     history = model.fit(x, x[:, :4], batch_size=8, callbacks=[backup], verbose=0)
    """

    def __init__(
        self,
        backup_dir: str | Path,
        save_freq: str | int = "epoch",
        delete_checkpoint: bool = True,
        continuous: bool = False,
    ):
        super().__init__()
        batches = 0 if isinstance(save_freq, (str, bool)) else save_freq
        if save_freq != "epoch" and not (isinstance(batches, int) and batches > 0):
            raise ValueError(
                "BackupAndRestore: `save_freq` must be 'epoch' or a number of batches. Received: "
                f"{save_freq!r}"
            )
        self.backup_dir = Path(backup_dir)
        self.save_freq = save_freq
        self._batches_between = batches  # 0 for epochs
        self.delete_checkpoint = delete_checkpoint
        self.continuous = continuous

    def on_train_begin(self, logs: Any = None) -> None:
        self.backup_dir.mkdir(parents=True, exist_ok=True)
        for path in leftovers(self.backup_dir):
            path.unlink(missing_ok=True)
        self._since_backup = 0
        self._restored = self._restore()
        self._epoch = self._batch = self._trained = 0
        if self._restored is not None:
            self._epoch, self._trained = _position(self._restored)
            start_at_epoch(self.model, self._epoch)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch = epoch, 0
        if self._restored is None:
            return
        path, self._restored = self._restored, None
        steps = self.params.get("steps")
        if self.continuous and steps is None:
            raise ValueError("BackupAndRestore(continuous=True) needs `steps_per_epoch` in `fit`.")
        earlier = epoch * steps if self.continuous else 0
        if earlier or self._trained:
            _pass_over(self.model, earlier, self._trained, path)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        steps, done = self.params.get("steps"), self.model.steps_per_execution
        if steps is not None:
            done = min(done, steps - self._batch)
        self._batch += done
        if self._batch <= self._trained:
            return  # was trained before
        self._trained = 0
        self._since_backup += done
        if 0 < self._batches_between <= self._since_backup:
            self._back_up()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._epoch, self._batch, self._trained = epoch + 1, 0, 0
        if self.save_freq == "epoch":
            self._back_up()

    def on_train_end(self, logs: Any = None) -> None:
        if self.delete_checkpoint:
            for path in _backups(self.backup_dir).values():
                path.unlink(missing_ok=True)

    def _back_up(self) -> None:
        self._since_backup = 0
        name = f"epoch-{self._epoch:06d}-batch-{self._batch:09d}{_SUFFIX}"
        self.model.save_weights(self.backup_dir / name)
        for path in list(_backups(self.backup_dir).values())[:-_KEPT]:
            path.unlink(missing_ok=True)

    def _restore(self) -> Path | None:
        """Loads the latest backup that all workers have, and returns it."""
        backups = _backups(self.backup_dir)
        position = _common(self.model.distribute_strategy, max(backups, default=(0, 0)))
        candidates = sorted((known for known in backups if known <= position), reverse=True)
        if _several_workers(self.model.distribute_strategy):
            candidates = candidates[:1]  # an older one would be that of this worker alone
        if position != (0, 0) and position not in backups:
            raise ValueError(
                f"BackupAndRestore: another worker has its last backup of epoch {position[0]}, "
                f"batch {position[1]}, and '{self.backup_dir}' has {sorted(backups)}. Use a folder "
                "that all workers see, or remove the backups of all to start anew."
            )
        if candidates and self.model.optimizer is not None and not self.model.optimizer.built:
            with self.model.distribute_strategy.scope():
                self.model.optimizer.build(self.model.trained_variables)
        for candidate in candidates:
            try:
                self.model.load_weights(backups[candidate])
                for later in (path for known, path in backups.items() if known > candidate):
                    later.unlink(missing_ok=True)  # this run writes them anew
                return backups[candidate]
            except OSError as error:  # damaged, by a disk that lost what it had confirmed
                if candidate == candidates[-1]:
                    raise
                warnings.warn(
                    f"BackupAndRestore goes on from an older backup: {error}", stacklevel=2
                )
        return None


def _position(path: Path) -> tuple[int, int]:
    """Returns the epoch and the batch in it to go on from with a backup."""
    _, epoch, _, batch = path.name.removesuffix(_SUFFIX).split("-")
    return int(epoch), int(batch)


def _backups(folder: Path) -> dict[tuple[int, int], Path]:
    """Returns the backups in a folder by their position, the oldest first."""
    paths = sorted(folder.glob(f"epoch-*-batch-*{_SUFFIX}"))
    return {_position(path): path for path in paths}


def _several_workers(strategy: Any) -> bool:
    return isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy)


def _common(strategy: Any, position: tuple[int, int]) -> tuple[int, int]:
    """Returns the earliest of the positions of all workers."""
    if not _several_workers(strategy):
        return position

    @tf.function
    def everybodys() -> tf.Tensor:
        context = tf.distribute.get_replica_context()
        replica, count = context.replica_id_in_sync_group, context.num_replicas_in_sync
        mine = tf.one_hot(replica, count, dtype=tf.float64)  # whole numbers up to 2^53
        table = mine[:, None] * tf.constant(position, mine.dtype)
        return context.all_reduce(tf.distribute.ReduceOp.SUM, table)

    table = strategy.experimental_local_results(strategy.run(everybodys))[0]
    epoch, batch = min(tuple(row) for row in np.asarray(table).astype(int).tolist())
    return epoch, batch


def _pass_over(model: keras.Model, earlier: int, trained: int, path: Path) -> None:
    """Has the steps of `fit` read batches without training on them.

    Args:
        model: that is being fitted.
        earlier: how many batches to read before the epoch begins.
        trained: how many batches of the epoch to pass over.
        path: of what the model is then.
    """
    train = model.train_function

    def step(iterator: Any) -> Any:
        nonlocal earlier, trained
        now = min(model.steps_per_execution, trained)
        for _ in range(earlier + now):
            data = next(iterator)
        earlier, trained = 0, trained - now
        if trained:
            return {}
        model.train_function = train
        if not now:
            return train(iterator)
        # Metrics have no variables before they have seen a batch, and `fit` has reset them.
        build_metrics(model, data)
        model.load_weights(path)
        return model.get_metrics_result()

    model.train_function = step
