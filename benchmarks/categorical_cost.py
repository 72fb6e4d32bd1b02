"""What a training step with categories costs, next to one with as many Bernoulli logits.

    python benchmarks/categorical_cost.py

Nonlinear autoencoder (784 pixels, two tanh layers of 200 units on either side, batch 100) with 200
logits: of 200 Bernoulli units, or of 20 choices among 10 categories. Both steps use RELAX, are
compiled with XLA and run by `fit`. They take turns, in alternating order, and the ratio is the
median over the rounds, so that a busy machine disturbs both alike.
"""

from __future__ import annotations

import argparse
import statistics
import time

import keras
import numpy as np
import tensorflow as tf
from contestants import BATCH, compile_for
from tqdm import tqdm

import tf_relax
from tf_relax.estimators import Relax

LATENTS = 200
PIXELS = 784


def autoencoder(categories: int | None, latents: int = LATENTS) -> tf_relax.RelaxModel:
    """Returns the compiled model; without categories its code is of Bernoulli units."""
    keras.utils.set_random_seed(0)

    def tanh_layers(tensor: keras.KerasTensor) -> keras.KerasTensor:
        for _ in range(2):
            tensor = keras.layers.Dense(latents, activation="tanh")(tensor)
        return tensor

    inputs = keras.Input((PIXELS,))
    logits = keras.layers.Dense(latents)(tanh_layers(inputs))
    if categories is None:
        code = tf_relax.layers.RelaxBernoulli(prior="learned")(logits, context=inputs)
    else:
        logits = keras.layers.Reshape((latents // categories, categories))(logits)
        code = tf_relax.layers.RelaxCategorical(prior="learned")(logits, context=inputs)
        code = keras.layers.Reshape((latents,))(code)
    outputs = keras.layers.Dense(PIXELS)(tanh_layers(code))
    model = tf_relax.RelaxModel(inputs, outputs)
    compile_for(model, Relax())
    return model


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the benchmark and returns the ratio and the milliseconds a step."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--categories", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50, help="steps per round")
    parser.add_argument("--rounds", type=int, default=21)
    arguments = parser.parse_args(argv)
    images = (np.random.default_rng(0).random((2000, PIXELS)) < 0.13).astype("float32")
    data = tf.data.Dataset.from_tensor_slices((images, images)).repeat()
    data = data.batch(BATCH, drop_remainder=True).prefetch(20)
    models = {"bernoulli": autoencoder(None), "categorical": autoencoder(arguments.categories)}

    def seconds(model: keras.Model) -> float:
        start = time.perf_counter()
        model.fit(data, steps_per_epoch=arguments.steps, shuffle=False, verbose=0)
        return (time.perf_counter() - start) / arguments.steps

    for model in tqdm(models.values(), desc="compiling"):
        seconds(model)
    times: dict[str, list[float]] = {name: [] for name in models}
    order = list(models)
    for _ in tqdm(range(arguments.rounds), desc="rounds"):
        for name in order:
            times[name].append(seconds(models[name]))
        order.reverse()
    result = {name: 1e3 * statistics.median(values) for name, values in times.items()}
    for name, value in result.items():
        print(f"{name:>12}: {value:6.2f} ms a step")
    pairs = zip(times["categorical"], times["bernoulli"], strict=True)
    result["categorical / bernoulli"] = statistics.median(a / b for a, b in pairs)
    print(f"categorical / bernoulli: {result['categorical / bernoulli']:.2f}")
    return result


if __name__ == "__main__":
    main()
