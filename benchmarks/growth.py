"""How the cost of a training step grows: with latents, layers, samples and the batch.

    python benchmarks/growth.py
    python benchmarks/growth.py --along latents batch --json growth.json

An autoencoder of 784 pixels with one dense map on either side and Bernoulli layers in a row,
compiled with XLA and trained by `fit`; all else stays at 200 latents, one layer, two samples and a
batch of 100. The sizes take turns. "Power" is the slope of log time over log size between the two
largest: 1 is linear. In a row of layers every level is replayed to the end, so that the evaluations
of all levels together grow with the square of their number.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from step_cost import endless
from tqdm import tqdm

import tf_relax
from tf_relax.estimators import LeaveOneOut, Relax

SIZES = {
    "latents": [50, 200, 1000, 5000],
    "layers": [1, 2, 4, 8],
    "samples": [2, 4, 16, 64],
    "batch": [50, 100, 400, 1600],
}
USUAL = {"latents": 200, "layers": 1, "samples": 2, "batch": 100}


def made(latents: int, layers: int, estimator: Any) -> tf_relax.RelaxModel:
    """Returns a compiled autoencoder."""
    keras.utils.set_random_seed(0)
    x = inputs = keras.Input((784,))
    for _ in range(layers):
        logits = keras.layers.Dense(latents)(x)
        x = tf_relax.layers.RelaxBernoulli(prior="uniform")(logits)
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(784)(x))
    model.compile(
        "adam",
        tf_relax.losses.BernoulliNLL(),
        estimator=estimator,
        jit_compile=True,
        steps_per_execution=10,
    )
    return model


def estimator_of(name: str, samples: int) -> Any:
    """Returns an estimator with a number of samples."""
    if name == "leave_one_out":
        return LeaveOneOut(samples)
    return Relax(surrogate="objective", num_samples=samples, coupling="antithetic")


def measure(along: str, sizes: list[int], name: str, arguments: Any) -> list[float]:
    """Returns the median milliseconds a step for every size."""
    images = (np.random.default_rng(0).random((3200, 784)) < 0.13).astype("float32")
    runs = []
    for size in tqdm(sizes, desc=f"{name}, {along}: compiling"):
        setting = {**USUAL, along: size}
        model = made(setting["latents"], setting["layers"], estimator_of(name, setting["samples"]))
        data = endless(images, setting["batch"])
        model.fit(data, steps_per_epoch=10, verbose=0)
        runs.append((model, data))
    times: list[list[float]] = [[] for _ in runs]
    for _ in range(arguments.rounds):
        for (model, data), each in zip(runs, times, strict=True):
            start = time.perf_counter()
            model.fit(data, steps_per_epoch=arguments.steps, verbose=0)
            each.append(1e3 * (time.perf_counter() - start) / arguments.steps)
    return [statistics.median(each) for each in times]


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Prints and returns the milliseconds a step, by estimator and what grows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--along", nargs="+", choices=SIZES, default=list(SIZES))
    names = ["relax, objective, antithetic", "leave_one_out"]
    parser.add_argument("--estimators", nargs="+", choices=names, default=names)
    parser.add_argument("--at-most", type=int, help="leave out larger sizes")
    parser.add_argument("--steps", type=int, default=50, help="steps per round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path, help="where to write what was measured")
    arguments = parser.parse_args(argv)
    result: dict[str, Any] = {}
    for along in arguments.along:
        for name in arguments.estimators:
            sizes = [s for s in SIZES[along] if not arguments.at_most or s <= arguments.at_most]
            times = measure(along, sizes, name, arguments)
            power = math.log(times[-1] / times[-2]) / math.log(sizes[-1] / sizes[-2])
            result[f"{name}, {along}"] = {"sizes": sizes, "ms": times, "power": power}
            shown = ", ".join(f"{s}: {t:.2f}" for s, t in zip(sizes, times, strict=True))
            print(f"{name} along {along}: {shown} ms; power {power:.2f}", flush=True)
            if arguments.json:
                arguments.json.write_text(json.dumps(result, indent=1))
    return result


if __name__ == "__main__":
    main()
