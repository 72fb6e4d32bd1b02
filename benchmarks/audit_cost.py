"""How long an audit takes, and what GradientVariance adds to an epoch.

python benchmarks/audit_cost.py
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np

import tf_relax
from tf_relax import audit
from tf_relax.callbacks import GradientVariance


def two_layers(units: int) -> tf_relax.RelaxModel:
    """Returns an autoencoder with two stochastic layers, one after the other."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((784,))
    first = tf_relax.layers.RelaxBernoulli(name="first")(keras.layers.Dense(units)(inputs))
    logits = keras.layers.Dense(units)(first)
    second = tf_relax.layers.RelaxBernoulli(name="second", prior="learned")(logits)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(784)(second))
    model.compile("adam", loss=tf_relax.losses.BernoulliNLL(), jit_compile=True)
    return model


class EpochTimes(keras.callbacks.Callback):
    """Keeps the seconds of every epoch."""

    def __init__(self):
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.seconds.append(time.perf_counter() - self._start)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the benchmark and returns its two figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--units", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=11)
    parser.add_argument("--examples", type=int, default=50_000)
    arguments = parser.parse_args(argv)
    images = (np.random.default_rng(0).random((arguments.examples, 784)) < 0.13).astype("float32")

    model = two_layers(arguments.units)
    start = time.perf_counter()
    report = audit(model, images[:100], images[:100], verbose=0)
    seconds = time.perf_counter() - start
    print(report)
    print(f"audit of five estimators on two layers: {seconds:.0f} s")

    # Both models train in turn, so that a busy machine disturbs them alike.
    times: dict[str, list[float]] = {"plain": [], "observed": []}
    models = {"plain": two_layers(arguments.units), "observed": two_layers(arguments.units)}
    # One callback for all fits: it compiles once, as within a fit of many epochs.
    observers = {"plain": [], "observed": [GradientVariance(images[:100], images[:100])]}
    for _ in range(arguments.epochs + 1):  # the first one compiles
        for name, one in models.items():
            clock = EpochTimes()
            callbacks = [clock, *observers[name]]
            one.fit(images, images, batch_size=100, verbose=0, shuffle=False, callbacks=callbacks)
            times[name].append(clock.seconds[0])
    pairs = zip(times["observed"][1:], times["plain"][1:], strict=True)
    overhead = statistics.median(a / b for a, b in pairs) - 1
    print(f"GradientVariance adds {100 * overhead:.1f} % to an epoch, median of {arguments.epochs}")
    return {"audit_seconds": seconds, "overhead": overhead}


if __name__ == "__main__":
    main()
