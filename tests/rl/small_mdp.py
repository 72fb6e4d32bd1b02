"""Decision processes so small that every trajectory, and every noise behind it, can be listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium
import keras
import numpy as np
import tensorflow as tf

from tests.oracles import hermite_rule, product_grid, sigmoid
from tf_relax import rl
from tf_relax._src.rl.world.rollout import Rollout

HORIZON = 3
# Two states; reaching the third ends the episode. Probabilities `[state, action, next]`.
START = np.array([0.6, 0.4])
MOVE = np.array([[[0.5, 0.3, 0.2], [0.1, 0.6, 0.3]], [[0.7, 0.2, 0.1], [0.25, 0.35, 0.4]]])
REWARD = np.array([[1.0, -0.5], [0.3, 2.0]])

SPACES = {
    "bit": gymnasium.spaces.MultiBinary(1),
    "choice": gymnasium.spaces.Discrete(2),
    "block": gymnasium.spaces.MultiDiscrete([2]),
    "masked": gymnasium.spaces.Discrete(3),
    "real": gymnasium.spaces.Box(-1.0, 1.0, (1,)),
}


class Forbid(keras.layers.Layer):
    """Puts an action that is never possible behind the others."""

    def __init__(self, logit: float = -np.inf):
        super().__init__()
        self.logit = logit

    def call(self, logits):
        return tf.concat([logits, tf.fill([tf.shape(logits)[0], 1], self.logit)], axis=-1)


class Small(gymnasium.Env):
    """The table above, with either kind of binary action; for `"real"`, its spaces alone.

    `"masked"` has a third action, which the table does not know: taking it is an error.
    """

    def __init__(self, kind: str):
        self.action_space = SPACES[kind]
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = self.np_random.choice(2, p=START), 0
        return np.eye(2, dtype=np.float32)[self.state], {}

    def step(self, action):
        action = int(np.ravel(action)[0])
        reward = REWARD[self.state, action]
        self.state = self.np_random.choice(3, p=MOVE[self.state, action])
        self.steps += 1
        ends = bool(self.state == 2 or self.steps == HORIZON)
        return np.eye(3, 2, dtype=np.float32)[self.state], float(reward), ends, False, {}


class Listed(NamedTuple):
    """A rollout of everything that can happen.

    Attributes:
        rollout: one column per trajectory and node of the noise.
        noise: of ``z~``.
        weights: `[steps, columns]`, 0 where a row is no step.
    """

    rollout: Rollout
    noise: np.ndarray
    weights: np.ndarray


def make_trainer(kind: str, rng: np.random.Generator, **arguments: Any) -> rl.PolicyGradient:
    """Returns a linear policy's trainer, in which no weight at all is zero."""
    outputs = 1 if kind == "bit" else 2
    policy = keras.Sequential([keras.Input((2,)), keras.layers.Dense(outputs)])
    if kind == "masked":
        policy.add(Forbid(arguments.pop("forbidden", -np.inf)))
    if arguments.pop("with_value", False):
        arguments["value"] = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    trainer = rl.PolicyGradient(policy, Small(kind), **{"gamma": 1.0, **arguments})
    trainer.compile(keras.optimizers.SGD(0.1), entropy_weight=0.0, jit_compile=False)
    models = [trainer.policy, trainer.value, trainer.critic and trainer.critic.surrogate]
    # The larger the surrogate, the better a mistake shows.
    for model, scale in zip(models, (1.0, 1.0, 1.5), strict=True):
        for variable in model.trainable_variables if model is not None else []:
            scale = 0.35 if kind == "real" else scale
            variable.assign(scale * rng.normal(size=variable.shape))
    return trainer


def trajectories() -> Iterator[tuple[float, list[tuple[int, int, float, int]]]]:
    """Yields the environment's part of a trajectory's probability, and its steps."""

    def onwards(state: int, t: int) -> Iterator[tuple[float, list[Any]]]:
        if state == 2 or t == HORIZON:
            yield 1.0, []
            return
        for action in (0, 1):
            # After the last step nothing depends on where it led to.
            after = enumerate(MOVE[state, action]) if t < HORIZON - 1 else [(2, 1.0)]
            for successor, p in after:
                for q, rest in onwards(successor, t + 1):
                    yield p * q, [(state, action, REWARD[state, action], successor), *rest]

    for state in (0, 1):
        for p, steps in onwards(state, 0):
            yield START[state] * p, steps


def log_odds(trainer: rl.PolicyGradient) -> np.ndarray:
    """Returns the log-odds of action 1 in both states."""
    kernel, bias = [np.asarray(w, float) for w in trainer.policy.get_weights()]
    logits = kernel + bias
    return logits[:, 0] if logits.shape[1] == 1 else logits[:, 1] - logits[:, 0]


def list_all(
    trainer: rl.PolicyGradient,
    rng: np.random.Generator,
    nodes: int = 48,
    fresh: bool = False,
    odds_along: Any = None,
) -> Listed:
    """Lists all trajectories of the table with nodes for the noise given every action.

    Everything that an estimator makes of a step depends on the noise of that step alone, and for
    two categories on the difference of their noises. One axis of nodes therefore serves all steps.

    Args:
        trainer: whose policy acts.
        rng: of what must not matter.
        nodes: Gauss-Legendre nodes in the uniform behind the noise.
        fresh: whether the noise of z is independent of the action, as if it were not stored.
        odds_along: returns the log-odds of action 1 in every step of a path; `None` takes those of
            a linear policy.
    """
    one_bit = trainer.action_space.logits_size == 1
    if odds_along is None:
        in_state = log_odds(trainer)

        def odds_along(path: Any) -> Any:
            return [in_state[s] for s, _, _, _ in path]

    x, w = np.polynomial.legendre.leggauss(nodes)
    v, w = (x + 1) / 2, w / 2
    columns = []
    for p, path in trajectories():
        odds = odds_along(path)
        for (_, action, _, _), odd in zip(path, odds, strict=True):
            p *= sigmoid((2 * action - 1) * odd)
        for pretended in (0, 1) if fresh else (None,):
            shape = (HORIZON + 1, nodes)  # a row more than there are steps, to be masked
            fields = {name: np.zeros(shape) for name in ("a", "r", "l", "end", "mask", "weight")}
            states, successors = np.zeros((*shape, 2)), np.zeros((*shape, 2))
            for t, (s, action, r, successor) in enumerate(path):
                states[t, :, s] = 1
                successors[t] = np.eye(3, 2)[successor]
                sign = action if pretended is None else pretended
                below, above = sigmoid(-odds[t]), sigmoid(odds[t])
                noise = (
                    np.log1p(-above * v) - np.log(above * v)
                    if sign
                    else np.log(below * v) - np.log1p(-below * v)
                )
                share = 1.0 if pretended is None else (above if sign else below)
                row = (action, r, noise, t == len(path) - 1, 1.0, p * w * share)
                for field, value in zip(fields.values(), row, strict=True):
                    field[t] = value
            columns.append((states, successors, *fields.values()))
    parts = [np.concatenate(part, axis=1) for part in zip(*columns, strict=True)]
    states, successors, a, r, noise, end, mask, weights = parts
    other = np.broadcast_to(np.tile(np.log(v) - np.log1p(-v), a.shape[1] // nodes), a.shape)
    if one_bit:
        b, noise, other = a[..., None], noise[..., None], other[..., None]
    else:
        b = np.eye(2)[a.astype(int)]
        shift = rng.normal(size=a.shape)
        noise, other = np.stack([shift, shift + noise], -1), np.stack([shift, shift + other], -1)
    if trainer.action_space.logits_size == 3:  # whose noise must not matter
        b = np.concatenate([b, np.zeros_like(b[..., :1])], -1)
        noise, other = [
            np.concatenate([x, rng.gumbel(size=a.shape)[..., None]], -1) for x in (noise, other)
        ]
    fields = [states, noise, b, r, successors, end, end, mask]
    return Listed(Rollout(*[x.astype(np.float32) for x in fields]), other, weights)


def expected(trainer: rl.PolicyGradient, listed: Listed) -> list[np.ndarray]:
    """Returns the expected gradient of the return in the policy's weights, kernel and bias."""
    evidence = trainer.differentiate(listed.rollout, tf.constant(listed.noise, tf.float32))
    return push(listed, evidence.logit_gradients.numpy(), listed.weights)


def push(listed: Listed, g: np.ndarray, weights: np.ndarray) -> list[np.ndarray]:
    """Returns ``sum w J^T g`` of the linear policy."""
    g = np.float64(g).reshape(*weights.shape, -1) * weights[..., None]
    if g.shape[-1] == 3:
        assert not g[..., 2].any()  # no action, no derivative
        g = g[..., :2]
    return [np.einsum("tci,tcj->ij", listed.rollout.observations, g), g.sum((0, 1))]


def exact(trainer: rl.PolicyGradient, gamma: float = 1.0) -> list[np.ndarray]:
    """Returns the derivative of the expected return, by enumeration; no estimator is involved.

    With a discount it is ``sum_t E[Q(s_t, a_t) dlog pi(a_t | s_t)]``, which lets later steps count
    as much as the first: what all policy gradient methods go along.
    """
    kernel, bias = [tf.Variable(np.asarray(w, float)) for w in trainer.policy.get_weights()]
    one_bit = bias.shape[0] == 1
    with tf.GradientTape() as tape:
        logits = kernel + bias
        odds = logits[:, 0] if one_bit else logits[:, 1] - logits[:, 0]
        log_pi = tf.stack([tf.math.log_sigmoid(-odds), tf.math.log_sigmoid(odds)], axis=1)
        total = tf.constant(0.0, tf.float64)
        for p, path in trajectories():
            probability = p * tf.exp(tf.add_n([log_pi[s, a] for s, a, _, _ in path]))
            if gamma == 1:
                total += probability * sum(r for _, _, r, _ in path)
                continue
            for t, (s, a, _, _) in enumerate(path):
                later = sum(gamma**k * step[2] for k, step in enumerate(path[t:]))
                total += tf.stop_gradient(probability * later) * log_pi[s, a]
    return [x.numpy() for x in tape.gradient(total, [kernel, bias])]


def step_reward(x: Any, a: Any) -> Any:
    """Reward of the process with real actions."""
    return 0.7 * a - 0.4 * a**2 + 0.5 * a * x


def move(x: Any, a: Any, sin: Any = np.sin) -> Any:
    """Its next state: smooth for the quadrature, bounded for float32."""
    return 0.4 * x + sin(0.6 * a)


def list_real(trainer: rl.PolicyGradient, nodes: int = 40) -> Listed:
    """Two steps with real actions, from one state: a grid over the noise of both."""
    rule = hermite_rule(nodes)
    grid, weights = product_grid([rule, rule])
    kernel, bias = [np.asarray(w, float) for w in trainer.policy.get_weights()]
    x, rows = np.full(len(grid), 0.5), []
    for t in range(2):
        states = np.stack([np.ones_like(x), x], axis=1)
        logits = states @ kernel + bias
        a = logits[:, 0] + np.exp(logits[:, 1]) * grid[:, t]
        after = move(x, a)
        end = np.full(len(grid), float(t))
        successors = np.stack([np.ones_like(x), after], axis=1)
        noise, b = grid[:, t : t + 1], a[:, None]
        rows.append([states, noise, b, step_reward(x, a), successors, end, end, np.ones_like(x)])
        x = after
    fields = [np.stack(field).astype(np.float32) for field in zip(*rows, strict=True)]
    return Listed(Rollout(*fields), fields[1], np.stack([weights, weights]))


def exact_real(trainer: rl.PolicyGradient, nodes: int = 40) -> list[np.ndarray]:
    """Returns the derivative of its expected return, through both steps, by quadrature."""
    rule = hermite_rule(nodes)
    grid, weights = product_grid([rule, rule])
    kernel, bias = [tf.Variable(np.asarray(w, float)) for w in trainer.policy.get_weights()]
    with tf.GradientTape() as tape:
        x, total = tf.fill([len(grid)], tf.constant(0.5, tf.float64)), 0.0
        for t in range(2):
            logits = tf.stack([tf.ones_like(x), x], axis=1) @ kernel + bias
            a = logits[:, 0] + tf.exp(logits[:, 1]) * grid[:, t]
            total += tf.reduce_sum(weights * step_reward(x, a))
            x = move(x, a, tf.sin)
    return [x.numpy() for x in tape.gradient(total, [kernel, bias])]
