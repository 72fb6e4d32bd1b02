"""What `estimator="auto"` chooses for every kind of layer, against what it might have chosen.

A small autoencoder of the digits, for each kind of layer and for an objective with a derivative and
without (the same one, computed by NumPy), trains for a while with the choice. At that model an
audit measures the variance of the whole gradient for every candidate. The table shows it relative
to the choice's, at equal evaluations of the objective (variance times evaluations) and at equal
time (variance times milliseconds): below 1 the candidate would have been the better choice.

    python benchmarks/which_estimator.py --kinds bits categories --json choices.json

A fixed model flatters what learns on the way: its surrogates fit this one batch. `--race` trains
new encoders against the decoder of the first, as a black box, and prints where they end.

    python benchmarks/which_estimator.py --race 3000 --kinds bits categories "one choice"

`--train` trains the whole model with everybody instead, and prints where those end.

    python benchmarks/which_estimator.py --train 5000 --kinds bits categories --layers 2
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import tf_relax
from tf_relax import audit
from tf_relax.estimators import LeaveOneOut, Rebar, Relax
from tf_relax.layers import (
    RelaxBernoulli,
    RelaxCategorical,
    RelaxNormal,
    RelaxPermutation,
    RelaxPoisson,
    RelaxSpanningTree,
    RelaxTopK,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
import datasets

# Kind: widths of the logits, and the layer.
KINDS: dict[str, tuple[int, Any]] = {
    "bits": (32, lambda: RelaxBernoulli(prior="learned")),
    "few bits": (3, lambda: RelaxBernoulli(prior="learned")),
    "categories": (40, lambda: RelaxCategorical(prior="learned")),
    "one choice": (20, lambda: RelaxCategorical(prior="uniform")),
    "top 5": (20, lambda: RelaxTopK(5)),
    "permutation": (6, lambda: RelaxPermutation()),
    "matching": (25, lambda: RelaxPermutation(method="matching")),
    "spanning tree": (15, lambda: RelaxSpanningTree()),
    "counts": (16, lambda: RelaxPoisson(prior="learned")),
    "normal": (32, lambda: RelaxNormal(prior="learned")),
}
SHAPES = {"categories": (5, 8), "matching": (5, 5)}

# Beside those that `Auto` considers.
OTHERS: dict[str, Any] = {
    "relax": Relax(),
    "rebar": Rebar(),
    "rebar, antithetic, K = 2": Rebar(num_samples=2, coupling="antithetic"),
    "relax, antithetic, K = 2": Relax(num_samples=2, coupling="antithetic"),
    "relax, objective, antithetic, K = 2": Relax(
        surrogate="objective", num_samples=2, coupling="antithetic"
    ),
    "rebar, antithetic, K = 2, fixed temperature": Rebar(
        num_samples=2, coupling="antithetic", learn_temperature=False
    ),
    "rebar, antithetic, M = 3": Rebar(num_conditional=3, coupling="antithetic"),
    "rebar, antithetic, M = 3, fixed temperature": Rebar(
        num_conditional=3, coupling="antithetic", learn_temperature=False
    ),
    "rebar, antithetic, M = 2": Rebar(num_conditional=2, coupling="antithetic"),
    "rebar, antithetic, K = M = 2, fixed temperature": Rebar(
        num_samples=2, num_conditional=2, coupling="antithetic", learn_temperature=False
    ),
    "relax, network, antithetic, K = 4": Relax(
        surrogate="network", num_samples=4, coupling="antithetic"
    ),
    "rebar, K = 2": Rebar(num_samples=2),
    "leave_one_out, K = 4": LeaveOneOut(4),
    "arms, K = 4": tf_relax.estimators.Arms(4),
    "sb_carms, K = 4": tf_relax.estimators.SbCarms(4),
    "unordered_set, K = 4": tf_relax.estimators.UnorderedSet(4),
}


def numpy_nll(y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    """The Bernoulli negative log-likelihood, as a black box computes it."""
    return (np.logaddexp(0, y_pred) - y_true * y_pred).sum(axis=1)


def make_model(kind: str, layers: int, loss: Any) -> tf_relax.RelaxModel:
    """Returns a compiled autoencoder of the digits with some stochastic layers in a row."""
    width, layer = KINDS[kind]
    x = inputs = keras.Input((64,))
    for _ in range(layers):
        x = keras.layers.Dense(width)(keras.layers.Dense(64, "tanh")(x))
        if kind in SHAPES:
            x = keras.layers.Reshape(SHAPES[kind])(x)
        x = keras.layers.Flatten()(layer()(x))
    outputs = keras.layers.Dense(64)(keras.layers.Dense(64, "tanh")(x))
    model = tf_relax.RelaxModel(inputs, outputs)
    model.compile("adam", loss=loss)
    return model


def measure(kind: str, layers: int, black_box: bool, arguments: Any) -> dict[str, Any]:
    """Trains a model and audits the candidates on it."""
    keras.utils.set_random_seed(arguments.seed)
    train = datasets.load("digits")[0]
    loss = tf_relax.losses.BlackBox(numpy_nll) if black_box else tf_relax.losses.BernoulliNLL()
    model = make_model(kind, layers, loss)
    data = np.random.default_rng(0).permutation(train)
    epochs = max(1, arguments.steps * 100 // len(data))
    if black_box:  # whose decoder, after it, does not learn: let it have learned
        model.compile("adam", loss=tf_relax.losses.BernoulliNLL())
    model.fit(data, data, batch_size=100, epochs=epochs, verbose=0)
    model.compile("adam", loss=loss)
    contestants = {f"auto: {model.estimator}": model.estimator}
    for name, estimator in arguments.estimators.items():
        if repr(estimator) != repr(model.estimator) and _works(model, estimator, black_box):
            contestants[name] = estimator
    report = audit(
        model, data[:50], data[:50], contestants, arguments.draws,
        surrogate_steps=arguments.surrogate_steps, verbose=0,
    )  # fmt: skip
    rows = {
        row.estimator: row for row in report.rows
    }  # the last layer's; of the model is what counts
    return {
        "kind": kind,
        "layers": layers,
        "objective": "black box" if black_box else "differentiable",
        "rows": {
            name: {
                "variance": row.model_variance,
                "evaluations": row.evaluations,
                "milliseconds": row.milliseconds,
            }
            for name, row in rows.items()
        },
    }


def race(kind: str, arguments: Any) -> None:
    """Trains encoders against a fixed decoder that nobody can differentiate."""
    data = np.random.default_rng(0).permutation(datasets.load("digits")[0])
    loss = tf_relax.losses.BernoulliNLL()
    keras.utils.set_random_seed(arguments.seed)
    first = make_model(kind, 1, loss)
    first.fit(data, data, batch_size=100, epochs=60, verbose=0)
    decoder = [layer.get_weights() for layer in first.layers[-2:]]
    print(f"\n{kind}, black box, {arguments.race} steps of a new encoder: mean objective")
    for name, estimator in {"auto": "auto", **arguments.estimators}.items():
        if name != "auto" and not _works(first, estimator, black_box=True):
            continue
        ends = []
        for seed in range(arguments.seeds):
            keras.utils.set_random_seed(seed)
            model = make_model(kind, 1, loss)
            for layer, weights in zip(model.layers[-2:], decoder, strict=True):
                layer.set_weights(weights)
                layer.trainable = False
            model.compile("adam", tf_relax.losses.BlackBox(numpy_nll), estimator=estimator)
            chosen = model.estimator
            repeated = np.tile(data, (arguments.race * 100 // len(data) + 1, 1))
            rows = repeated[: arguments.race * 100]
            model.fit(rows, rows, batch_size=100, verbose=0)
            model.compile("adam", loss)
            ends.append(np.mean([model.evaluate(data, data, verbose=0) for _ in range(5)]))
        label = f"auto: {chosen}" if name == "auto" else name
        print(f"{label:58s} {np.mean(ends):8.3f} +- {np.std(ends):.3f}", flush=True)


def train(kind: str, layers: int, arguments: Any) -> None:
    """Trains whole models on an objective that has a derivative."""
    data = np.random.default_rng(0).permutation(datasets.load("digits")[0])
    rows = np.tile(data, (arguments.train * 100 // len(data) + 1, 1))[: arguments.train * 100]
    loss = tf_relax.losses.BernoulliNLL()
    print(f"\n{kind}, {layers} layer(s), {arguments.train} steps of training: mean objective")
    for name, estimator in {"auto": "auto", **arguments.estimators}.items():
        ends = []
        for seed in range(arguments.seeds):
            keras.utils.set_random_seed(seed)
            model = make_model(kind, layers, loss)
            if name != "auto" and not _works(model, estimator, black_box=False):
                break
            model.compile("adam", loss, estimator=estimator)
            model.fit(rows, rows, batch_size=100, verbose=0)
            ends.append(np.mean([model.evaluate(data, data, verbose=0) for _ in range(5)]))
        if ends:
            label = f"auto: {model.estimator}" if name == "auto" else name
            print(f"{label:58s} {np.mean(ends):8.3f} +- {np.std(ends):.3f}", flush=True)


def _works(model: Any, estimator: Any, black_box: bool) -> bool:
    if black_box and estimator.needs_differentiable_objective:
        return False
    try:
        for layer in model.stochastic_layers:
            estimator.check(layer)
            estimator.build(layer, relaxable=not black_box)
    except ValueError:
        return False
    one = all(len(layer.shapes.logits) == 2 for layer in model.stochastic_layers)
    return one or not isinstance(estimator, tf_relax.estimators.UnorderedSet)


def show(result: dict[str, Any]) -> None:
    """Prints what one audit found."""
    rows = result["rows"]
    choice = next(iter(rows.values()))
    print(f"\n{result['kind']}, {result['layers']} layer(s), {result['objective']}", flush=True)
    print(f"{'estimator':58s} evaluations     ms   variance   x evaluations   x time")
    for name, row in rows.items():

        def relative(key: str, row: Any = row) -> float:
            relative_to = choice["variance"] * choice[key]
            return row["variance"] * row[key] / relative_to if relative_to else float("inf")

        by_evaluations, by_time = relative("evaluations"), relative("milliseconds")
        print(
            f"{name:58s} {row['evaluations']:11d} {row['milliseconds']:6.1f} "
            f"{row['variance']:10.4g} {by_evaluations:15.2f} {by_time:8.2f}"
        )


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--layers", type=int, nargs="+", default=[1])
    parser.add_argument("--objectives", nargs="+", default=["differentiable", "black box"])
    parser.add_argument("--steps", type=int, default=1000, help="of training before the audit")
    parser.add_argument("--surrogate-steps", type=int, default=1000)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--race", type=int, help="steps of encoders against a fixed decoder")
    parser.add_argument("--train", type=int, help="steps of whole models")
    parser.add_argument("--estimators", nargs="+", choices=OTHERS, help="beside `auto`")
    parser.add_argument("--seeds", type=int, default=3, help="of `--race` and `--train`")
    parser.add_argument("--json", help="where to write what was measured")
    arguments = parser.parse_args(argv)
    arguments.estimators = {name: OTHERS[name] for name in arguments.estimators or OTHERS}
    if arguments.race:
        for kind in arguments.kinds:
            race(kind, arguments)
        return
    if arguments.train:
        for layers, kind in itertools.product(arguments.layers, arguments.kinds):
            train(kind, layers, arguments)
        return
    results = []
    for layers in arguments.layers:
        for kind in arguments.kinds:
            for objective in arguments.objectives:
                results.append(measure(kind, layers, objective == "black box", arguments))
                show(results[-1])
                if arguments.json:
                    Path(arguments.json).write_text(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
