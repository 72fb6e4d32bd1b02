"""A Keras model of sequences that trains on rewards of whole ones."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.compat import loss_tracker
from tf_relax._src.critic import Critic
from tf_relax._src.relaxations.noise import gumbel
from tf_relax._src.sequences import check, estimators
from tf_relax._src.sequences.decoder import as_given, as_integers, as_list, repeated
from tf_relax._src.sequences.distribution import Distribution, prompts_of_each
from tf_relax._src.sequences.drawing import Sequences
from tf_relax._src.sequences.estimators import SequenceEstimator
from tf_relax._src.sequences.learner import Costs, Evidence, differentiate
from tf_relax._src.sequences.rewards import Reward, rewarded
from tf_relax._src.surrogates import mark_surrogate_variables
from tf_relax._src.training.relax_optimizer import paired

_LOGGED = ("reward", "length", "entropy", "kl")


@keras.saving.register_keras_serializable(package="tf_relax")
class SequenceModel(Distribution):
    r"""Draws sequences from a model of the next token, and trains it on what they earn.

    $$\max_\theta \mathbb{E}_{y \sim p(y \mid x)}[R(x, y)]
        - \lambda \mathrm{KL}(p \parallel p_{\mathrm{ref}}) + \eta H(p)$$

    by an estimate of its gradient from $K$ sequences per prompt. The weights $\lambda$ and $\eta$
    are `kl_weight` and `entropy_weight` of `compile`. The reward is any Python function of the
    finished sequences. Divergence and entropy are sums over tokens, exact at every token given
    those before it, and their gradient holds what a token does to later ones.

    Args:
        decoder: a Keras model from tokens, `[batch, tokens]`, to the logits of the token after each
            of them, `[batch, tokens, vocabulary]`; with several inputs the tokens are the last, and
            the others a context. It must not look ahead. A `tf_relax.sequences.Decoder` remembers
            what it has read; other models read it again for every token.
        max_length: tokens of the longest sequence, the prompt left out.
        stop_token: after which a sequence ends; `None` for sequences of one length.
        temperature: that logits are divided by; the model is trained as it is sampled.
        reference: a model like `decoder`, which stays as it is, for `kl_weight`.

    The decoder runs in inference mode, without dropout: it has to score what it has drawn.

    Raises:
        ValueError: for numbers outside their range, and for a decoder whose outputs are not logits
            of a vocabulary.

    Example:

    >>> import keras, numpy as np, tf_relax
    >>> tokens = keras.Input((None,), dtype="int32")
    >>> read = keras.layers.GRU(16, return_sequences=True)(keras.layers.Embedding(5, 8)(tokens))
    >>> decoder = keras.Model(tokens, keras.layers.Dense(5)(read))
    >>> model = tf_relax.sequences.SequenceModel(decoder, max_length=6, stop_token=0)
    >>> def threes(finished):
    ...     return (finished.tokens == 3).sum(axis=1)
    >>> model.compile("adam", reward=threes, estimator="leave_one_out")
    >>> history = model.fit(np.ones((32, 1), "int32"), verbose=0)  # prompts of one token
    >>> model.predict(np.ones((2, 1), "int32"), verbose=0).shape  # the most probable tokens
    (2, 6)
    """

    reward: Reward | None = None
    estimator: SequenceEstimator | None = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self._learn_with(self.critic)

    @property
    def critic(self) -> Critic | None:
        """The surrogate of a compiled model, where its estimator has one. No part of its weights.

        Like the optimizer it belongs to training, and is saved with it.
        """
        return self.__dict__.get("_critic")

    def _learn_with(self, critic: Critic | None) -> None:
        # Keras would track an attribute, and count what estimators learn among the weights.
        self.__dict__["_critic"] = critic
        if critic is not None and self.built:
            critic.build((None, self.vocabulary), (None, 1))
            critic.built = True
            mark_surrogate_variables(critic.variables)

    def compile(
        self,
        optimizer: Any = "adam",
        reward: Reward | None = None,
        estimator: str | SequenceEstimator = "leave_one_out",
        kl_weight: float = 0.0,
        entropy_weight: float = 0.0,
        jit_compile: Any = "auto",
        **kwargs: Any,
    ) -> None:
        """Says what the model is trained for, and how.

        Args:
            optimizer: as of `keras.Model.compile`, or a `tf_relax.RelaxOptimizer` with one for the
                surrogate of `SequenceRelax`.
            reward: a function of a `tf_relax.sequences.Finished`, NumPy arrays, that returns one
                reward per sequence, `[batch]`, or one per token, `[batch, max_length]`; then every
                token answers for what comes after it alone.
            estimator: of the gradient: `"leave_one_out"`, `"unordered_set"`, `"relax"`,
                `"reinforce"`, the biased `"grpo"`, or an object of `tf_relax.sequences`.
            kl_weight: of the divergence from the reference, per sequence, in units of reward.
            entropy_weight: of the entropy of the sequences, likewise.
            jit_compile: whether drawing and differentiating are compiled with XLA. The reward runs
                as Python code in between.
            **kwargs: further arguments of `keras.Model.compile`.

        Raises:
            ValueError: for an unknown estimator, and for a weight of a reference there is none of.
        """
        if kl_weight and self.reference is None:
            raise ValueError(
                f"SequenceModel '{self.name}': kl_weight={kl_weight} weighs the divergence from a "
                "reference, and there is none: SequenceModel(..., reference=a_frozen_copy)."
            )
        if reward is not None and not callable(reward):
            raise TypeError(
                f"SequenceModel '{self.name}': `reward` is a function of finished sequences. "
                f"Received: {reward!r}"
            )
        self.estimator = estimators.get(estimator)
        self.reward = reward
        self.kl_weight, self.entropy_weight = float(kl_weight), float(entropy_weight)
        self._compiles_with_xla = bool(jit_compile)
        super().compile(paired(optimizer), jit_compile=False, **kwargs)
        self._learn_with(self.estimator.critic(self._dtype.name))
        # No attribute, which a built model could not get: like those of Keras, no part of it.
        self.__dict__["_means"] = {name: keras.metrics.Mean(name=name) for name in _LOGGED}
        options = {
            "autograph": False,
            "jit_compile": self._compiles_with_xla,
            "reduce_retracing": True,
        }
        self._draw_compiled = tf.function(self._draw, **options)
        self._differentiate_compiled = tf.function(self._differentiate, **options)

    @property
    def metrics(self) -> list[keras.Metric]:
        means = self.__dict__.get("_means", {})
        shown = [m for name, m in means.items() if name != "kl" or self.reference is not None]
        return [*shown, *super().metrics]

    @property
    def trained_variables(self) -> list[keras.Variable]:
        """The variables that a step updates: the decoder's, and those of a surrogate."""
        learned = [] if self.critic is None else self.critic.trainable_variables
        return [*self.decoder.trainable_variables, *learned]

    def train_step(self, data: Any) -> dict[str, Any]:
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(data)
        check.trainable(self, sample_weight)
        inputs = as_integers(x)
        self._build_for(inputs)
        evidence = self.differentiate(inputs, y)
        if not self.optimizer.built:
            self.optimizer.build(self.trained_variables)
        self.optimizer.apply(evidence.gradients, self.trained_variables)
        self._log(evidence.logs)
        return self.get_metrics_result()

    def differentiate(self, x: Any, y: Any = None, seed: Any = None) -> Evidence:
        """Draws sequences, asks for their rewards, and estimates the gradient of every variable.

        Args:
            x: prompts, after the tensors of a context if there is one.
            y: targets, for the reward function.
            seed: of the noise.
        """
        assert self.estimator is not None
        seeds = tf.random.experimental.stateless_split(self._seed(seed), 2, alg="philox")
        count = self.estimator.num_samples
        draw, differentiated = self._draw, self._differentiate
        if not self.run_eagerly:
            draw, differentiated = self._draw_compiled, self._differentiate_compiled
        drawn = draw(x, seeds[0], count, self.estimator.without_replacement)
        if self.estimator.without_replacement:
            sequences, exists = drawn
        else:
            sequences = drawn
            exists = tf.ones([tf.shape(sequences.mask)[0] // count, count], tf.bool)
        assert self.reward is not None
        given = self._of_sequences(x, count), None if y is None else repeated(y, count)
        at_end, of_tokens = rewarded(self.name, self.reward, sequences, *given)
        return differentiated(x, sequences, exists, at_end, of_tokens, seeds[1])

    def _of_sequences(self, x: Any, count: int) -> Any:
        """Returns context and prompt of every sequence, as rewards see them."""
        *context, prompt = as_list(x)
        if prompt.shape.rank == 3:
            prompt = tf.reshape(prompt, [-1, prompt.shape[-1]])
        else:
            prompt = repeated(prompt, count)
        return as_given([*repeated(context, count), prompt])

    def test_step(self, data: Any) -> dict[str, Any]:
        x, y, _ = keras.utils.unpack_x_y_sample_weight(data)
        check.trainable(self, None)
        inputs = as_integers(x)
        count = prompts_of_each(inputs)
        sequences = self._draw(inputs, self._seed(None), count)
        given = self._of_sequences(inputs, count), None if y is None else repeated(y, count)
        assert self.reward is not None
        at_end, of_tokens = rewarded(self.name, self.reward, sequences, *given)
        rewards = at_end + tf.reduce_sum(of_tokens, axis=-1)
        logs = {"reward": rewards, "length": sequences.lengths}
        loss_tracker(self).update_state(-rewards)
        for name, value in logs.items():
            self._means[name].update_state(value)
        shown = {name: self._means[name].result() for name in logs}
        return {"loss": loss_tracker(self).result(), **shown}

    def _differentiate(
        self, inputs: Any, sequences: Sequences, exists: Any, at_end: Any, of_tokens: Any, seed: Any
    ) -> Evidence:
        assert self.estimator is not None
        costs = Costs(at_end, of_tokens, self.kl_weight, self.entropy_weight)
        shape = [*sequences.tokens.shape, self.vocabulary]
        noise = gumbel([tf.shape(sequences.tokens)[0], *shape[1:]], self._dtype, seed)
        return differentiate(self, inputs, sequences, exists, costs, noise)

    def _log(self, logs: dict[str, tf.Tensor]) -> None:
        loss_tracker(self).update_state(logs["loss"])
        for name, mean in self._means.items():
            mean.update_state(logs[name])

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        for k, variable in enumerate(self.critic.variables if self.critic else []):
            store[f"critic_{k}"] = np.asarray(variable.value)

    def load_own_variables(self, store: Any) -> None:
        own = {key: store[key] for key in store.keys() if not key.startswith("critic_")}
        super().load_own_variables(own)
        for k, variable in enumerate(self.critic.variables if self.critic else []):
            if f"critic_{k}" in store:
                variable.assign(store[f"critic_{k}"])

    def get_compile_config(self) -> dict[str, Any]:
        assert self.estimator is not None
        return {
            "optimizer": keras.saving.serialize_keras_object(self.optimizer),
            "reward": self.reward and keras.saving.serialize_keras_object(self.reward),
            "estimator": keras.saving.serialize_keras_object(self.estimator),
            "kl_weight": self.kl_weight,
            "entropy_weight": self.entropy_weight,
            "jit_compile": self._compiles_with_xla,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trained_variables)
