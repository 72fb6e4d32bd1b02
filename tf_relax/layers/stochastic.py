"""What every stochastic layer shares: a thin shell over a relaxation plus a surrogate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax import surrogates
from tf_relax.compat import keras_mask, position_of_call
from tf_relax.layers.mask import combined_mask, of_steps, restricted
from tf_relax.relaxations import Draw, Relaxation
from tf_relax.relaxations.event import all_finite, along_event
from tf_relax.relaxations.noise import seed_pair, stream
from tf_relax.sites.handler import current_handler
from tf_relax.surrogates import Stein, Surrogate, mark_surrogate_variables

_INFERENCE = ("sample", "mode", "mean")
_SEED_STATE = "seed_state"


class Stochastic(keras.layers.Layer):
    """Base of the stochastic layers: logits in, hard samples out.

    Subclasses provide a `relaxation`. The layer owns everything that its gradient estimator learns:
    the temperature (through its logarithm, so it stays positive) and the scale of the relaxed
    objective, the surrogate, the factors of other control variates, and the running mean and
    variance of the objective that a baseline needs.

    Args:
        relaxation: what it draws, for subclasses that make one from their arguments.
        temperature: initial temperature t > 0 of `relax(z, t)`.
        scale: initial factor of the objective at relaxed inputs in the surrogate.
        surrogate: a `tf_relax.surrogates.Surrogate`, its name ("objective", "network", "sum") or a
            Keras model of z.
        inference: what `training=False` returns: a `"sample"`, the `"mode"` or the `"mean"`.
        seed: integer seed of the noise. Calls in one model differ in their noise, whatever their
            layers' seeds, and a model that is made again draws the same.
        check_numerics: whether to stop with an error that names the layer when logits contain NaN
            or infinity. Such checks do not exist under XLA: the option turns `jit_compile` off.
    """

    relaxation: Relaxation
    # Whether the output has a relaxed stand-in; indices have none.
    relaxable: bool = True

    def __init__(
        self,
        relaxation: Relaxation | None = None,
        temperature: float = 0.1,
        scale: float = 1.0,
        surrogate: str | Surrogate = "sum",
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        # No autocast: noise, z and log-probabilities need float32 under any dtype policy.
        super().__init__(autocast=False, **kwargs)
        if not 0 < temperature < float("inf"):
            raise ValueError(
                f"{self._label()} needs a finite temperature above 0. Received: {temperature}"
            )
        if inference not in _INFERENCE:
            raise ValueError(
                f"{self._label()}: `inference` must be one of {_INFERENCE}. Received: {inference!r}"
            )
        if relaxation is not None:
            self.relaxation = relaxation
        self.noise_dtype = "float64" if self.variable_dtype == "float64" else "float32"
        self.supports_masking = True
        self.initial_temperature = temperature
        self.initial_scale = self.scale = scale
        self.surrogate = surrogates.get(surrogate, dtype=self.noise_dtype)
        self.stein = Stein(dtype=self.noise_dtype, name="stein")
        self.inference = inference
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.check_numerics = check_numerics
        self.supports_jit = self.relaxation.supports_jit and not check_numerics
        if inference == "mean" and not (self.relaxation.has_mean and self.relaxable):
            raise ValueError(
                f"{self._label()} does not know the mean of its samples, or cannot return it. Use "
                "inference='mode' or 'sample'."
            )

    def _label(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        if len(logits_shape) < 1:
            raise ValueError(
                f"{self._label()} needs logits of shape [batch, *event]. Received a scalar."
            )
        try:
            self.relaxation.check_event(tf.TensorShape(logits_shape[1:]))
        except ValueError as error:
            raise ValueError(f"{self._label()} {error}") from None
        self.logits_rank = len(logits_shape)
        self.log_temperature = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(np.log(self.initial_temperature)),
            dtype=self.noise_dtype,
            autocast=False,
            name="log_temperature",
        )
        self.scale = self.add_weight(
            shape=(),
            initializer=keras.initializers.Constant(self.initial_scale),
            dtype=self.noise_dtype,
            autocast=False,
            name="scale",
        )
        self.linear_scale = self.add_weight(
            shape=(),
            initializer="zeros",
            dtype=self.noise_dtype,
            autocast=False,
            name="linear_scale",
        )
        self.baseline = self._statistic("baseline", "zeros")
        self.baseline_variance = self._statistic("baseline_variance", "ones")
        if not self.surrogate.built:  # a loader builds inner layers first
            z_shape = tuple(self.relaxation.relaxed_shape(tf.TensorShape(logits_shape)))
            self.surrogate.build(z_shape, tuple(logits_shape), context_shape)
        if not self.stein.built:
            self.stein.build()
        mark_surrogate_variables(
            [
                self.log_temperature,
                self.scale,
                self.linear_scale,
                *self.stein.trainable_variables,
                *self.surrogate.trainable_variables,
            ]
        )

    def _statistic(self, name: str, initializer: str) -> keras.Variable:
        """Adds a running statistic of the objective, which no optimizer touches."""
        return self.add_weight(
            shape=(),
            initializer=initializer,
            trainable=False,
            dtype=self.noise_dtype,
            autocast=False,
            name=name,
        )

    @property
    def temperature(self) -> tf.Tensor:
        """Temperature t of `relax(z, t)`; the initial one before the layer is built."""
        if not self.built:
            return tf.constant(self.initial_temperature, self.noise_dtype)
        return tf.exp(self.log_temperature.value)

    @property
    def objective_variables(self) -> list[keras.Variable]:
        """Surrogate variables that act through the objective at relaxed inputs."""
        return [self.log_temperature, self.scale]

    def noise(self, logits: tf.Tensor, count: int = 1, position: int | None = None) -> tf.Tensor:
        """Draws fresh noise for logits, `[count, batch, *event]`.

        Args:
            logits: `[batch, *event]`.
            count: how many noise tensors.
            position: of the call among those of all stochastic layers; `None` counts them in the
                call of the outermost model.
        """
        static = self.relaxation.noise_shape(logits.shape).as_list()
        dynamic = tf.shape(logits)
        shape = [dynamic[k] if size is None else size for k, size in enumerate(static)]
        shape = tf.stack([count, *shape])
        position = position_of_call() if position is None else position
        seed = stream(seed_pair(self.seed_generator), position)
        return self.relaxation.noise(shape, logits.dtype, seed)

    def as_output(self, draw: Draw) -> tf.Tensor:
        """Returns what a hard sample looks like to the rest of the model, without a derivative.

        Examples whose logits were NaN get NaN: comparisons with it would give samples like any.
        """
        if not self.relaxable:
            return self.relaxation.index(draw)
        z, b = tf.stop_gradient(draw.z), tf.stop_gradient(draw.b)
        b = tf.where(along_event(all_finite(z), b), b, tf.constant(float("nan"), b.dtype))
        return tf.cast(b, self.compute_dtype)

    def hard_output(self, logits: tf.Tensor, output: tf.Tensor) -> tf.Tensor:
        """Returns a hard output; differentiating it raises."""
        if not output.dtype.is_floating:
            return output  # an index, which nothing can be differentiated through anyway
        message = (
            f"{self._label()} returns discrete samples, which have no derivative: backpropagation "
            "through them would train the layers before it with a zero or biased gradient. Build "
            "the model as a tf_relax.RelaxModel and train it with `fit` (in one already, remove "
            "the inner tf.function that hides the layer), or wrap the sample in tf.stop_gradient "
            "if no gradient is wanted."
        )
        # The output is cut off from the logits, so the refusal rides on a zero that is not. (A
        # custom gradient that raises would do as well, but saving a model traces those.)
        zero = tf.reshape(logits - tf.stop_gradient(logits), [tf.shape(logits)[0], -1])
        zero = tf.reduce_sum(tf.where(tf.math.is_finite(zero), zero, tf.zeros_like(zero)), axis=1)
        zero = tf.raw_ops.PreventGradient(input=zero, message=message)
        return output + tf.cast(along_event(zero, output), output.dtype)

    def relaxed_output(self, z: tf.Tensor) -> tf.Tensor:
        """Returns `relax(z, t)` with the layer's temperature."""
        if not self.relaxable:
            raise ValueError(
                f"{self._label()} returns indices, which have no relaxed stand-in, and the "
                "surrogate of a layer before it evaluates the objective at relaxed samples. "
                "Let it return one-hot vectors, or use `surrogate='network'` in the layers before."
            )
        return tf.cast(self.relaxation.relax(z, self.temperature), self.compute_dtype)

    def surrogate_value(
        self,
        z: tf.Tensor,
        logits: tf.Tensor,
        context: tf.Tensor | None,
        targets: tf.Tensor | None,
    ) -> tf.Tensor:
        """Returns ``r(z)``, `[batch]`, from z and what the surrogate declares to look at."""
        shown = self.relaxation.shown
        z, logits = shown(logits, z), shown(logits, logits)
        given = {"logits": logits, "context": context, "targets": targets}
        looks_at = self.surrogate.looks_at
        if "targets" in looks_at and targets is None:
            raise ValueError(
                f"The surrogate of {self._label()} looks at the targets, and this step has none "
                "that are a single tensor. Pass `y` to `fit`, or leave 'targets' out of `looks_at`."
            )
        return self.surrogate(z, **{name: given[name] for name in looks_at})

    def call(
        self,
        logits: tf.Tensor,
        context: tf.Tensor | None = None,
        mask: tf.Tensor | None = None,
        training: bool | None = None,
        logits_mask: tf.Tensor | None = None,
    ) -> tf.Tensor:
        # Keras passes its own mask of the logits as `mask`, or next to other tensors as
        # `logits_mask`.
        logits = self._as_logits(logits)
        mask = self._mask(logits, mask=mask, logits_mask=logits_mask)
        logits = restricted(self.relaxation, logits, mask)
        if context is not None:
            context = tf.cast(context, logits.dtype)
        handler = current_handler()
        always = handler is not None and handler.always_samples
        sampled = bool(training) or self.inference == "sample" or always
        draw = None
        if sampled and handler is not None:
            site = handler.visit(self, logits, context, mask)
            output, logits = site.output, site.logits
            draw = None if handler.relaxed else site.draw
        elif sampled:
            draw = self.relaxation.sample(logits, self.noise(logits)[0])
            output = self.hard_output(logits, self.as_output(draw))
        elif self.inference == "mode":
            output = self.hard_output(logits, self.mode_output(logits))
        else:
            output = tf.cast(self.relaxation.mean(logits), self.compute_dtype)
        method = None if handler is None else handler.divergence
        self.add_divergence(logits, output if sampled else None, draw, method, mask)
        if not self.relaxable:  # an index cannot be NaN
            finite = all_finite(logits)
            zero = tf.zeros(tf.shape(finite), logits.dtype)
            add_per_example_loss(self, tf.where(finite, zero, float("nan")))
        return output

    def mode_output(self, logits: tf.Tensor) -> tf.Tensor:
        """Returns the most probable output."""
        b = self.relaxation.mode(logits)
        return self.as_output(Draw(noise=b, z=logits, b=b, trace=None))

    def _mask(self, logits: tf.Tensor, **masks: Any) -> tf.Tensor | None:
        """Returns the masks of a call as one, with as many axes as the logits, or `None`."""
        return combined_mask(self, self.relaxation, logits, **masks)

    def compute_mask(self, logits: Any, previous_mask: Any = None) -> Any:
        """Returns the mask of the samples: that of whole steps, not of items."""
        return of_steps(self.relaxation, logits, [previous_mask, keras_mask(logits)])

    def add_divergence(
        self,
        logits: tf.Tensor,
        output: tf.Tensor | None,
        draw: Draw | None,
        method: str | None,
        mask: tf.Tensor | None = None,
    ) -> None:
        """Adds the divergence from the layer's prior to the objective, where it has one.

        Args:
            logits: `[batch, *event]`.
            output: what the layer returned, or `None` if it did not draw a sample.
            draw: the draw behind it, or `None` if the output is no hard sample.
            method: how to compute it; `None` is the layer's own choice.
            mask: what takes part, with as many axes as the logits, or `None` for everything.
        """

    def _as_logits(self, logits: Any) -> tf.Tensor:
        logits = tf.convert_to_tensor(logits)
        if not logits.dtype.is_floating:
            raise TypeError(
                f"{self._label()} needs floating-point logits. Received dtype {logits.dtype.name}: "
                "pass the output of a layer such as Dense, not labels or indices."
            )
        logits = tf.cast(logits, self.noise_dtype)
        if self.check_numerics:
            logits = tf.debugging.check_numerics(logits, f"Logits of {self._label()}")
        return logits

    def save_own_variables(self, store: Any) -> None:
        super().save_own_variables(store)
        # Keras saves the state of no seed generator; with it, training resumes bit by bit.
        store[_SEED_STATE] = np.asarray(self.seed_generator.state)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        super().load_own_variables({key: store[key] for key in store.keys() if key != _SEED_STATE})
        if _SEED_STATE in store.keys():
            self.seed_generator.state.assign(store[_SEED_STATE])

    def _relaxation_of(self, logits_shape: Any) -> Relaxation:
        """Returns the relaxation for logits of a shape."""
        return self.relaxation

    def compute_output_shape(self, logits_shape: Any, context_shape: Any = None) -> Any:
        relaxation = self._relaxation_of(logits_shape)
        shape = relaxation.sample_shape(tf.TensorShape(logits_shape))
        return tuple(shape if self.relaxable else shape[:-1])

    def compute_output_spec(self, logits: Any, *args: Any, **kwargs: Any) -> keras.KerasTensor:
        dtype = self.compute_dtype if self.relaxable else "int32"
        return keras.KerasTensor(self.compute_output_shape(logits.shape), dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        config = super().get_config()
        config.pop("autocast", None)
        return {
            **config,
            "temperature": self.initial_temperature,
            "scale": self.initial_scale,
            "surrogate": keras.saving.serialize_keras_object(self.surrogate),
            "inference": self.inference,
            "seed": self.seed,
            "check_numerics": self.check_numerics,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Stochastic:
        surrogate = keras.saving.deserialize_keras_object(config["surrogate"])
        return cls(**{**config, "surrogate": surrogate})


def add_per_example_loss(layer: keras.layers.Layer, per_example: tf.Tensor) -> None:
    """Adds a cost per example, `[batch]`, to a layer; its mean joins the loss.

    Keras sums what `add_loss` is given: dividing by the batch makes that sum a mean.
    """
    batch = tf.cast(tf.shape(per_example)[0], per_example.dtype)
    layer.add_loss(per_example / batch)


def refuse_temperature(owner: str, arguments: Mapping[str, Any]) -> None:
    """Raises a ValueError where a layer that relaxes nothing is given a temperature."""
    if "temperature" in arguments:
        raise ValueError(
            f"{owner} has no `temperature`: its samples are their own relaxation. Leave it out."
        )
