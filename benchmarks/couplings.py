"""How three or more antithetic samples of z given b are made: variance and time of each way.

    python benchmarks/couplings.py --data PATH
    python benchmarks/couplings.py --data PATH --steps 10000 --counts 3 4 6

The nonlinear MNIST autoencoder trains for a while with rebar and stays fixed then. At it rebar with
M samples of z given b, its temperature fixed, has them independent, rotated (``u + k/M`` modulo 1),
or by the Dirichlet copula of ARMS, which the package uses for ARMS alone. The variance is that of
`gradient_variance.py`, per encoder weight; the time is one gradient's, all ways taking turns.
"""

from __future__ import annotations

import argparse
import contextlib
import time
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import tensorflow as tf
from contestants import BATCH, batches, load_images, model_for
from gradient_variance import encoder_variables
from tqdm import tqdm

from tf_relax._src.audit.moments import Moments
from tf_relax._src.relaxations.law import Logistic
from tf_relax.estimators import Rebar

WAYS = ("independent", "rotation", "copula")


@contextlib.contextmanager
def coupled_by(way: str) -> Iterator[None]:
    """Lets numbers that repel each other be made by the copula instead of rotation."""
    made = Logistic.exchangeable if way == "copula" else Logistic.repelled
    with mock.patch.object(Logistic, "repelled", made):
        yield


def draws_of(model: Any, way: str, count: int, x: tf.Tensor) -> Any:
    """Returns a compiled function that draws the encoder's gradient of one batch."""
    wanted = encoder_variables(model)
    coupling = "independent" if way == "independent" else "antithetic"
    estimator = Rebar(num_conditional=count, coupling=coupling, learn_temperature=False)

    @tf.function(jit_compile=True, autograph=False)
    def draw() -> tf.Tensor:
        step = model.differentiate(x, x)
        pairs = zip(step.variables, step.gradients, strict=True)
        return tf.concat([tf.reshape(g, [-1]) for v, g in pairs if v.path in wanted], axis=0)

    with model.using(estimator), coupled_by(way):
        draw()
    return draw


def main(argv: list[str] | None = None) -> dict[tuple[int, str], float]:
    """Prints the table; returns the variance by number of samples and way."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="local copy of the data")
    parser.add_argument("--steps", type=int, default=2000, help="of training")
    parser.add_argument("--counts", type=int, nargs="+", default=[3, 4])
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)

    images = load_images(arguments.dataset, arguments.data)
    model = model_for(Rebar(), images.mean(axis=0), arguments.seed)
    data = batches(images, arguments.seed)
    model.fit(data, steps_per_epoch=arguments.steps, shuffle=False, verbose=0)
    x, _ = next(iter(batches(images, arguments.seed + 1000)))
    cases = [(count, way) for count in arguments.counts for way in WAYS]
    drawn = {case: draws_of(model, case[1], case[0], x) for case in tqdm(cases, desc="compiling")}
    moments = {case: Moments() for case in cases}
    seconds: dict[tuple[int, str], list[float]] = {case: [] for case in cases}
    for _ in tqdm(range(arguments.draws), desc="draws"):
        for case in cases:
            start = time.perf_counter()
            gradient = drawn[case]().numpy()
            seconds[case].append(time.perf_counter() - start)
            moments[case].add(gradient)
    print("| samples of z given b | made by | variance per encoder weight | ms a gradient |")
    print("|---|---|---|---|")
    variances = {case: moments[case].mean_variance * BATCH**2 for case in cases}
    for count, way in cases:
        median = 1e3 * float(np.median(seconds[count, way]))
        print(f"| {count} | {way} | {variances[count, way]:.1f} | {median:.2f} |")
    return variances


if __name__ == "__main__":
    main()
