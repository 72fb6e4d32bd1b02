"""Short tours through twenty cities, drawn city by city by a network that nobody showed one.

A decoder with attention points to the next city; the reward is minus the length of the whole tour,
a NumPy function of the permutation. A tour goes round, so that it may begin anywhere: every one of
the K tours of an example begins in another city, and each is the others' baseline (`leave_one_out`;
Kwon et al. 2020 call that a shared baseline). `unordered_set` compares K different tours from one
city, `relax` adds a surrogate per step.

    python examples/routing.py                                   # an hour on two cores
    python examples/routing.py --estimators leave_one_out unordered_set relax --steps 1500

Prints how much longer the greedy tours are than optimal ones, of instances that were not trained
on, and draws training curves and tours. Optimal tours are found by HiGHS, through SciPy: two edges
at every city, without the round trips that are too short, which are ruled out as they turn up.

References: Kool et al. (2019), arXiv:1803.08475; Kwon et al. (2020), arXiv:2010.16011.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import keras
import numpy as np
import scipy.optimize
import tensorflow as tf
from tqdm import tqdm

import common
import tf_relax
from tf_relax import sequences

CLIP = 10.0  # of logits, so that no city is ruled out too early


@keras.saving.register_keras_serializable(package="routing")
class Pointer(sequences.Decoder):
    """Attends to all cities, and points to the next one: not to one that has been visited."""

    def __init__(self, width: int = 64, blocks: int = 2, heads: int = 4, **kwargs):
        super().__init__(**kwargs)
        self.width, self.blocks, self.heads = width, blocks, heads
        self.embed = keras.layers.Dense(width)
        self.attention = [
            keras.layers.MultiHeadAttention(heads, width // heads) for _ in range(blocks)
        ]
        self.dense = [
            keras.Sequential([keras.layers.Dense(4 * width, "relu"), keras.layers.Dense(width)])
            for _ in range(blocks)
        ]
        self.norms = [keras.layers.LayerNormalization() for _ in range(2 * blocks)]
        self.query = keras.layers.Dense(width)
        self.glimpse = keras.layers.MultiHeadAttention(heads, width // heads)
        self.key = keras.layers.Dense(width, use_bias=False)

    def encode(self, context):
        (cities,) = context
        x = self.embed(cities)
        for k in range(self.blocks):
            x = self.norms[2 * k](x + self.attention[k](x, x))
            x = self.norms[2 * k + 1](x + self.dense[k](x))
        return [x]

    def call(self, inputs):
        x, tokens = inputs
        places = tf.one_hot(tokens, x.shape[1], dtype=x.dtype)
        visited = tf.cumsum(places, axis=1)
        return self._point(x, places[:, :1] @ x, places @ x, visited)

    def begin(self, inputs):
        x, prompt = inputs
        places = tf.one_hot(prompt, x.shape[1], dtype=x.dtype)
        visited = tf.reduce_sum(places, axis=1, keepdims=True)
        first = places[:, :1] @ x
        return self._point(x, first, places[:, -1:] @ x, visited)[:, 0], (x, first, visited)

    def advance(self, token, memory):
        x, first, visited = memory
        place = tf.one_hot(token, x.shape[1], dtype=x.dtype)[:, tf.newaxis]
        visited += place
        return self._point(x, first, place @ x, visited)[:, 0], (x, first, visited)

    def _point(self, x, first, last, visited):
        """Returns the logits of all cities, `[batch, steps, cities]`."""
        seen = visited > 0
        # Where all have been visited nothing is asked any more, but something has to be answered.
        open_to = tf.logical_not(seen) | tf.reduce_all(seen, axis=-1, keepdims=True)
        mean = tf.reduce_mean(x, axis=1, keepdims=True)
        shape = tf.shape(last)
        parts = [tf.broadcast_to(mean, shape), tf.broadcast_to(first, shape), last]
        query = self.query(tf.concat(parts, axis=-1))
        query += self.glimpse(query, x, attention_mask=open_to)
        logits = CLIP * tf.tanh(query @ tf.transpose(self.key(x), [0, 2, 1]) / self.width**0.5)
        return tf.where(open_to, logits, tf.constant(-1e9, logits.dtype))

    def get_config(self):
        config = super().get_config()
        return {**config, "width": self.width, "blocks": self.blocks, "heads": self.heads}


def lengths(cities: np.ndarray, tours: np.ndarray) -> np.ndarray:
    """Returns the lengths of round trips, `[...]`.

    Args:
        cities: `[..., cities, 2]`.
        tours: the order in which they are visited, `[..., cities]`.
    """
    stops = np.take_along_axis(cities, tours[..., np.newaxis], axis=-2)
    steps = stops - np.roll(stops, -1, axis=-2)
    return np.linalg.norm(steps, axis=-1).sum(axis=-1)


@keras.saving.register_keras_serializable(package="routing")
def minus_length(finished: sequences.Finished) -> np.ndarray:
    """The reward: how short a tour is."""
    cities, start = finished.x
    return -lengths(cities, np.concatenate([start, finished.tokens], axis=1))


def optimal(cities: np.ndarray) -> np.ndarray:
    """Returns a shortest round trip, by integer programming."""
    count = len(cities)
    distances = np.linalg.norm(cities[:, np.newaxis] - cities, axis=-1)
    edges = [(i, j) for i in range(count) for j in range(i)]
    incident = np.array([[float(k in edge) for edge in edges] for k in range(count)])
    constraints = [scipy.optimize.LinearConstraint(incident, 2, 2)]
    cost = [distances[edge] for edge in edges]
    while True:
        found = scipy.optimize.milp(
            cost, integrality=np.ones(len(edges)), bounds=(0, 1), constraints=constraints
        )
        taken = [edge for edge, x in zip(edges, found.x, strict=True) if x > 0.5]
        trip = _trip_from(0, taken)
        if len(trip) == count:
            return np.array(trip)
        inside = set(trip)  # a round trip of some cities: two edges at least have to leave it
        leaves = np.array([float((i in inside) != (j in inside)) for i, j in edges])
        constraints.append(scipy.optimize.LinearConstraint(leaves, 2, np.inf))


def _trip_from(start: int, edges: list[tuple[int, int]]) -> list[int]:
    left, trip = set(edges), [start]
    while True:
        edge = next((edge for edge in left if trip[-1] in edge), None)
        if edge is None:
            return trip[:-1] if len(trip) > 1 and trip[-1] == start else trip
        left.discard(edge)
        trip.append(edge[0] if edge[1] == trip[-1] else edge[1])


def batches(cities: int, batch: int, prompts: int, seed: int) -> tf.data.Dataset:
    """Returns endless instances, and where their tours begin: in one city, or each in another."""

    def make(k):
        pair = tf.stack([tf.cast(k, tf.int32), seed])
        places = tf.random.stateless_uniform([batch, cities, 2], pair)
        starts = tf.range(prompts)[:, tf.newaxis] if prompts > 1 else tf.zeros([1], tf.int32)
        shape = tf.concat([[batch], tf.shape(starts)], axis=0)
        return ((places, tf.broadcast_to(starts, shape)),)

    return tf.data.Dataset.counter().map(make).prefetch(8)


def gap(model: sequences.SequenceModel, cities: np.ndarray, best: np.ndarray) -> float:
    """Returns by how much greedy tours from the first city are longer than optimal ones, in %."""
    starts = np.zeros((len(cities), 1), "int32")
    tours = np.concatenate([starts, model.predict([cities, starts], verbose=0)], axis=1)
    return 100 * float((lengths(cities, tours).mean() / best.mean()) - 1)


class Gaps(keras.callbacks.Callback):
    """Measures the gap after every epoch, and what time it took to get there."""

    def __init__(self, cities: np.ndarray, best: np.ndarray):
        super().__init__()
        self.cities, self.best = cities, best
        self.gaps: list[float] = []
        self.seconds: list[float] = []
        self.began = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        self.gaps.append(gap(self.model, self.cities, self.best))
        self.seconds.append(time.perf_counter() - self.began)
        logs["gap"] = self.gaps[-1]


def train(name: str, arguments: argparse.Namespace, test: np.ndarray, best: np.ndarray) -> dict:
    """Trains one model, and returns it with what it reached."""
    keras.utils.set_random_seed(arguments.seed)
    kinds = {
        "leave_one_out": sequences.SequenceLeaveOneOut,
        "unordered_set": sequences.SequenceUnorderedSet,
        "relax": sequences.SequenceRelax,
    }
    model = sequences.SequenceModel(Pointer(arguments.width), arguments.cities - 1)
    rate = keras.optimizers.schedules.CosineDecay(arguments.learning_rate, arguments.steps, 0.05)
    model.compile(
        tf_relax.RelaxOptimizer(keras.optimizers.Adam(rate, clipnorm=1.0), "adam"),
        minus_length,
        kinds[name](arguments.samples),
    )
    prompts = 1 if name == "unordered_set" else arguments.samples
    gaps = Gaps(test, best)
    data = batches(arguments.cities, arguments.batch_size, prompts, arguments.seed)
    epochs = min(arguments.checkpoints, arguments.steps)
    history = model.fit(
        data, epochs=epochs, steps_per_epoch=arguments.steps // epochs, callbacks=[gaps],
        shuffle=False, verbose=arguments.verbose,
    )  # fmt: skip
    return {
        "model": model,
        "gaps": gaps.gaps,
        "steps": [(k + 1) * (arguments.steps // epochs) for k in range(epochs)],
        "seconds": gaps.seconds,
        "length": [-r for r in history.history["reward"]],
    }


def draw(results: dict, test: np.ndarray, trips: np.ndarray, path: Path) -> None:
    """Draws the gaps, and tours of the first model beside optimal ones."""
    figure, [axes] = common.figure(1, 4, width=3.25, height=3.4)
    for name, result in results.items():
        common.curve(axes[0], result["steps"], [result["gaps"]], name)
    axes[0].set(xlabel="steps", ylabel="greedy tours above the optimum, %")
    axes[0].set_ylim(bottom=0)
    axes[0].legend(fontsize=8)
    first, model = next((name, result["model"]) for name, result in results.items())
    own = common.style(first)["color"]
    starts = np.zeros((3, 1), "int32")
    tours = np.concatenate([starts, model.predict([test[:3], starts], verbose=0)], axis=1)
    for axis, cities, tour, trip in zip(axes[1:], test, tours, trips, strict=False):
        for order, style, width in ((trip, "0.8", 5), (tour, own, 1.5)):
            line = cities[[*order, order[0]]]
            axis.plot(line[:, 0], line[:, 1], color=style, linewidth=width)
        axis.scatter(cities[:, 0], cities[:, 1], color="k", s=12, zorder=3)
        excess = 100 * (lengths(cities, tour) / lengths(cities, trip) - 1)
        axis.set(title=f"{excess:.1f} % above the optimum (grey)", xticks=[], yticks=[])
    common.save(figure, path)


def main(argv: list[str] | None = None) -> dict[str, float]:
    """Trains, prints and draws; returns the last gaps in %."""
    parser = common.parser(__doc__, output="outputs/routing", jit=False)
    names = ["leave_one_out", "unordered_set", "relax"]
    parser.add_argument("--estimators", nargs="+", choices=names, default=names[:1])
    parser.add_argument("--cities", type=int, default=20)
    parser.add_argument("--samples", type=int, default=8, help="tours of every example")
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--checkpoints", type=int, default=20)
    parser.add_argument("--test", type=int, default=500, help="instances that gaps are measured on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", type=int, default=2)
    arguments = parser.parse_args(argv)
    if not 2 <= arguments.samples <= arguments.cities:
        parser.error("--samples: at least two tours, and no more than there are cities to begin in")

    test = np.random.default_rng(1000).random((arguments.test, arguments.cities, 2))
    test = test.astype("float32")
    trips = np.array([optimal(cities) for cities in tqdm(test, desc="optimal tours")])
    best = lengths(test, trips)
    print(f"optimal tours: {best.mean():.4f} on average")
    results = {name: train(name, arguments, test, best) for name in arguments.estimators}
    arguments.output.mkdir(parents=True, exist_ok=True)
    print("\n| estimator | tours per step | steps | minutes | above the optimum |")
    print("|---" * 5 + "|")
    for name, result in results.items():
        tours = arguments.batch_size * arguments.samples
        minutes = result["seconds"][-1] / 60
        print(f"| {name} | {tours} | {arguments.steps:,} | {minutes:.1f} "
              f"| {result['gaps'][-1]:.2f} % |")  # fmt: skip
        result["model"].save(arguments.output / f"{name}.keras")
    draw(results, test, trips, arguments.output / "tours.png")
    log = {name: {k: v for k, v in r.items() if k != "model"} for name, r in results.items()}
    (arguments.output / "gaps.json").write_text(json.dumps(log))
    print(f"\nfigure: {arguments.output / 'tours.png'}")
    return {name: result["gaps"][-1] for name, result in results.items()}


if __name__ == "__main__":
    common.run(main, resumes=False)
