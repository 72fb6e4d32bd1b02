"""The masked exponential race: one engine for choices that are made one after the other."""

from __future__ import annotations

import abc
import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.capabilities import Antithetic, Conditional, Enumerable, Items
from tf_relax._src.relaxations.categorical import relaxed_gumbel_score
from tf_relax._src.relaxations.impossible import only_possible, where_possible
from tf_relax._src.relaxations.law import GUMBEL
from tf_relax._src.relaxations.relaxation import Draw


class Trace(NamedTuple):
    """What happened in a race.

    Attributes:
        chosen: item that won each step, one-hot, `[..., steps, items]`; zeros where a step had
            nothing to choose from.
        alive: items that took part in each step, `[..., steps, items]`, 0 or 1.
    """

    chosen: tf.Tensor
    alive: tf.Tensor


class Race(Items, Antithetic, Conditional, Enumerable):
    r"""Choices $T_1, T_2, \ldots$, each the first arrival among the items alive at its step.

    Items arrive at $x_k = e^{-z_k}$, $z = a + G$: exponentials of rate $e^{a_k}$. What was chosen
    decides who is alive, $M_{ik}$, and exponentials have no memory: waiting times $D_i$ between the
    choices are exponential again. With $L_i = \log \sum_k M_{ik} e^{a_k}$ and
    $\pi_{ik} = M_{ik} e^{a_k - L_i}$ (Gadetsky et al. 2020; Struminsky et al. 2021, sections 3 and
    4), probability and score are

    $$\log p(T) = \sum_i a_{T_i} - L_i$$

    $$\nabla_a \log p(T) = \sum_i \mathrm{onehot}(T_i) - \pi_i$$

    The conditional sample has, with $D_i = E e^{-L_i}$,

    $$\tilde x_k = \sum_i M_{ik} D_i + [k \text{ never chosen}] E_k e^{-a_k}$$

    and in the coupled form, with $W_{ik} = M_{ik} D_i / x_k$,

    $$(\frac{dz}{da} - \frac{d\tilde z}{da})^T h
        = (\sum_i W_i) \odot h - \sum_i \pi_i (W_i \cdot h)$$

    Subclasses run the race, and say what the rest of the model sees of it. Everything else follows.
    """

    choice_rank = 1
    law = GUMBEL
    # Whether all steps choose among the same items, or each has a row of items of its own.
    shared: bool = True

    @abc.abstractmethod
    def run(self, z: tf.Tensor) -> Trace:
        """Returns who wins at which step, from z, `[..., *event]`.

        Impossible items arrive after all others, and are struck off the result. Where it matters to
        a later step that nobody was left to win, it is up to this method to see to it.
        """

    def replayed(self, priority: tf.Tensor) -> Trace:
        """Returns the race in which, at every step, the item with the highest priority wins."""
        return self.run(priority)

    @abc.abstractmethod
    def seen(self, trace: Trace) -> tf.Tensor:
        """Returns `b`."""

    def to_rows(self, x: tf.Tensor) -> tf.Tensor:
        """Reshapes `[..., *event]` to `[..., 1, items]`, or `[..., steps, items]` if not shared."""
        return x[..., tf.newaxis, :]

    def from_rows(self, x: tf.Tensor) -> tf.Tensor:
        """Does the reverse of `to_rows`."""
        return x[..., 0, :]

    def log_waits(self, z: tf.Tensor, trace: Trace) -> tf.Tensor:
        r"""Returns $\log D_i$, `[..., steps, 1]`, from rows of z.

        This is for races in which all who are alive have waited for the same choices.
        """
        winner = tf.reduce_sum(trace.chosen * z, axis=-1, keepdims=True)
        first = tf.fill(tf.shape(winner[..., :1, :]), z.dtype.max)
        # D_i = x_{T_i} - x_{T_{i-1}}; rounding must not turn the order around.
        gap = tf.minimum(winner - tf.concat([first, winner[..., :-1, :]], axis=-2), 0)
        return -winner + tf.math.log(-tf.math.expm1(gap))

    # ------------------------------------------------------------------ what every race answers

    def sample(self, a: tf.Tensor, noise: tf.Tensor) -> Draw:
        z = a + noise
        trace, items = self.run(tf.stop_gradient(z)), only_possible(self.to_rows(z))
        trace = Trace(trace.chosen * items, trace.alive * items)
        return Draw(noise=noise, z=z, b=self.seen(trace), trace=trace)

    def outcome(self, draw: Draw) -> tf.Tensor:
        return draw.trace.chosen

    def forced(self, a: tf.Tensor, outcome: tf.Tensor) -> Draw:
        trace = self._replayed(tf.cast(outcome, a.dtype))
        return Draw(noise=tf.zeros_like(a), z=tf.zeros_like(a), b=self.seen(trace), trace=trace)

    def num_outcomes(self, event_shape: tf.TensorShape) -> int | None:
        return None  # not counted, unless a subclass does

    def outcomes(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        """Lists all races of a single event: after every choice, whoever is alive may win next."""
        with tf.init_scope():  # numbers, even while a graph is being built
            return self._enumerated(event_shape)

    def _enumerated(self, event_shape: tf.TensorShape) -> np.ndarray | None:
        nobody = self.run(tf.zeros((1, *event_shape), tf.float64)).chosen
        if nobody.shape.rank > 3:
            return None
        chosen = np.zeros(nobody.shape)
        for step in range(nobody.shape[1]):
            alive = self._replayed(tf.constant(chosen)).alive[:, step].numpy()
            following = []
            for race, items in zip(chosen, alive, strict=True):
                for item in np.flatnonzero(items) if items.any() else [None]:
                    following.append(race.copy())
                    if item is not None:
                        following[-1][step, item] = 1
            chosen = np.array(following)
        return chosen

    def _replayed(self, chosen: tf.Tensor) -> Trace:
        steps = tf.cast(tf.range(tf.shape(chosen)[-2], 0, -1), chosen.dtype)
        priority = chosen * steps[:, tf.newaxis]
        if self.shared:
            priority = tf.reduce_max(priority, axis=-2, keepdims=True)
        return self.replayed(self.from_rows(priority))

    def log_prob(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        a, (chosen, alive) = self.to_rows(a), draw.trace
        return tf.reduce_sum(chosen * (a - _log_rate(a, alive)), axis=[-2, -1])

    def score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        a, (chosen, alive) = self.to_rows(a), draw.trace
        others = (1 - chosen) * _pi(a, alive)
        # onehot - pi, where 1 - pi is the sum of the others': nothing cancels.
        won = chosen * tf.reduce_sum(others, axis=-1, keepdims=True)
        return self.from_rows(self._over_steps(won - others))

    def relaxed_score(self, a: tf.Tensor, draw: Draw) -> tf.Tensor:
        return relaxed_gumbel_score(a, draw)

    def conditional(self, a: tf.Tensor, draw: Draw, noise: tf.Tensor) -> tf.Tensor:
        a, log_e, (chosen, alive) = self.to_rows(a), -self.to_rows(noise), draw.trace
        log_d = tf.reduce_sum(chosen * log_e, axis=-1, keepdims=True) - _log_rate(a, alive)
        waited, rest = _log(alive, log_d), _log(1 - self._over_steps(chosen), log_e - a)
        if self.shared:
            log_x = tf.reduce_logsumexp(tf.concat([waited, rest], axis=-2), -2, keepdims=True)
        else:
            log_x = tf.reduce_logsumexp(tf.stack([waited, rest]), axis=0)
        return self.from_rows(-log_x)

    def delta_vjp(self, a: tf.Tensor, draw: Draw, h: tf.Tensor) -> tf.Tensor:
        a, z, h, trace = self.to_rows(a), self.to_rows(draw.z), self.to_rows(h), draw.trace
        w = tf.exp(tf.minimum(_log(trace.alive, self.log_waits(z, trace) + z), 0))
        back = _pi(a, trace.alive) * tf.reduce_sum(w * h, axis=-1, keepdims=True)
        return self.from_rows(self._over_steps(w * h - back))

    def _over_steps(self, x: tf.Tensor) -> tf.Tensor:
        return tf.reduce_sum(x, axis=-2, keepdims=True) if self.shared else x


def _log(alive: tf.Tensor, log_x: tf.Tensor) -> tf.Tensor:
    """Returns ``log(alive x)``, with a number for the logarithm of 0 that can be differentiated."""
    return tf.where(alive > 0, log_x, tf.constant(-1e30, alive.dtype))


def _log_rate(a: tf.Tensor, alive: tf.Tensor) -> tf.Tensor:
    """Returns ``L_i``, `[..., steps, 1]`."""
    return tf.reduce_logsumexp(_log(alive, a), axis=-1, keepdims=True)


def _pi(a: tf.Tensor, alive: tf.Tensor) -> tf.Tensor:
    return alive * tf.nn.softmax(_log(alive, a))


def soft_race(z: tf.Tensor, temperature: tf.Tensor, steps: int) -> tf.Tensor:
    """Returns `steps` softmaxes, each among what those before it left, `[..., steps, items]`.

    With the temperature towards 0 they become the choices of a race without replacement
    (Xie and Ermon 2019, section 3.1).

    Args:
        z: one row for all steps, `[..., 1, items]`, or one for each, `[..., steps, items]`.
        temperature: t > 0.
        steps: number of choices.
    """
    rows = tf.unstack(z, axis=-2) if z.shape[-2] == steps else [z[..., 0, :]] * steps
    left = tf.zeros_like(rows[0])  # the logarithm of what is left of every item
    y: list[tf.Tensor] = []
    for step, row in enumerate(rows):
        items = only_possible(row)
        if len(rows) > z.shape[-2]:  # one row for all steps: when all are taken, that was it
            items *= tf.cast(tf.reduce_sum(items, axis=-1, keepdims=True) > step, row.dtype)
        u = (row + left) / temperature
        y.append(tf.nn.softmax(u) * items)
        lone = y[-1] > 0.5
        # log(1 - y) is log1p(-y) but where y is nearly 1: there it is what the others have of the
        # sum, taken in logarithms. Of 1/x and 1/x^2 of a small x, which its derivatives would hold,
        # the second is beyond float32.
        others = tf.reduce_logsumexp(tf.where(lone, u.dtype.min, u), axis=-1, keepdims=True)
        others -= tf.reduce_logsumexp(u, axis=-1, keepdims=True)
        left += tf.where(
            lone,
            tf.maximum(others, math.log(1e-30)),
            tf.math.log1p(-tf.where(lone, tf.zeros_like(u), y[-1])),
        )
    return tf.stack(y, axis=-2)


def soft_log_prob(a: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """Returns ``log p`` of choices without replacement at relaxed ones, `[..., steps, items]`.

    Args:
        a: logits, one row for all steps, `[..., 1, items]`, or one for each.
        y: relaxed choices.
    """
    left = 1 - tf.cumsum(y, axis=-2, exclusive=True)
    rate = tf.reduce_logsumexp(a + tf.math.log(tf.maximum(left, 1e-12)), axis=-1)
    log_p = tf.reduce_sum(y * where_possible(a, a), axis=-1) - rate
    # A step that had nothing to choose from, or a place that went to an impossible item.
    chosen = tf.reduce_sum(y * only_possible(a), axis=-1) > 0
    return tf.reduce_sum(tf.where(chosen, log_p, tf.zeros_like(log_p)), axis=-1)
