"""Where training ends under every dtype policy, with XLA and without.

    python benchmarks/precision.py

prints the objective (minus the ELBO in nats, a mean over many samples) of a small autoencoder with
binary latents at the end of training, and its ratio to that of float32 without XLA. `--policies`,
`--jit` and `--epochs` choose less.
"""

from __future__ import annotations

import argparse
from typing import NamedTuple

import keras
import numpy as np
from tqdm import tqdm

import tf_relax

POLICIES = ("float32", "mixed_float16", "mixed_bfloat16", "float64")
# Two patterns: with more of them runs end in optima of their own, whatever the precision.
EXAMPLES, PIXELS, PROTOTYPES, BITS = 256, 16, 2, 3


class Run(NamedTuple):
    """Where one run ended.

    Attributes:
        policy: dtype policy of the layers.
        jit: whether the step was compiled with XLA.
        objective: minus the ELBO in nats.
        scale: of the loss at the end; 1 where there is none.
    """

    policy: str
    jit: bool
    objective: float
    scale: float


def images() -> np.ndarray:
    """Two patterns with a tenth of their pixels turned over."""
    rng = np.random.default_rng(0)
    prototypes = rng.random((PROTOTYPES, PIXELS)) < 0.5
    turned = rng.random((EXAMPLES, PIXELS)) < 0.1
    return (prototypes[rng.integers(PROTOTYPES, size=EXAMPLES)] ^ turned).astype("float32")


def autoencoder() -> tf_relax.RelaxModel:
    """A few bits between two dense layers."""
    inputs = keras.Input((PIXELS,))
    logits = keras.layers.Dense(BITS)(inputs)
    code = tf_relax.layers.RelaxBernoulli(prior="learned", seed=1)(logits)
    hidden = keras.layers.Dense(16, "tanh")(code)
    # Losses are computed in float32, as Keras advises.
    outputs = keras.layers.Dense(PIXELS, dtype="float32" if _mixed() else None)(hidden)
    return tf_relax.RelaxModel(inputs, outputs)


def _mixed() -> bool:
    return keras.config.dtype_policy().compute_dtype in ("float16", "bfloat16")


def train(policy: str, jit: bool, epochs: int, estimator: str = "relax") -> Run:
    """Trains under a policy, which is set back at the end."""
    before = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64" if policy == "float64" else "float32")
    keras.config.set_dtype_policy(policy)
    try:
        keras.utils.set_random_seed(0)
        model = autoencoder()
        steps = epochs * (EXAMPLES // 32)
        rate = keras.optimizers.schedules.CosineDecay(0.02, steps)
        model.compile(
            keras.optimizers.Adam(rate),
            loss=tf_relax.losses.BernoulliNLL(),
            estimator=estimator,
            jit_compile=jit,
            steps_per_execution=8,
        )
        x = images()
        model.fit(x, x, batch_size=32, epochs=epochs, verbose=0)
        many = np.tile(x, (64, 1))
        objective = model.evaluate(many, many, batch_size=len(many) // 8, verbose=0)
        scale = model.optimizer.scale_loss(np.float32(1))
        return Run(policy, jit, float(objective), float(scale))
    finally:
        keras.config.set_floatx(before[0])
        keras.config.set_dtype_policy(before[1])


def main(argv: list[str] | None = None) -> list[Run]:
    """Runs the benchmark and returns its rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--policies", nargs="+", choices=POLICIES, default=POLICIES)
    parser.add_argument("--jit", nargs="+", choices=["off", "on"], default=["off", "on"])
    parser.add_argument("--epochs", type=int, default=150)
    arguments = parser.parse_args(argv)

    pairs = [(policy, jit == "on") for jit in arguments.jit for policy in arguments.policies]
    runs = [train(*pair, arguments.epochs) for pair in tqdm(pairs, desc="policies")]
    print(f"{'policy':<16}{'jit':<6}{'objective':>10}{'ratio':>9}{'loss scale':>12}")
    for run in runs:
        jit, ratio = "on" if run.jit else "off", run.objective / runs[0].objective
        print(f"{run.policy:<16}{jit:<6}{run.objective:>10.4f}{ratio:>9.4f}{run.scale:>12.0f}")
    return runs


if __name__ == "__main__":
    main()
