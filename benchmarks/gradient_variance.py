"""Variance of the gradient on a trained model, every estimator with its surrogates fitted.

    python benchmarks/gradient_variance.py --data PATH
    python benchmarks/gradient_variance.py --data PATH --seeds 3 --estimators "rebar, K = 2" \
        "rebar, antithetic, K = 2" "arms, K = 4"
    python benchmarks/gradient_variance.py --data PATH --seeds 5 --estimators "relax" "disarm" \
        "arms, K = 3" "leave_one_out, K = 3" "double_cv, K = 3" "rodeo, K = 3"

    python benchmarks/gradient_variance.py --data PATH --model categories --seeds 3

The nonlinear MNIST autoencoder (200 Bernoulli latents, or 20 choices among ten categories; dynamic
binarisation, batches of 100) trains with relax. Then the model stays fixed: the surrogates of every
contestant train for some thousand steps on fresh batches (those of relax go on, all others start
anew), and each draws gradients of one batch, on which all is held fixed but the samples. The figure
is the variance of the gradient of the mean loss, summed over the examples of a batch as the papers
do (times batch^2), averaged over the weights of the encoder.
"""

from __future__ import annotations

import argparse
import itertools
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from contestants import BATCH, CONTESTANTS, batches, evaluations, load_images, model_for
from tqdm import tqdm

import tf_relax
from tf_relax import audit
from tf_relax._src.audit.moments import Moments
from tf_relax.surrogates import is_surrogate_variable


def encoder_variables(model: tf_relax.RelaxModel) -> set[str]:
    """Returns the paths of everything between the image and the logits."""
    layers = [layer for layer in model.layers if layer.name.startswith(("encoder", "logits"))]
    return {variable.path for layer in layers for variable in layer.trainable_variables}


def fit_surrogates(model: tf_relax.RelaxModel, data: tf.data.Dataset, steps: int) -> None:
    """Trains the surrogates of the model's estimator, and its baselines, at a fixed model."""
    fitted = [v for v in model.trained_variables if is_surrogate_variable(v)]
    optimizer = keras.optimizers.Adam(1e-3, beta_2=0.99999)
    optimizer.build(fitted or model.trainable_variables[:1])

    @tf.function(jit_compile=True, autograph=False)
    def step(x: tf.Tensor) -> None:
        result = model.differentiate(x, x)
        pairs = zip(result.gradients, result.variables, strict=True)
        if fitted:
            optimizer.apply([g for g, v in pairs if is_surrogate_variable(v)], fitted)

    for x, _ in data.take(steps):
        step(x)


def variances(model: tf_relax.RelaxModel, x: tf.Tensor, draws: int) -> tuple[float, float]:
    """Returns the variance per encoder weight (sum over the batch) and per logit."""
    wanted = encoder_variables(model)

    @tf.function(jit_compile=True, autograph=False)
    def draw() -> tuple[list[tf.Tensor], tf.Tensor]:
        step = model.differentiate(x, x)
        pairs = zip(step.variables, step.gradients, strict=True)
        return [g for v, g in pairs if v.path in wanted], step.logit_gradients[0]

    of_weights, of_logits = Moments(), Moments()
    for _ in range(draws):
        weights, logits = draw()
        of_weights.add(np.concatenate([g.numpy().ravel() for g in weights]))
        of_logits.add(logits.numpy())
    return of_weights.mean_variance * BATCH**2, of_logits.mean_variance


def trained_model(images: np.ndarray, kind: str, seed: int, steps: int) -> tf_relax.RelaxModel:
    """Returns the autoencoder after some steps with relax."""
    model = model_for(CONTESTANTS[kind]["relax"], images.mean(axis=0), seed, kind)
    model.fit(batches(images, seed), steps_per_epoch=steps, shuffle=False, verbose=0)
    return model


def measure(
    images: np.ndarray, names: list[str], seed: int, arguments: argparse.Namespace
) -> dict[str, tuple[float, float]]:
    """Trains one model and measures all contestants on it."""
    model = trained_model(images, arguments.model, seed, arguments.steps)
    x, _ = next(iter(batches(images, seed + 1000)))
    result = {}
    for name in tqdm(names, desc=f"seed {seed}"):
        with model.using(CONTESTANTS[arguments.model][name]):
            fit_surrogates(model, batches(images, seed + 1), arguments.surrogate_steps)
            result[name] = variances(model, x, arguments.draws)
    return result


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Runs the benchmark and returns, per contestant, the variances of every seed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--dataset", default="mnist")
    parser.add_argument("--data", help="local copy of the data")
    parser.add_argument("--model", choices=CONTESTANTS, default="nonlinear", help="what it draws")
    parser.add_argument("--estimators", nargs="+", help="all unbiased ones if not given")
    parser.add_argument("--steps", type=int, default=10_000, help="of training")
    parser.add_argument("--surrogate-steps", type=int, default=3_000, help="at the fixed model")
    parser.add_argument("--draws", type=int, default=500)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--audit", action="store_true", help="audit the trained model instead")
    arguments = parser.parse_args(argv)

    all_of_them = CONTESTANTS[arguments.model]
    unbiased = [k for k, one in all_of_them.items() if one.unbiased and "vimco" not in k]
    names = arguments.estimators or unbiased
    if unknown := set(names) - set(all_of_them):
        parser.error(f"there are no estimators {sorted(unknown)} in {list(all_of_them)}")
    images = load_images(arguments.dataset, arguments.data)
    if arguments.audit:
        model = trained_model(images, arguments.model, 0, arguments.steps)
        x, _ = next(iter(batches(images, 1000)))
        contestants = {name: all_of_them[name] for name in names}
        report = audit(model, x, x, contestants, num_samples=arguments.draws)
        print(report)
        return report.to_dict()
    result: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    for seed in range(arguments.first_seed, arguments.first_seed + arguments.seeds):
        one = measure(images, names, seed, arguments)
        for name, values in one.items():
            result[name].append(values)
            per_weight, per_logit = values
            tqdm.write(
                f"seed {seed} {name:>28}: {per_weight:.5g} per weight, {per_logit:.4g} per logit"
            )
    print(
        "| estimator | evaluations | variance per encoder weight | per logit |\n|---|---|---|---|"
    )
    means = {name: np.mean(values, axis=0) for name, values in result.items()}
    for name, (per_weight, per_logit) in sorted(means.items(), key=lambda item: item[1][0]):
        count = evaluations(all_of_them[name])
        print(f"| {name} | {count} | {per_weight:.5g} | {per_logit:.4g} |")
    if "relax" in means:
        for other in ("disarm", "leave_one_out, K = 3"):
            if other in means:
                print(f"relax / {other}: {means['relax'][0] / means[other][0]:.3f}")
    for samples in (2, 3):
        order = [f"{kind}, K = {samples}" for kind in ("rodeo", "double_cv", "leave_one_out")]
        for quieter, louder in itertools.pairwise(order):
            _compare(result, quieter, louder)
        _compare(result, f"arms, K = {samples}", f"leave_one_out, K = {samples}")
    for other in ("arms, K = 4", "rebar, K = 2", "leave_one_out, K = 4"):  # four evaluations
        for pair in ("rebar, antithetic, K = 2", "relax, objective, antithetic, K = 2"):
            _compare(result, pair, other)
    return result


def _compare(result: dict[str, list[tuple[float, float]]], quieter: str, louder: str) -> None:
    if quieter in result and louder in result:
        pairs = zip(result[quieter], result[louder], strict=True)
        ratios = [a[0] / b[0] for a, b in pairs]
        print(f"{quieter} / {louder}: " + ", ".join(f"{ratio:.3f}" for ratio in ratios))


if __name__ == "__main__":
    main()
