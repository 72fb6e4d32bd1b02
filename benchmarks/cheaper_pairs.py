"""Whether the second sample of an antithetic pair could cost less than the first.

    python benchmarks/cheaper_pairs.py --data PATH

The nonlinear MNIST autoencoder, trained for a while with antithetic REBAR by the loop of
`by_hand.py`; then, on one batch, what the noise of the gradients in the logits consists of. With
g1 and g2 the estimates of a sample and its reflection, the candidates for one evaluation less are

- the second sample relaxed only: ``dc(z2) - dc(z~2) - c(z~2) score(b2)``, whose mean is zero, added
  to g1 with the best weight there is;
- the second sample hard only: DisARM of the two hard samples, mixed with g1 at the best weight.

The figures are variances summed over the units, averaged over the examples.
"""

from __future__ import annotations

import argparse

import numpy as np
import tensorflow as tf
from by_hand import Autoencoder, control_variate
from contestants import batches, load_images
from tqdm import tqdm


def trained(images: np.ndarray, steps: int) -> Autoencoder:
    """Returns the autoencoder after some steps with two antithetic samples."""
    model = Autoencoder(images.mean(axis=0))
    model.optimizer.build(model.variables)
    model.surrogate_optimizer.build(model.learned)
    step = tf.function(
        lambda x: control_variate(model, x, 2, network=False), jit_compile=True, autograph=False
    )
    for x, _ in tqdm(batches(images, 0).take(steps), total=steps, desc="training"):
        step(x)
    return model


def parts(model: Autoencoder, x: tf.Tensor, a: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns estimates `[4, batch, units]` of one pair, and what is left of f, `[2, batch]`."""
    noise = model.noise(a)
    b, f, c, score, path = [], [], [], [], []
    for z in (a + noise, a - noise):
        b.append(tf.cast(z > 0, a.dtype))
        f.append(model.objective(x, b[-1], a))
        with tf.GradientTape() as tape:
            tape.watch(z)
            y = tf.sigmoid(z * tf.exp(-model.log_temperature.value))
            relaxed = model.scale.value * model.objective(x, y, a) + model.intercept.value
        s = 2 * b[-1] - 1
        d = tf.sigmoid(-s * a) + tf.sigmoid(s * a) * tf.exp(-tf.abs(z))
        c.append(relaxed)
        score.append(b[-1] - tf.sigmoid(a))
        path.append(d * tape.gradient(relaxed, z))
    left = [f[k] - c[k] for k in (0, 1)]
    g = [left[k][:, None] * score[k] + path[k] for k in (0, 1)]
    relaxed_only = path[1] - c[1][:, None] * score[1]
    hard_only = 0.5 * (f[0] - f[1])[:, None] * (b[0] - b[1]) * tf.sigmoid(tf.abs(a))
    return tf.stack([*g, relaxed_only, hard_only]), tf.stack(left)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Prints and returns what was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="local copy of the data")
    parser.add_argument("--steps", type=int, default=3000, help="of training")
    parser.add_argument("--draws", type=int, default=400)
    arguments = parser.parse_args(argv)
    images = load_images(arguments.dataset, arguments.data)
    model = trained(images, arguments.steps)
    x, _ = next(iter(batches(images, 1000)))
    a = model.encoder(x)
    draw = tf.function(lambda: parts(model, x, a), jit_compile=True, autograph=False)
    total, products, left = 0.0, 0.0, []
    for _ in tqdm(range(arguments.draws), desc="draws"):
        g, residuals = draw()
        left.append(residuals.numpy())
        g = g.numpy().astype(np.float64)
        total, products = total + g, products + np.einsum("ibu,jbu->ijbu", g, g)
    mean = total / arguments.draws
    covariances = products / arguments.draws - mean[:, None] * mean[None]
    v = covariances.sum(axis=-1).mean(axis=-1) * arguments.draws / (arguments.draws - 1)
    r = np.stack(left)

    def correlation(i: int, j: int) -> float:
        return v[i, j] / np.sqrt(v[i, i] * v[j, j])

    weight = (v[0, 0] - v[0, 3]) / (v[0, 0] + v[3, 3] - 2 * v[0, 3])
    mixed = (1 - weight) ** 2 * v[0, 0] + weight**2 * v[3, 3] + 2 * weight * (1 - weight) * v[0, 3]
    twins = [np.corrcoef(r[:, 0, i], r[:, 1, i])[0, 1] for i in range(r.shape[2])]
    found = {
        "one sample (2 evaluations)": v[0, 0],
        "antithetic pair (4)": (v[0, 0] + v[1, 1] + 2 * v[0, 1]) / 4,
        "independent pair (4)": (v[0, 0] + v[1, 1]) / 4,
        "second sample relaxed only (3)": v[0, 0] - v[0, 2] ** 2 / v[2, 2],
        "second sample hard only (3)": mixed,
        "weight of hard only": weight,
        "correlation of g1 and g2": correlation(0, 1),
        "correlation of g1 and relaxed only": correlation(0, 2),
        "correlation of g1 and hard only": correlation(0, 3),
        "correlation of f - c of the two": float(np.mean(twins)),
        "squared mean of f - c, as part of its variance": np.mean(r.mean(0) ** 2) / r.var(0).mean(),
    }
    for name, value in found.items():
        print(f"{name:>48}: {value:.4g}")
    return found


if __name__ == "__main__":
    main()
