"""The trainer: a policy, its environments, and the estimator of the policy gradient."""

from __future__ import annotations

import collections
import functools
import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from tf_relax._src import critic as critics
from tf_relax._src.estimators.citations import PAPERS, Cited, together
from tf_relax._src.rl import check
from tf_relax._src.rl.callbacks import Progress
from tf_relax._src.rl.gradient import estimators
from tf_relax._src.rl.gradient.gradient_moments import GradientMoments
from tf_relax._src.rl.gradient.off_policy import Memory
from tf_relax._src.rl.gradient.v_trace import VTrace
from tf_relax._src.rl.learning import Learning
from tf_relax._src.rl.listeners import Listeners
from tf_relax._src.rl.networks import dense_value
from tf_relax._src.rl.recurrent_networks import recurrent_value
from tf_relax._src.rl.steps.schedulable import Fixed, Schedulable
from tf_relax._src.rl.steps.trust_region import TrustRegion
from tf_relax._src.rl.world import wrapper_statistics
from tf_relax._src.rl.world.environments import Environments
from tf_relax._src.rl.world.evaluation import another, evaluate
from tf_relax._src.rl.world.normalization import Normalization
from tf_relax._src.rl.world.recurrence import state_shapes

# Episodes that the logged `return` and `length` are means of.
WINDOW = 100


@keras.saving.register_keras_serializable(package="tf_relax.rl")
class PolicyGradient(Learning, Cited):
    r"""Trains a policy in Gymnasium environments with an unbiased, quiet gradient.

    $$\nabla \mathbb{E}[\sum_t r_t] = \mathbb{E}[\sum_t g_t]$$

    with $g_t$ the estimate that the `estimator` makes of step $t$; Grathwohl et al. (2018), section
    3.4.

    `trainer.save("trainer.keras")` keeps weights, optimizers, statistics, noise and what was
    logged; `tf_relax.rl.load` goes on from there. Episodes under way, the state of the environment
    and the steps that `OffPolicy` remembers are not saved: they start anew.

    Args:
        policy: Keras model from observations to the logits of the actions: n for `Discrete(n)`, all
            blocks side by side for `MultiDiscrete`, one per bit for `MultiBinary`, and means, then
            log standard deviations, for `Box`. It is called with `training=False`. A recurrent one
            maps `[observations, *states]` to `[logits, *states]`, as `recurrent_policy` does.
        env: id or specification of an environment, a `gymnasium.Env`, a
            `gymnasium.vector.VectorEnv`, or a function that makes one of these.
        estimator: `"reinforce"`, `"a2c"`, `"lax"` (continuous actions), `"relax"` (discrete
            actions), or an object such as `PolicyRelax(coupled=False)`.
        value: Keras model from observations to one number, the state value; it may be recurrent as
            well. `a2c` makes one if none is given; `lax` and `relax` then use $V(s) + c(a, s)$.
        surrogate: $c(a, s)$ for `lax` and `relax`: a `tf_relax.surrogates.Surrogate` that looks at
            its context, which is the state, or a Keras model of `[action, state]`; `None` is a
            network with two layers of 64 units.
        gamma: discount per step.
        gae_lambda: lambda of the returns, `None` (or 1) for all rewards; below 1 needs a value, and
            biases the gradient as far as the value is wrong.
        bootstrap: `"truncation"` adds the value of the last observation where a time limit ended
            the episode; `None` takes time limits for the end of all rewards. Without a value it is
            always the latter.
        n_episodes: whole episodes per update, a multiple of `n_envs`; `"auto"` is one per
            environment, unless `n_steps` is given.
        n_steps: steps per environment and update, instead of `n_episodes`. Needs a value.
        n_envs: environments side by side.
        trust_region: `KLPenalty`, `NaturalGradient`, or (for `a2c`) `Clip`.
        reuse: a `VTrace`, which learns from earlier rollouts as well, with a bias; `a2c` only.
        normalize_observations: whether the policy sees observations of mean 0 and variance 1.
        normalize_rewards: whether rewards are divided by the standard deviation of the discounted
            returns; what is logged are the rewards themselves.
        action_bounds: how the normal samples of a policy get into the bounds of a `Box`: `"clip"`
            scales them, so that -1 and 1 are the bounds, and clips; `"squash"` takes their tanh
            instead; `None` clips without scaling.

    Raises:
        ValueError: for what does not fit together; the message names the environment.
        TypeError: for an `env` of another kind.

    Example:

    >>> import tf_relax
    >>> policy = tf_relax.rl.dense_policy("CartPole-v1", units=(10, 10), activation="relu")
    >>> trainer = PolicyGradient(policy, "CartPole-v1", estimator="relax")
    >>> trainer.compile(optimizer="rmsprop", jit_compile=False)
    >>> history = trainer.fit(total_timesteps=50, seed=0, verbose=0)
    >>> mean, std = trainer.evaluate(n_episodes=2)
    """

    policy, value, surrogate = Fixed(), Fixed(), Fixed()
    estimator, trust_region, reuse, n_envs = Fixed(), Fixed(), Fixed(), Fixed()
    normalize_observations, normalize_rewards = Fixed(), Fixed()
    gamma = Schedulable(high=1)
    gae_lambda = Schedulable(high=1, none=1.0)
    entropy_weight = Schedulable(low=-math.inf)
    value_weight = Schedulable()
    value_steps = Schedulable(low=1, whole=True)

    def __init__(
        self,
        policy: keras.Model,
        env: Any,
        estimator: Any = "a2c",
        value: keras.Model | None = None,
        surrogate: Any = None,
        gamma: float = 0.99,
        gae_lambda: float | None = None,
        bootstrap: str | None = "truncation",
        n_episodes: int | str | None = "auto",
        n_steps: int | None = None,
        n_envs: int = 1,
        trust_region: TrustRegion | None = None,
        reuse: VTrace | None = None,
        normalize_observations: bool = False,
        normalize_rewards: bool = False,
        action_bounds: str | None = "clip",
        name: str | None = None,
        **kwargs: Any,
    ):
        super().__init__(name=name, **kwargs)
        self.estimator = estimators.get(estimator)
        self._given_env = env
        environments = Environments(env, n_envs, action_bounds)
        shape = environments.observation_shape
        if value is None and self.estimator.uses_value:
            value = (recurrent_value if state_shapes(policy) else dense_value)(shape)
        if self.estimator.uses_critic:
            surrogate = critics.resolve(surrogate, f"'{self.name}'")
        self.policy, self.value, self.surrogate = policy, value, surrogate
        self.gamma, self.gae_lambda, self.bootstrap = gamma, gae_lambda, bootstrap
        self.n_episodes: Any = n_episodes
        self.n_steps, self.n_envs = n_steps, n_envs
        self.trust_region, self.reuse = trust_region, reuse
        self.normalize_observations = normalize_observations
        self.normalize_rewards = normalize_rewards
        self.frames = self.updates = 0
        self.whole_episodes: bool | None = None
        self.policy_loops: bool | None = None  # not known yet
        # Of every episode that was learnt from, in the order in which they ended.
        self.episode_returns: collections.deque[float] = collections.deque()
        self.episode_lengths: collections.deque[int] = collections.deque()
        self.unused_frames = 0
        self.noise_seeds = keras.random.SeedGenerator()
        self.environments = environments
        self._evaluation: Environments | None = None
        self.action_space = environments.action_space
        check.arguments(self)
        self.whole_episodes = self.n_steps is None
        check.outputs(self, shape)
        environments.remember(self.memory_shapes)
        self.critic: critics.Critic | None = None
        self.memory: Memory | None = None
        if self.estimator.uses_critic:
            self.critic = critics.Critic(self.action_space.relaxation, self.surrogate)
            self.critic.build((None, self.action_space.logits_size), (None, *shape))
            if self.estimator.off_policy is not None:
                self.memory = Memory(self.estimator.off_policy.capacity)
        check.networks(self)
        self.gradient_moments = GradientMoments(self.policy.trainable_variables)
        self.normalization = Normalization(
            shape, self.normalize_observations, self.normalize_rewards
        )
        self.build_actions()
        self.built = True

    def cited(self) -> dict[str, str]:
        """Returns the entries of `citation`, those of all that it is made of, by their keys."""
        entries = together(self.estimator, self.trust_region, self.reuse)
        if self.gae_lambda not in (None, 1):
            entries["schulman2016"] = PAPERS["schulman2016"]
        return entries

    def compile(
        self,
        optimizer: Any = "rmsprop",
        value_optimizer: Any = None,
        surrogate_optimizer: Any = None,
        entropy_weight: float = 0.01,
        value_steps: int = 1,
        jit_compile: bool = True,
        value_weight: float = 0.5,
    ) -> None:
        """Says how the policy, the value and the surrogate learn.

        Args:
            optimizer: of the policy; a Keras optimizer, or its name.
            value_optimizer: of the value; `None` is another of the kind of `optimizer`.
            surrogate_optimizer: of the surrogate; `None` is another of the kind of `optimizer`.
            entropy_weight: of the entropy of the policy in each step, in units of reward.
            value_steps: steps of the value's optimizer per update.
            jit_compile: whether updates are compiled with XLA.
            value_weight: of the squared error of a value that shares layers with the policy. These
                layers move with the policy's optimizer, which descends both.

        Callbacks may set `gamma`, `gae_lambda`, `entropy_weight`, `value_steps` and `value_weight`
        of the trainer, and the numbers of its trust region, at any time.

        Raises:
            ValueError: for a number outside its range.
        """
        policy = keras.optimizers.get(optimizer)
        super().compile(optimizer=policy, jit_compile=jit_compile)
        self.value_optimizer = _another(value_optimizer, policy)
        self.surrogate_optimizer = _another(surrogate_optimizer, policy)
        self.entropy_weight = entropy_weight
        self.value_steps, self.value_weight = value_steps, value_weight
        policy_variables = self.policy.trainable_variables
        if not self.gradient_moments.fits(policy_variables):  # some were frozen, or are no longer
            self.gradient_moments = GradientMoments(policy_variables)
        self.optimizer.build(policy_variables)
        if self.value_variables:
            self.value_optimizer.build(self.value_variables)
        if self.critic is not None:
            learns = self.critic if self.memory is None else self.critic.surrogate
            self.surrogate_optimizer.build(learns.trainable_variables)
        self.build_updates(jit_compile)

    def fit(
        self,
        total_timesteps: int,
        callbacks: Sequence[keras.callbacks.Callback] | None = None,
        seed: int | None = None,
        verbose: int | str = "auto",
    ) -> keras.callbacks.History:
        """Trains for a number of frames more.

        Interrupting it (Ctrl-C) loses the rollout under way and nothing else: call it again to go
        on. An update is an epoch of one batch to callbacks.

        Args:
            total_timesteps: frames, steps of a single environment; the last update may exceed it.
            callbacks: Keras callbacks, and those of `tf_relax.rl`.
            seed: of the environments, and of all noise. `None` goes on with what there is.
            verbose: 0 is silent, 1 (or `"auto"`) a progress bar.

        Returns:
            History with one entry per update: `episodes`, `frames`, `return` and `length` (means of
                the latest 100 episodes), `entropy`, `kl`, `gradient_log_variance` (of the latest
                updates, in nats), and with a value `explained_variance` and `value_loss`.

        Raises:
            ValueError: for less than one frame.
            RuntimeError: if it was not compiled, or the environment raises.
            FloatingPointError: if the environment or the policy returns what is not finite.
        """
        if total_timesteps < 1:
            raise ValueError(f"`total_timesteps` must be at least 1. Received: {total_timesteps}")
        if not self.compiled:
            raise RuntimeError(f"'{self.name}' is not compiled: call `compile` before `fit`.")
        if seed is not None:
            self.noise_seeds.state.assign(keras.random.SeedGenerator(seed).state)
        rng = np.random.default_rng(seed)
        goal = self.frames + total_timesteps
        every = keras.tree.flatten(callbacks) if callbacks else []
        if verbose != 0:
            every.append(Progress(self.frames, total_timesteps))
        listeners = Listeners(
            every, add_history=True, add_progbar=False, model=self, verbose=0, epochs=None
        )
        collector = self._collector()
        self.stop_training = False
        listeners.on_train_begin()
        try:
            while self.frames < goal and not self.stop_training:
                self._one_update(collector, listeners, rng, seed)
                seed = None
        except KeyboardInterrupt:
            self.environments.interrupted()
            raise
        # As in Keras, not after an error: BackupAndRestore keeps something for that case.
        listeners.on_train_end()
        return self.history

    def _one_update(
        self, collector: Any, listeners: Listeners, rng: np.random.Generator, seed: int | None
    ) -> None:
        listeners.on_update_begin(self.updates)
        check.amounts(self)
        collector.n_episodes, collector.n_steps = self.n_episodes, self.n_steps
        if seed is not None or self.environments.observations is None:
            self.normalization.forget()
        rollout, frames = collector.collect(seed)
        if not self.updates:
            check.bounds(self, rollout)
        logs = self.learn(rollout, rng)
        self.frames += frames
        self.unused_frames += collector.unused
        self._count_episodes()
        self.updates += 1
        listeners.on_update_end(self.updates - 1, {**self._progress(), **logs})

    def evaluate(
        self, n_episodes: int = 10, deterministic: bool = True, seed: int | None = None
    ) -> tuple[float, float]:
        """Returns mean and standard deviation of the return over episodes of their own.

        Statistics of wrappers such as gymnasium's `NormalizeObservation` are those of training, and
        stay as they are.

        Args:
            n_episodes: how many.
            deterministic: whether the policy takes its most probable action, or samples.
            seed: of the environments.

        Raises:
            ValueError: for less than one episode.
        """
        if self._evaluation is None:
            self._evaluation = another(self.environments, self._given_env)
        with wrapper_statistics.lent(self.environments.vector, self._evaluation.vector):
            self._evaluation.remember(state_shapes(self.policy))
            act = functools.partial(self.samples, deterministic=deterministic)
            returns = evaluate(self._evaluation, act, n_episodes, seed)
            self._evaluation.remember(self.memory_shapes)  # which may be that of training
        return float(returns.mean()), float(returns.std())

    def _progress(self) -> dict[str, float]:
        episodes = len(self.episode_returns)
        latest = range(-min(episodes, WINDOW), 0)
        returns, lengths = [
            float(np.mean([x[k] for k in latest])) if latest else float("nan")
            for x in (self.episode_returns, self.episode_lengths)
        ]
        return {
            "episodes": episodes,
            "frames": self.frames,
            "return": returns,
            "length": lengths,
        }

    def _count_episodes(self) -> None:
        finished = self.environments.finished
        self.episode_returns.extend(total for total, _ in finished)
        self.episode_lengths.extend(length for _, length in finished)
        finished.clear()


def _another(optimizer: Any, like: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """Returns an optimizer, or another like the given one."""
    if optimizer is not None:
        return keras.optimizers.get(optimizer)
    return type(like).from_config(like.get_config())
