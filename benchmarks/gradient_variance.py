"""Variance of the gradient per logit on a trained model: relax beside leave-one-out.

    python examples/binary_vae.py --dataset mnist --data PATH --steps 60000
    python benchmarks/gradient_variance.py saved_models/mnist_linear1_relax.keras --data PATH

All is held fixed but the samples; the variance is over draws, averaged over images and logits.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import tf_relax
from tf_relax.estimators import Rebar, Reinforce, Relax
from tf_relax.relaxations.event import along_event

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import datasets


def leave_one_out(model: tf_relax.RelaxModel, images: tf.Tensor, samples: int) -> tf.Tensor:
    """mean_k (f_k - mean_{j != k} f_j) score_k, Kool et al. (2019), for the model's one layer."""
    model.estimator = Reinforce()
    f, scores = [], []
    for _ in range(samples):
        step = model.differentiate(images, images)
        site = step.sites[0]
        f.append(step.objective.f)
        scores.append(site.layer.relaxation.score(site.logits, site.draw))
    others = [(tf.add_n(f) - f_k) / (samples - 1) for f_k in f]
    terms = [along_event(f_k - o, s) * s for f_k, o, s in zip(f, others, scores, strict=True)]
    return tf.add_n(terms) / samples


def single(estimator: tf_relax.estimators.Estimator):
    """Returns a function that estimates with one recorded pass."""

    def estimate(model: tf_relax.RelaxModel, images: tf.Tensor) -> tf.Tensor:
        model.estimator = estimator
        return model.differentiate(images, images).estimate.gradients[0]

    return estimate


def variance(model, estimate, images: tf.Tensor, draws: int, label: str) -> float:
    """Returns the variance over draws, averaged over images and logits."""
    function = tf.function(lambda: estimate(model, images), jit_compile=True)
    count, mean, squares = 0, 0.0, 0.0
    for _ in tqdm(range(draws), desc=label, leave=False):
        g = function().numpy().astype("float64")
        count += 1
        delta = g - mean
        mean = mean + delta / count
        squares = squares + delta * (g - mean)
    return float(np.mean(squares / (count - 1)))


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Runs the benchmark and returns the variances."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", help="a .keras file written by examples/binary_vae.py")
    parser.add_argument("--dataset", choices=datasets.NAMES, default="mnist")
    parser.add_argument("--data", help="local copy of the data")
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args(argv)

    model = keras.saving.load_model(arguments.model)
    train, _, _ = datasets.load(arguments.dataset, arguments.data)
    images = tf.constant(train[: arguments.images])
    contestants = {
        "relax, coupled": single(Relax()),
        "relax, independent": single(Relax(coupled=False)),
        "rebar, coupled": single(Rebar()),
        "reinforce": single(Reinforce()),
        "leave-one-out, 2 samples": lambda model, x: leave_one_out(model, x, 2),
        "leave-one-out, 4 samples": lambda model, x: leave_one_out(model, x, 4),
    }
    result = {}
    for label, estimate in contestants.items():
        result[label] = variance(model, estimate, images, arguments.draws, label)
    for label, value in result.items():
        print(f"{label:>26}: {value:10.4f} per logit")
    coupled = result["relax, coupled"]
    print(f"leave-one-out (2) / relax: {result['leave-one-out, 2 samples'] / coupled:.2f}")
    print(f"coupled / independent: {coupled / result['relax, independent']:.3f}")
    return result


if __name__ == "__main__":
    main()
