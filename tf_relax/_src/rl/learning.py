"""How a trainer learns from a rollout."""

from __future__ import annotations

import collections
import functools
from typing import Any

import numpy as np
import tensorflow as tf

from tf_relax._src.rl import check, learner
from tf_relax._src.rl.acting import Acting
from tf_relax._src.rl.world.rollout import Rollout, filled, to_tensors


class Learning(Acting):
    """The part of a `PolicyGradient` that makes updates."""

    def build_updates(self, jit_compile: bool) -> None:
        """Makes what acts and what learns, compiled."""
        options = {"autograph": False, "jit_compile": jit_compile}
        # One kernel, not one per layer: starting them takes longer than what they compute.
        self._act_compiled = tf.function(self._sample, **options)

        def either(update: Any) -> dict[bool, Any]:
            # By whether the value takes several steps; an argument would be looked at every time.
            return {k: tf.function(functools.partial(update, k), **options) for k in (False, True)}

        self._update = either(self._stacked_update)
        if self.critic is not None:
            fit_critic = functools.partial(learner.fit_critic, self, self.critic)
            self._fit_critic = tf.function(fit_critic, **options)
        if self.reuse is not None:
            self._reuse = either(functools.partial(learner.reuse, self))
            self._log_prob = tf.function(functools.partial(learner.log_prob, self), **options)
            # The latest first, with the log-probabilities that their actions had.
            self._earlier: collections.deque[tuple[Rollout, tf.Tensor]] = collections.deque(
                maxlen=self.reuse.rollouts
            )

    def learn(self, raw: Rollout, rng: np.random.Generator | None = None) -> dict[str, float]:
        """Makes one update from a rollout as it was recorded, and returns what to log."""
        carries = not self.whole_episodes
        self.normalization.begin(raw, self.gamma, carries)
        rollout = self._normalized(raw)
        tensors, more = to_tensors(rollout), self.value_steps > 1
        behaviour = None if self.reuse is None else self._log_prob(tensors)
        values, returns = self._update[more](tensors)
        logs = dict(zip(self._log_names, values.numpy().tolist(), strict=True))
        check.finite(self, logs)
        if self.memory is not None:
            assert self.estimator.off_policy is not None
            fit = self.estimator.off_policy
            self.memory.add(rollout, returns.numpy())
            batches = self.memory.sample(
                (fit.updates, fit.batch_size), rng or np.random.default_rng()
            )
            self._fit_critic(*map(tf.constant, batches))
        if self.reuse is not None:
            for earlier, log_prob in self._earlier:
                kl = self._reuse[more](to_tensors(self._normalized(earlier)), log_prob)
                check.finite(self, {**logs, "kl": float(kl)})
            self._earlier.appendleft((raw, behaviour))
        self.normalization.update(raw, self.gamma, carries)
        if self.normalize_observations:
            self.forget_traces()
        return logs

    def differentiate(self, raw: Rollout, noise: Any = None) -> learner.Evidence:
        """Estimates all gradients from a rollout as it was recorded, and changes nothing.

        Args:
            raw: what was recorded.
            noise: of ``z~``, where an estimator draws it; fresh if none is given.
        """
        return learner.differentiate(self, to_tensors(self._normalized(raw)), noise)

    def _normalized(self, raw: Rollout) -> Rollout:
        # Without bootstrapping a time limit is as final as any other end.
        ends = raw.terminated if self.bootstrap == "truncation" else raw.done
        scaled = raw._replace(
            observations=self.normalization(raw.observations),
            successors=self.normalization(raw.successors),
            terminated=ends,
            rewards=raw.rewards * np.float32(self.normalization.reward_scale),
        )
        return filled(scaled)

    def _stacked_update(
        self, more_value_steps: bool, rollout: Rollout
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns all logs as one vector, which is one transfer, and the returns."""
        logs, returns = learner.update(self, rollout, more_value_steps)
        self._log_names = list(logs)
        return tf.stack(list(logs.values())), returns
