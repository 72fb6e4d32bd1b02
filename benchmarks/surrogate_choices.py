"""Which temperature, scale and network a surrogate should start from: variance against cost.

    python benchmarks/surrogate_choices.py --data PATH

The nonlinear MNIST autoencoder trains with relax; then, at that fixed model, new surrogates of
every kind train for some thousand steps from their initial values, and the variance of the gradient
per encoder weight is measured on one batch as in `gradient_variance.py`. "Untrained" is the
variance before those steps: what the first steps of a training run see.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from contestants import batches, load_images, model_for
from gradient_variance import fit_surrogates, variances
from tqdm import tqdm

import tf_relax
from tf_relax.estimators import Relax
from tf_relax.surrogates import Network, Objective, Sum

# label -> (surrogate, temperature, scale)
CHOICES: dict[str, tuple[Any, float, float]] = {
    "default: sum, (50,), t = 0.1, scale 1": (None, 0.1, 1.0),
    "t = 0.02": (None, 0.02, 1.0),
    "t = 0.05": (None, 0.05, 1.0),
    "t = 0.2": (None, 0.2, 1.0),
    "t = 0.5": (None, 0.5, 1.0),
    "t = 1": (None, 1.0, 1.0),
    "scale 0.5": (None, 0.1, 0.5),
    "scale 0.9": (None, 0.1, 0.9),
    "sum, network (200, 200)": ((200, 200), 0.1, 1.0),
    "sum, network (200,)": ((200,), 0.1, 1.0),
    "sum, network (400, 400)": ((400, 400), 0.1, 1.0),
    "objective": ("objective", 0.1, 1.0),
    "network (200, 200) alone": ("network", 0.1, 1.0),
}


def surrogate_of(kind: Any) -> tf_relax.surrogates.Surrogate:
    """Returns a new surrogate."""
    if isinstance(kind, str):
        return tf_relax.surrogates.get(kind)
    return Sum() if kind is None else Sum([Objective(), Network(kind)])


def with_surrogate(
    trained: tf_relax.RelaxModel, mean_image: np.ndarray, choice: tuple[Any, float, float]
) -> tf_relax.RelaxModel:
    """Returns the trained autoencoder with another surrogate, untrained."""
    kind, temperature, scale = choice
    estimator = Relax(surrogate=surrogate_of(kind), temperature=temperature, scale=scale)
    model = model_for(estimator, mean_image, seed=0)
    model.set_weights(trained.get_weights())
    return model


def main(argv: list[str] | None = None) -> dict[str, tuple[float, float, float]]:
    """Runs the benchmark and returns untrained and trained variance and milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="local copy of the data")
    parser.add_argument("--choices", nargs="+", choices=CHOICES, default=list(CHOICES))
    parser.add_argument("--steps", type=int, default=10_000, help="of training")
    parser.add_argument("--surrogate-steps", type=int, default=3_000, help="at the fixed model")
    parser.add_argument("--draws", type=int, default=200)
    arguments = parser.parse_args(argv)

    images = load_images(arguments.dataset, arguments.data)
    mean_image = images.mean(axis=0)
    trained = model_for(Relax(), mean_image, seed=0)
    trained.fit(batches(images, 0), steps_per_epoch=arguments.steps, shuffle=False, verbose=0)
    x, _ = next(iter(batches(images, 1000)))
    result = {}
    print("| surrogate | untrained | trained | final t | final scale | ms a step |")
    print("|---|---|---|---|---|---|")
    for label in tqdm(arguments.choices):
        model = with_surrogate(trained, mean_image, CHOICES[label])
        untrained, _ = variances(model, x, arguments.draws)
        fit_surrogates(model, batches(images, 1), arguments.surrogate_steps)
        fitted, _ = variances(model, x, arguments.draws)
        milliseconds = _milliseconds(model, x)
        code = model.estimator_state["code"]
        final = ("", "")
        if code.scale is not None:  # the objective is part of the surrogate
            final = (f"{float(code.temperature):.3f}", f"{float(code.scale):.3f}")
        result[label] = untrained, fitted, milliseconds
        tqdm.write(
            f"| {label} | {untrained:.4g} | {fitted:.4g} | {' | '.join(final)} "
            f"| {milliseconds:.2f} |"
        )
    return result


def _milliseconds(model: keras.Model, x: tf.Tensor, repetitions: int = 100) -> float:
    data = tf.data.Dataset.from_tensors((x, x)).repeat()
    model.fit(data, steps_per_epoch=10, shuffle=False, verbose=0)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        model.fit(data, steps_per_epoch=repetitions, shuffle=False, verbose=0)
        times.append(1e3 * (time.perf_counter() - start) / repetitions)
    return statistics.median(times)


if __name__ == "__main__":
    main()
