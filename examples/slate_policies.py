"""Policies over slates: a scorer of items, what trains it, and what serves it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf

import slate_logs
import tf_relax
from slate_logs import PLACES, Campaign, Log
from tf_relax.estimators import Concrete, LeaveOneOut, Reinforce, Relax

# Evaluations of the value per context, and the estimator; `exact` takes part with as many contexts.
ESTIMATORS: dict[str, tuple[int, Any]] = {
    "relax": (2, lambda: Relax(surrogate="objective", temperature=0.5)),
    "leave_one_out": (4, lambda: LeaveOneOut(4)),
    "reinforce": (1, lambda: Reinforce(baseline="moving_average")),
    "concrete": (1, lambda: Concrete(temperature=0.5)),
    "exact": (1, None),
}
OBJECTIVES = ("direct", "robust")
CHECKPOINTS, PER_THOUSAND = 6, 1000.0


class Task(NamedTuple):
    """What a run maximises: R per thousand impressions, and how frequent the contexts are."""

    table: np.ndarray
    share: np.ndarray

    def value(self, policy: np.ndarray) -> float:
        """Returns `E_x sum_k,a pi_k(a | x) R[x, k, a]`."""
        return float(np.sum(self.share[:, None, None] * policy * self.table))


def make_task(objective: str, log: Log, q: np.ndarray) -> Task:
    """Returns the estimate of value that a log and a model of clicks make."""
    table, share = slate_logs.doubly_robust(log, q, float(objective == "robust"))
    return Task(PER_THOUSAND * table, share)


def build_scorer(campaign: Campaign) -> keras.Model:
    """Returns a score per item, `items (W tanh(V users + v) + w)`, 0 for all at the start."""
    users = keras.Input((campaign.users.shape[1],))
    hidden = keras.layers.Dense(16, "tanh")(users)
    taste = keras.layers.Dense(campaign.items.shape[1], kernel_initializer="zeros")(hidden)
    vectors = keras.layers.Dense(len(campaign.items), use_bias=False, trainable=False)
    scores = vectors(taste)
    vectors.set_weights([campaign.items.T])
    return keras.Model(users, scores)


def cost(table: tf.Tensor, order: tf.Tensor) -> tf.Tensor:
    """Returns minus the value of the first three rows of a permutation matrix."""
    return -tf.reduce_sum(table * order[:, :PLACES], axis=[-1, -2])


def expected_cost(table: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
    """Returns the expectation of `cost` over permutations, in closed form."""
    return -tf.reduce_sum(table * slate_logs.marginals(scores), axis=[-1, -2])


class Contestant:
    """A scorer and the estimator that trains it, compiled once and restarted for every run."""

    def __init__(self, name: str, campaign: Campaign, args: Any):
        self.campaign, self.args, self.scorer = campaign, args, build_scorer(campaign)
        evaluations, make = ESTIMATORS[name]
        self.batch = args.batch_size // evaluations
        jit, adam = not args.no_jit, keras.optimizers.Adam(args.learning_rate)
        if make is None:
            self.model, learned = self.scorer, []
            self.model.compile(adam, loss=expected_cost, jit_compile=jit)
            trained = self.model.trainable_variables
        else:
            users = keras.Input((campaign.users.shape[1],))
            order = tf_relax.layers.RelaxPermutation(name="slate")
            self.model = tf_relax.RelaxModel(users, order(self.scorer(users)))
            self.model.compile(adam, loss=cost, estimator=make(), jit_compile=jit)
            trained, learned = self.model.trained_variables, self.model.estimator_state.variables
        self.model.optimizer.build(trained)
        state = [*self.model.optimizer.variables, *self.model.non_trainable_variables, *learned]
        self.start = [(variable, variable.numpy()) for variable in state]

    def train(self, task: Task, seed: int) -> tuple[np.ndarray, list[float]]:
        """Returns scores, `[contexts, items]`, and the share of R's best that was reached."""
        keras.utils.set_random_seed(seed)
        for variable, value in self.start:
            variable.assign(value)
        self.scorer.set_weights(build_scorer(self.campaign).get_weights())
        if isinstance(self.model, tf_relax.RelaxModel):
            self.model.get_layer("slate").seed_generator.state.assign([seed, 0])
        rng, items = np.random.default_rng(seed), len(self.campaign.items)
        best = task.value(slate_logs.always(slate_logs.best_slates(task.table), items))
        curve = [task.value(self.policy()) / best]
        for steps in np.diff(checkpoints(self.args.steps)):
            seen = rng.choice(len(task.share), self.batch * steps, p=task.share)
            users, table = self.campaign.users[seen], task.table[seen].astype("float32")
            self.model.fit(users, table, batch_size=self.batch, shuffle=False, verbose=0)
            curve.append(task.value(self.policy()) / best)
        return self.scores(), curve

    def scores(self) -> np.ndarray:
        """Returns the scores of all items in every context."""
        return self.scorer.predict_on_batch(self.campaign.users).astype(float)

    def policy(self) -> np.ndarray:
        """Returns the probabilities of items at places."""
        return keras.ops.convert_to_numpy(slate_logs.marginals(self.scores()))


def checkpoints(steps: int) -> np.ndarray:
    """Returns the steps after which the objective is measured."""
    return np.unique(np.linspace(0, steps, CHECKPOINTS + 1).round().astype(int))


def of_scores(scores: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the policy that samples slates and the one that always shows the mode."""
    mode = np.argsort(-scores, axis=-1, kind="stable")[:, :PLACES]
    sampled = keras.ops.convert_to_numpy(slate_logs.marginals(scores))
    return {"": sampled, ", mode": slate_logs.always(mode, scores.shape[1])}


def baselines(campaign: Campaign, log: Log, q: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the policies that need no training but that of the model of clicks."""
    popular = slate_logs.popular(log, q.shape[2])
    best = [slate_logs.best_slates(values) for values in (q, np.broadcast_to(popular, q.shape))]
    greedy, often = (slate_logs.always(slates, q.shape[2]) for slates in best)
    return {"random": np.full(q.shape, 1 / q.shape[2]), "popularity": often, "greedy": greedy}


def export(campaign: Campaign, scorer: keras.Model, path: Path) -> None:
    """Writes a SavedModel of four user features, strings `[batch, 4]`, to three items in order."""
    features = keras.Input((len(campaign.vocabulary),), dtype="string")
    users = []
    for j, values in enumerate(campaign.vocabulary):
        known = keras.layers.StringLookup(vocabulary=values, output_mode="one_hot")
        users.append(known(features[:, j : j + 1])[:, 1:])  # rare and unknown values are zeros
    scores = scorer(keras.layers.Concatenate()(users))
    slate = tf_relax.layers.RelaxTopK(PLACES, output="index", inference="mode")
    keras.Model(features, slate(scores)).export(path, verbose=False)
