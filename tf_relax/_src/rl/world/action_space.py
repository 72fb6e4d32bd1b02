"""Which distribution over actions a policy's output parameterises, by the environment's space."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations import Bernoulli, Blocks, Categorical, Discrete, Draw, Normal
from tf_relax._src.rl.world.bounds import KINDS, Bounds
from tf_relax._src.rl.world.gym import gymnasium

# exp(-128) is 0 in float32, and noise that makes up for it does not occur there.
_NEVER = 128.0

# Distributions of actions.
Actions = Categorical | Blocks | Bernoulli | Normal


class ActionSpace:
    r"""An action space as a distribution: ``action = decode(b)``, ``b ~ p(b | logits)``.

    | space              | logits                                | distribution               |
    |--------------------|---------------------------------------|----------------------------|
    | `Discrete(n)`      | n                                     | categorical                |
    | `MultiDiscrete(n)` | sum of n, one block per component     | independent categoricals   |
    | `MultiBinary(n)`   | n                                     | independent Bernoulli      |
    | `Box(d)`           | 2 d: d means, d log standard deviations | independent normal         |

    Samples of a normal distribution get into the bounds of a `Box` by `Bounds`; the samples
    themselves are what is recorded.

    Args:
        space: action space of one environment.
        owner: what an error calls the environment.
        action_bounds: `"clip"`, `"squash"` or `None`; see `Bounds`.

    Raises:
        ValueError: for other spaces, and other `action_bounds`.

    Example:

    >>> import gymnasium
    >>> space = ActionSpace(gymnasium.spaces.MultiDiscrete([2, 3]), "Taxi")
    >>> space.logits_size, space.discrete
    (5, True)
    """

    relaxation: Actions
    space: Any

    def __init__(self, space: Any, owner: str, action_bounds: str | None = None):
        spaces = gymnasium.spaces
        if action_bounds not in KINDS:
            raise ValueError(
                f"`action_bounds` must be 'clip', 'squash' or None. Received: {action_bounds!r}"
            )
        self.space = space
        if isinstance(space, spaces.Discrete) and space.n >= 2:
            self.relaxation = Categorical()
            self.logits_size = int(space.n)
        elif isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1:
            self.sizes = [int(n) for n in space.nvec]
            self.relaxation = Blocks(self.sizes)
            self.logits_size = sum(self.sizes)
        elif isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
            self.relaxation = Bernoulli()
            self.logits_size = space.shape[0]
        elif (
            isinstance(space, spaces.Box)
            and len(space.shape) == 1
            and np.issubdtype(space.dtype, np.floating)
        ):
            self.relaxation = Normal()
            self.logits_size = 2 * space.shape[0]
            self.bounds = Bounds(space, action_bounds)
        else:
            raise ValueError(
                f"The environment {owner} has the action space {space}. Supported are Discrete "
                "with at least 2 actions, MultiDiscrete and MultiBinary with one axis, and Box of "
                "floats with one axis. Wrap the environment in a "
                "gymnasium.wrappers.TransformAction that offers one of these."
            )
        self.discrete = isinstance(self.relaxation, Discrete)

    def bounded(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns logits of the same distribution that are finite where an action is impossible.

        A policy rules actions out by a logit of minus infinity, or float32's minimum. Raised to 128
        below the largest, it stays without probability, sample and derivative in float32, and
        nothing that is computed from it is infinite, or 0 times that.
        """
        if isinstance(self.relaxation, Categorical):
            blocks = [logits]
        elif isinstance(self.relaxation, Blocks):
            blocks = tf.split(logits, self.sizes, axis=-1)
        elif isinstance(self.relaxation, Bernoulli):
            return tf.clip_by_value(logits, -_NEVER, _NEVER)
        else:
            return logits
        raised = [tf.maximum(x, tf.stop_gradient(_largest(x) - _NEVER)) for x in blocks]
        return raised[0] if len(raised) == 1 else tf.concat(raised, axis=-1)

    def always_clipped(self, b: np.ndarray) -> np.ndarray:
        """Returns which components of samples `[n, d]` are all beyond the same bound.

        The environment then cannot tell one action from another. Never so for discrete actions.
        """
        if self.discrete:
            return np.zeros(0, bool)
        return self.bounds.always_clipped(b)

    def decode(self, b: np.ndarray) -> np.ndarray:
        """Returns the environment's actions, `[n, ...]`, for samples `[n, ...]`."""
        if isinstance(self.relaxation, Categorical):
            return np.argmax(b, axis=-1) + self.space.start
        if isinstance(self.relaxation, Blocks):
            ends = np.cumsum(self.sizes)[:-1]
            chosen = [np.argmax(block, axis=-1) for block in np.split(b, ends, axis=-1)]
            # Written before gymnasium 1.0, MultiDiscrete may lack `start`.
            return np.stack(chosen, axis=-1) + getattr(self.space, "start", 0)
        if isinstance(self.relaxation, Bernoulli):
            return b.astype(self.space.dtype)
        return self.bounds.action(b)

    def log_prob(self, logits: tf.Tensor, actions: Any) -> tf.Tensor:
        """Returns the log-probability of the environment's actions, `[batch]`.

        Args:
            logits: of the policy, `[batch, logits]`.
            actions: as `decode` returns them.
        """
        if not self.discrete:
            means, log_scales = tf.split(logits, 2, axis=-1)
            return self.bounds.log_prob(means, log_scales, actions)
        b = self.encode(np.asarray(actions))
        draw = Draw(noise=None, z=None, b=tf.constant(b, tf.float32))
        each = self.relaxation.log_prob(logits, draw)
        return tf.reduce_sum(tf.reshape(each, [tf.shape(logits)[0], -1]), axis=-1)

    def encode(self, actions: np.ndarray) -> np.ndarray:
        """Undoes `decode` for discrete actions, `[batch, ...]`."""
        if isinstance(self.relaxation, Categorical):
            return np.eye(self.logits_size)[actions - self.space.start]
        if isinstance(self.relaxation, Blocks):
            first = getattr(self.space, "start", np.zeros(len(self.sizes), int))
            columns = (actions - first).T
            pairs = zip(self.sizes, columns, strict=True)
            return np.concatenate([np.eye(n)[column] for n, column in pairs], axis=-1)
        return actions

    def describe_output(self) -> str:
        """Returns how a policy for this space has to end, for a message."""
        if self.discrete:
            return f"{self.logits_size} logits: end with Dense({self.logits_size})"
        size = self.logits_size // 2
        return (
            f"{size} means and {size} logarithms of standard deviations: end with "
            f"Dense({self.logits_size}), or with tf_relax.rl.NormalParameters({size})"
        )


def _largest(logits: tf.Tensor) -> tf.Tensor:
    return tf.reduce_max(logits, axis=-1, keepdims=True)


def check_observation_space(space: Any, owner: str) -> tuple[int, ...]:
    """Returns the shape of an observation.

    Raises:
        ValueError: for spaces that are not arrays.
    """
    if isinstance(space, (gymnasium.spaces.Box, gymnasium.spaces.MultiBinary)):
        return tuple(space.shape)
    raise ValueError(
        f"The environment {owner} has the observation space {space}, and a policy needs arrays "
        "(Box or MultiBinary). Spaces of fixed size are flattened where environments are made here "
        "(by id or by a function): wrap a vector environment in "
        "gymnasium.wrappers.vector.FlattenObservation. Graphs, texts and sequences of any length "
        "need a wrapper that makes arrays of them."
    )
