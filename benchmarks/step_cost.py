"""What a training step costs, for every estimator and for RELAX as a plain nested-tape step.

    python benchmarks/step_cost.py

Nonlinear autoencoder, 784 pixels, 200 Bernoulli latents, batch 100, all steps compiled with XLA and
run by `fit`. The contestants take turns, and the ratios are medians over the rounds, so that a busy
machine disturbs all of them alike.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from contestants import BATCH, ESTIMATORS, model_for
from plain_relax import PlainRelax
from tqdm import tqdm


def contestants(mean_image: np.ndarray, names: list[str]) -> dict[str, keras.Model]:
    """Returns compiled models by name."""
    models = {name: model_for(ESTIMATORS[name], mean_image, seed=0) for name in names}
    keras.utils.set_random_seed(0)
    plain = PlainRelax(mean_image)
    plain.compile(keras.optimizers.Adam(1e-3), jit_compile=True, steps_per_execution=10)
    return {**models, "plain nested tapes": plain}


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the benchmark and returns the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=200, help="steps per round")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--output", type=Path, help="write the milliseconds a step as JSON")
    parser.add_argument("--estimators", nargs="+", choices=ESTIMATORS, default=list(ESTIMATORS))
    arguments = parser.parse_args(argv)

    rng = np.random.default_rng(0)
    images = (rng.random((5000, 784)) < 0.13).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, images)).repeat()
    data = data.batch(BATCH, drop_remainder=True).prefetch(20)
    names = dict.fromkeys([*arguments.estimators, "straight_through", "relax"])
    models = contestants(images.mean(axis=0), list(names))

    def seconds(model: keras.Model) -> float:
        start = time.perf_counter()
        model.fit(data, steps_per_epoch=arguments.steps, epochs=1, shuffle=False, verbose=0)
        return (time.perf_counter() - start) / arguments.steps

    for model in tqdm(models.values(), desc="compiling"):
        seconds(model)
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in tqdm(range(arguments.rounds), desc="rounds"):
        for name, model in models.items():
            times[name].append(seconds(model))

    def ratio(name: str, reference: str) -> float:
        return statistics.median(a / b for a, b in zip(times[name], times[reference], strict=True))

    for name, values in times.items():
        print(f"{name:>27}: {1e3 * statistics.median(values):6.2f} ms a step")
    if arguments.output:
        medians = {name: 1e3 * statistics.median(values) for name, values in times.items()}
        arguments.output.write_text(json.dumps(medians))
    ratios = {
        "relax / straight_through": ratio("relax", "straight_through"),
        "relax / plain nested tapes": ratio("relax", "plain nested tapes"),
    }
    for label, value in ratios.items():
        print(f"{label:>30}: {value:.2f}")
    return ratios


if __name__ == "__main__":
    main()
