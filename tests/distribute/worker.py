"""One of several processes that train a model together, over the loopback interface.

    python -m tests.distribute.worker index port,port,... folder

Weights, losses and what it predicts are written to the folder.
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


def trained(estimator, strategy, rows=21, jit_compile=False):
    """A model after 17 epochs; of 21 rows, the last step has fewer; what there is of it."""
    x, y = data(rows)
    with strategy.scope():
        made = model(estimator, jit_compile=jit_compile)
    history = made.fit(x, y, batch_size=8, epochs=17, shuffle=False, verbose=0).history["loss"]
    found = {f"{estimator}_{k}": w for k, w in enumerate(made.get_weights())}
    learned = made.estimator_state.variables
    found |= {f"{estimator}_learned_{k}": np.asarray(v) for k, v in enumerate(learned)}
    return made, {**found, f"{estimator}_loss": np.array(history)}


def main(index, ports, folder):
    workers = [f"127.0.0.1:{port}" for port in ports]
    task = {"type": "worker", "index": index}
    os.environ["TF_CONFIG"] = json.dumps({"cluster": {"worker": workers}, "task": task})
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    keras.config.set_floatx("float64")
    _, found = trained("exact", strategy)
    made, of_relax = trained("relax", strategy, rows=16, jit_compile=True)
    found |= of_relax
    found["predicted"] = made.predict(np.zeros((64, 3)), batch_size=64, verbose=0)
    found["evaluated"] = np.array(made.evaluate(*data(21), batch_size=8, verbose=0))
    np.savez(folder / f"{index}.npz", **found)


if __name__ == "__main__":
    ports = [int(port) for port in sys.argv[2].split(",")]
    main(int(sys.argv[1]), ports, pathlib.Path(sys.argv[3]))
