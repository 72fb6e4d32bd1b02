"""Slates of items, ranked for a revenue that can be computed but not differentiated.

A query has ten items with features, and the model puts them in an order: a score per item, and a
Plackett-Luce permutation of the scores. A simulated customer looks at six places from the top,

    revenue = sum_k looks_k buys_k price_k,    looks_{k+1} = looks_k (1 - buys_k) patience,
    buys_k = appeal_k satiation^(items of the same category seen before place k),

and leaves with the first purchase. The revenue is a NumPy function of the hard permutation. A
second item of a kind hardly sells, so what an item is worth depends on what stands before it, and
the ideal order of single items, by `appeal * price`, is not the best slate.

All methods train the same scorer on the same number of evaluations of the revenue, `--batch-size`
per step (leave-one-out, and RELAX with K samples, spend K of them on each query):

- score functions: REINFORCE with no, a running and a learned baseline, NVIL, leave-one-out;
- RELAX with a surrogate that is itself a ranking metric: a network per item of the item's labels
  and of what softly stands before it, `sum_j sigmoid((z_j - z_i) / t) labels_j`. It is shaped for
  slates, but is not told the formula of the revenue. It is trained on the variance of the gradient,
  on labels that a training query has and a new query has not; with K samples, each is a baseline
  of the others as well;
- listwise: Plackett-Luce likelihood of the order by `appeal * price` (ListMLE), in its first six
  places. It evaluates no revenue but needs to be told what an item is worth alone.

Learned baselines and surrogates are the same network, with the same learning rate. The scorer's
learning rate is chosen for each method from the same grid, `--learning-rates`, by the revenue on
validation queries; the table and the figure are of other, held-out queries.

`python examples/ranking.py --workers 4` trains every method in a process of its own. References:
Grathwohl et al. (2018), arXiv:1711.00123; Gadetsky et al. (2020), arXiv:1911.10036.
"""

from __future__ import annotations

import functools
import multiprocessing
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import common
import tf_relax
from ranking_results import Result, plot, print_table, row
from tf_relax.estimators import LeaveOneOut, Nvil, Reinforce, Relax

ITEMS, PLACES, CATEGORIES, TASTES = 10, 6, 3, 6
FEATURES = TASTES + CATEGORIES + 1
SATIATION, PATIENCE = 0.1, 0.95
APPEALS = np.array([0.02, 0.1, 0.25, 0.45, 0.7])  # probability of buying, by grade of relevance
CATEGORY_PRICES = np.array([2.0, 1.0, 0.6])
SURROGATE_LEARNING_RATE = 0.01
SLATES = 20  # sampled per query to measure the revenue
CHECKPOINTS = 10

ESTIMATORS = {
    "relax": Relax,
    "relax, K = 2": functools.partial(Relax, num_samples=2),
    "relax, K = 4": functools.partial(Relax, num_samples=4),
    "leave_one_out, K = 2": functools.partial(LeaveOneOut, 2),
    "leave_one_out, K = 4": functools.partial(LeaveOneOut, 4),
    "nvil": Nvil,
    "reinforce, learned baseline": functools.partial(Reinforce, baseline="learned"),
    "reinforce, moving average": functools.partial(Reinforce, baseline="moving_average"),
    "reinforce": Reinforce,
}
METHODS = [*ESTIMATORS, "listwise"]
WITH_NETWORK = ("relax", "relax, K = 2", "relax, K = 4", "nvil", "reinforce, learned baseline")


class Queries(NamedTuple):
    """What the model sees, `[queries, items, FEATURES]`, and labels: appeal, price, category."""

    features: np.ndarray
    labels: np.ndarray


class Setting(NamedTuple):
    """How every method is trained."""

    steps: int
    batch_size: int
    learning_rates: tuple[float, ...]
    seeds: int
    queries: int


def make_queries(count: int, seed: int) -> Queries:
    """Draws queries of one market: the taste that turns features into relevance is the same."""
    taste = np.random.default_rng(1234).normal(size=(CATEGORIES, TASTES))
    rng = np.random.default_rng(seed)
    category = rng.integers(CATEGORIES, size=(count, ITEMS))
    x = rng.normal(size=(count, ITEMS, TASTES))
    relevance = np.sum(x * taste[category], axis=-1) / np.sqrt(TASTES)
    relevance += 0.5 * rng.normal(size=relevance.shape)  # no model can know all of it
    appeal = APPEALS[np.digitize(relevance, [-0.5, 0.3, 0.9, 1.6])]
    price = CATEGORY_PRICES[category] * np.exp(0.4 * rng.normal(size=relevance.shape))
    seen = [x, np.eye(CATEGORIES)[category], np.log(price)[..., np.newaxis]]
    labels = np.stack([appeal, price, category], axis=-1)
    return Queries(np.concatenate(seen, axis=-1).astype("float32"), labels.astype("float32"))


def revenue(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns the expected revenue, `[...]`, of the items in every place, `[..., items]`."""
    order = order[..., :PLACES].astype(int)
    appeal, price, category = (np.take_along_axis(labels[..., k], order, -1) for k in range(3))
    total, looks = np.zeros(order.shape[:-1]), np.ones(order.shape[:-1])
    for k in range(order.shape[-1]):
        alike = np.sum(category[..., :k] == category[..., k : k + 1], axis=-1)
        buys = appeal[..., k] * SATIATION**alike
        total += looks * buys * price[..., k]
        looks *= (1 - buys) * PATIENCE
    return total


def cost(labels: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Returns what is minimised."""
    return -revenue(labels, order)


def build_scorer() -> keras.Model:
    """Returns a score per item, from its features and the maxima of all items' hidden features."""
    features = keras.Input((ITEMS, FEATURES))
    hidden = keras.layers.Dense(32, "relu")(features)
    pooled = keras.layers.RepeatVector(ITEMS)(keras.layers.GlobalMaxPooling1D()(hidden))
    hidden = keras.layers.Dense(32, "relu")(keras.layers.Concatenate()([hidden, pooled]))
    scores = keras.layers.Dense(1, kernel_initializer="zeros")(hidden)
    return keras.Model(features, keras.layers.Reshape((ITEMS,))(scores))


def stands_before(scores: tf.Tensor, items: tf.Tensor, temperature: float = 0.5) -> tf.Tensor:
    """Returns, for every item, the sum of `items` that are softly before it."""
    lead = (scores[:, None, :] - scores[:, :, None]) / temperature
    others = 1 - keras.ops.eye(ITEMS)
    return keras.ops.matmul(keras.ops.sigmoid(lead) * others, items)


def build_surrogate() -> keras.Model:
    """Returns c(z): the sum of a network per item; the logits in place of z make a baseline."""
    z, logits, labels = keras.Input((ITEMS,)), keras.Input((ITEMS,)), keras.Input((ITEMS, 3))
    appeal, price = labels[..., 0:1], labels[..., 1:2]
    category = keras.ops.one_hot(keras.ops.cast(labels[..., 2], "int32"), CATEGORIES)
    ones = keras.ops.ones_like(price)
    items = keras.layers.Concatenate()([appeal, price, category, ones])
    seen = [items, stands_before(z, items), stands_before(logits, items)]
    hidden = keras.layers.Dense(16, "tanh")(keras.layers.Concatenate()(seen))
    hidden = keras.layers.Dense(16, "tanh")(hidden)
    share = keras.layers.Dense(1, kernel_initializer="zeros")(hidden)
    return keras.Model([z, logits, labels], keras.ops.sum(appeal * price * share, axis=1))


def listwise_loss(labels: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Returns -log p of the first places of the order by appeal * price (Xia et al. 2008)."""
    order = tf.argsort(labels[..., 0] * labels[..., 1], direction="DESCENDING")
    scores = tf.gather(scores, order, batch_dims=1)
    rate = tf.math.cumulative_logsumexp(scores, axis=-1, reverse=True)
    return tf.reduce_sum((rate - scores)[:, :PLACES], axis=-1)


class Contestant:
    """A scorer and the method that trains it, compiled once and restarted for every run."""

    def __init__(self, name: str, setting: Setting):
        self.setting = setting
        self.surrogate = None
        if name in WITH_NETWORK:
            self.surrogate = tf_relax.surrogates.KerasModel(
                build_surrogate(), looks_at=("logits", "targets")
            )
        options = {} if self.surrogate is None else {"surrogate": self.surrogate}
        self.estimator = ESTIMATORS[name](**options) if name in ESTIMATORS else None
        self.samples = getattr(self.estimator, "num_samples", 1)  # evaluations per query
        self.scorer = build_scorer()
        adam = keras.optimizers.Adam()
        execution = max(1, setting.steps // CHECKPOINTS)  # a checkpoint's steps in one call
        if self.estimator is None:
            self.model = self.scorer
            self.model.compile(adam, loss=listwise_loss, steps_per_execution=execution)
        else:
            slate = tf_relax.layers.RelaxPermutation(output="index", name="slate")
            features = keras.Input((ITEMS, FEATURES))
            self.model = tf_relax.RelaxModel(features, slate(self.scorer(features)))
            own = keras.optimizers.Adam(SURROGATE_LEARNING_RATE, name="surrogate_adam")
            self.model.compile(
                tf_relax.RelaxOptimizer(adam, surrogate_optimizer=own),
                loss=tf_relax.losses.BlackBox(cost),
                estimator=self.estimator,
                steps_per_execution=execution,
            )
        trained, learned = self.model.trainable_variables, []
        if self.estimator is not None:
            trained, learned = self.model.trained_variables, self.model.estimator_state.variables
        self.model.optimizer.build(trained)
        state = [*self.model.optimizer.variables, *self.model.non_trainable_variables, *learned]
        self.start = [(variable, variable.numpy()) for variable in state]

    def restart(self, seed: int, learning_rate: float) -> None:
        """Returns to the state of a new model."""
        keras.utils.set_random_seed(seed)
        for variable, value in self.start:
            variable.assign(value)
        self.scorer.set_weights(build_scorer().get_weights())
        if self.surrogate is not None:
            self.surrogate.model.set_weights(build_surrogate().get_weights())
        if self.estimator is not None:
            self.model.get_layer("slate").seed_generator.state.assign([seed, 0])
        self.model.optimizer.learning_rate = learning_rate

    def measure(self, queries: Queries) -> tuple[float, float]:
        """Returns the mean revenue of sampled slates, with the same noise every time, and modes."""
        scores = self.scorer.predict_on_batch(queries.features)
        noise = np.random.default_rng(0).gumbel(size=(SLATES, *scores.shape))
        sampled = [revenue(queries.labels, np.argsort(-scores - e, axis=-1)) for e in noise]
        mode = revenue(queries.labels, np.argsort(-scores, axis=-1))
        return float(np.mean(sampled)), float(np.mean(mode))

    def train(self, seed: int, learning_rate: float) -> np.ndarray:
        """Returns revenue at the checkpoints: sampled on validation, sampled and mode on test."""
        self.restart(seed, learning_rate)
        validation = make_queries(self.setting.queries, seed=1)
        test = make_queries(self.setting.queries, seed=2)
        rows = [(self.measure(validation)[0], *self.measure(test))]
        per_step = self.setting.batch_size // self.samples
        for k, steps in enumerate(np.diff(checkpoints(self.setting.steps))):
            fresh = make_queries(steps * per_step, seed=1000 * (seed + 1) + k)
            self.model.fit(
                fresh.features, fresh.labels, batch_size=per_step, shuffle=False, verbose=0
            )
            rows.append((self.measure(validation)[0], *self.measure(test)))
        return np.array(rows).T


def checkpoints(steps: int) -> np.ndarray:
    """Returns the steps after which the revenue is measured."""
    return np.unique(np.linspace(0, steps, CHECKPOINTS + 1).round().astype(int))


def compete(name: str, setting: Setting, progress: tqdm | None = None) -> Result:
    """Trains one method at every learning rate and keeps the best on validation queries."""
    contestant = Contestant(name, setting)
    best, best_score = None, -np.inf
    for rate in setting.learning_rates:
        runs = []
        for seed in range(setting.seeds):
            runs.append(contestant.train(seed, rate))
            if progress is not None:
                progress.update()
        validation, sampled, mode = np.stack(runs, axis=1)
        if validation[:, -1].mean() > best_score:
            best, best_score = Result(rate, sampled, mode), validation[:, -1].mean()
    return best


def main(argv: Sequence[str] | None = None) -> dict[str, Result]:
    """Runs the command line and returns the result of every method."""
    parser = common.parser(__doc__, output="ranking.png", seeds=3, jit=False)
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--batch-size", type=int, default=16, help="evaluations per step")
    parser.add_argument("--learning-rates", type=float, nargs="+", default=[0.003, 0.01])
    parser.add_argument("--queries", type=int, default=400, help="held out, and for validation")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS, metavar="NAME")
    parser.add_argument("--workers", type=int, default=1, help="processes")
    args = parser.parse_args(argv)
    if args.batch_size < 4 or args.batch_size % 4:
        parser.error("--batch-size has to be a multiple of 4, the largest number of samples")
    rates = tuple(args.learning_rates)
    setting = Setting(args.steps, args.batch_size, rates, args.seeds, args.queries)

    start = time.perf_counter()
    if args.workers > 1:
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(args.workers, context, common.end_at_interrupt) as pool:
            jobs = {name: pool.submit(compete, name, setting) for name in args.methods}
            results = {}
            for name in (progress := tqdm(jobs, unit="method")):
                results[name] = jobs[name].result()
                progress.write(row(name, results[name]))  # as soon as it is known
    else:
        with tqdm(total=len(args.methods) * len(rates) * args.seeds, unit="run") as progress:
            results = {name: compete(name, setting, progress) for name in args.methods}

    test = make_queries(args.queries, seed=2)
    by_value = np.argsort(-test.labels[..., 0] * test.labels[..., 1], axis=-1)
    value_order = float(revenue(test.labels, by_value).mean())
    evaluations = checkpoints(args.steps) * args.batch_size
    print(f"\nRevenue on {args.queries} held-out queries after {evaluations[-1]} evaluations,")
    print(f"mean and standard error over {args.seeds} seeds")
    print_table(results, value_order)
    plot(results, evaluations, value_order, args.output)
    print(f"\n{time.perf_counter() - start:.0f} s. Figure: {args.output}")
    return results


if __name__ == "__main__":
    common.run(main, resumes=False)
