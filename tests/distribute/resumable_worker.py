"""One of several processes that train a model together and back it up.

    python -m tests.distribute.resumable_worker index port,port,... folder epochs

What there is in the end is written to the folder.
"""

from __future__ import annotations

import json
import os
import pathlib
import sys

import keras
import numpy as np
import tensorflow as tf

from tests.distribute.mirrored import data, model
from tf_relax.callbacks import BackupAndRestore


def main(index, ports, folder, epochs):
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.config.set_floatx("float64")
    with strategy.scope():
        made = model("nvil", jit_compile=False)
    x, y = data(21)
    callbacks = [
        BackupAndRestore(folder / "backup", save_freq=1, delete_checkpoint=False),
        keras.callbacks.LambdaCallback(
            on_train_batch_end=lambda batch, logs: (folder / f"training-{index}").touch()
        ),
    ]
    made.fit(x, y, batch_size=8, epochs=epochs, verbose=0, callbacks=callbacks)
    held = [*made.variables, *made.estimator_state.variables, *made.optimizer.variables]
    np.savez(folder / f"{index}.npz", *[v.numpy() for v in held])


if __name__ == "__main__":
    ports = [int(port) for port in sys.argv[2].split(",")]
    main(int(sys.argv[1]), ports, pathlib.Path(sys.argv[3]), int(sys.argv[4]))
