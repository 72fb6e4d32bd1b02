"""What every stochastic layer shares: a thin shell over a relaxation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.compat import keras_mask, position_of_call
from tf_relax._src.layers.drawn import Drawn
from tf_relax._src.layers.mask import combined_mask, of_steps, restricted
from tf_relax._src.layers.serving import current_serving
from tf_relax._src.relaxations import Draw, KnownMean, Relaxation, Relaxed
from tf_relax._src.relaxations.event import all_finite, along_event
from tf_relax._src.relaxations.noise import of_replica, seed_pair, stream
from tf_relax._src.sites.handler import current_handler
from tf_relax._src.sites.shapes import Shapes

# How the divergence of a sample's distribution from its prior is computed.
ANALYTIC, SAMPLED = "analytic", "sampled"
_INFERENCE = ("sample", "mode", "mean")
_SEED_STATE, _KIND = "seed_state", "kind"


class Stochastic(keras.layers.Layer):
    """Base of the stochastic layers: logits in, hard samples out.

    Subclasses provide a `relaxation`. What a gradient estimator learns for the layer belongs to the
    estimator, and is held by the compiled model.

    Args:
        relaxation: what it draws, for subclasses that make one from their arguments.
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
        inference: str = "sample",
        seed: int | None = None,
        check_numerics: bool = False,
        **kwargs: Any,
    ):
        learned = sorted(kwargs.keys() & {"surrogate", "temperature", "scale"})
        if learned:
            raise ValueError(
                f"{type(self).__name__} has no `{learned[0]}`, which belongs to an estimator: "
                f"compile(estimator=tf_relax.estimators.Relax({learned[0]}=...)), or for this "
                f"layer alone estimator={{name: Relax({learned[0]}=...), ...}}."
            )
        # No autocast: noise, z and log-probabilities need float32 under any dtype policy.
        super().__init__(autocast=False, **kwargs)
        if inference not in _INFERENCE:
            raise ValueError(
                f"{self._label()}: `inference` must be one of {_INFERENCE}. Received: {inference!r}"
            )
        if relaxation is not None:
            self.relaxation = relaxation
        self._of_any_shape = self.relaxation  # `relaxation` is that of the logits, once built
        self.noise_dtype = "float64" if self.variable_dtype == "float64" else "float32"
        self.supports_masking = True
        self.inference = inference
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(seed)
        self.check_numerics = check_numerics
        self.supports_jit = self.relaxation.supports_jit and not check_numerics
        if inference == "mean" and not (isinstance(self.relaxation, KnownMean) and self.relaxable):
            raise ValueError(
                f"{self._label()} does not know the mean of its samples, or cannot return it. Use "
                "inference='mode' or 'sample'."
            )

    def _label(self) -> str:
        return f"{type(self).__name__} '{self.name}'"

    def build(self, logits_shape: Any, context_shape: Any = None) -> None:
        if any(isinstance(size, (tuple, list)) for size in logits_shape):
            raise TypeError(
                f"{self._label()} takes one tensor of logits. Received {len(logits_shape)} of "
                "them: concatenate them, or call the layer with each."
            )
        if len(logits_shape) < 1:
            raise ValueError(
                f"{self._label()} needs logits of shape [batch, *event]. Received a scalar."
            )
        self.relaxation = self._relaxation_for(logits_shape)
        try:
            self.relaxation.check_event(tf.TensorShape(logits_shape[1:]))
        except ValueError as error:
            raise ValueError(f"{self._label()} {error}") from None
        self.logits_rank = len(logits_shape)
        relaxed_shape = self.relaxation.relaxed_shape(tf.TensorShape(logits_shape))
        context_shape = None if context_shape is None else tuple(context_shape)
        self.shapes = Shapes(tuple(relaxed_shape), tuple(logits_shape), context_shape)

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
        position = position_of_call() if position is None else position
        serving = current_serving()
        if serving is not None:
            seed = stream(serving.seed, position)
        else:
            seed = of_replica(stream(seed_pair(self.seed_generator), position))
        return self.relaxation.noise(tf.stack([count, *shape]), logits.dtype, seed)

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
        if current_serving() is not None:
            return output  # to where nothing is differentiated, and the op below may not exist
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

    def relaxed_output(self, z: tf.Tensor, temperature: tf.Tensor) -> tf.Tensor:
        """Returns `relax(z, t)`."""
        if not self.relaxable:
            raise ValueError(
                f"{self._label()} returns indices, which have no relaxed stand-in, and the "
                "surrogate of a layer before it evaluates the objective at relaxed samples. "
                "Let it return one-hot vectors, or use Relax(surrogate='network') for the layers "
                "before."
            )
        if not isinstance(self.relaxation, Relaxed):
            raise ValueError(
                f"{self._label()} draws samples without a derivative in their parameters, and the "
                "surrogate of a layer before it evaluates the objective at relaxed samples, with "
                "which they would jump. Use Relax(surrogate='network') for the layers before."
            )
        return tf.cast(self.relaxation.relax(z, temperature), self.compute_dtype)

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
        serving = current_serving()
        inference = self.inference
        if serving is not None:
            inference = serving.inference or inference
            training = training and serving.inference is None
            if isinstance(self.relaxation, KnownMean):
                serving.keep_mean(self.name, self.relaxation.mean(logits))
        sampled = bool(training) or inference == "sample" or always
        draw = None
        if sampled and handler is not None:
            site = handler.visit(self, logits, context, mask)
            output, logits = site.output, site.logits
            draw = site.draw if site.hard else None
        elif sampled and serving is not None and serving.seeds is not None:
            output = serving.by_example(self, logits, position_of_call())
        elif sampled:
            draw = self.relaxation.sample(logits, self.noise(logits)[0])
            output = self.hard_output(logits, self.as_output(draw))
        elif inference == "mode":
            output = self.hard_output(logits, self.mode_output(logits))
        else:
            assert isinstance(self.relaxation, KnownMean)
            output = tf.cast(self.relaxation.mean(logits), self.compute_dtype)
        method = None if handler is None else handler.divergence
        if serving is not None:
            return output  # which has no objective
        drawn = Drawn(self.relaxation, draw, sampled, mask)
        self.add_divergence(logits, output, drawn, method)
        if not self.relaxable:  # an index cannot be NaN
            finite = all_finite(logits)
            zero = tf.zeros(tf.shape(finite), logits.dtype)
            add_per_example_loss(self, tf.where(finite, zero, float("nan")))
        return drawn.kept_with(output)

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
        self, logits: tf.Tensor, output: tf.Tensor, drawn: Drawn, method: str | None
    ) -> None:
        """Adds the divergence from the layer's prior to the objective, where it has one.

        Args:
            logits: `[batch, *event]`.
            output: what the layer returned.
            drawn: how it came about.
            method: how to compute the divergence; `None` is the layer's own choice.
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
        # Logits of one shape are those of layers of many kinds.
        store[_KIND] = np.frombuffer(type(self).__name__.encode(), np.uint8)

    def load_own_variables(self, store: Mapping[str, Any]) -> None:
        kind = type(self).__name__
        saved = np.asarray(store[_KIND]).tobytes().decode() if _KIND in store.keys() else kind
        if saved != kind or _SEED_STATE not in store.keys():
            whose = f"of a {saved}" if saved != kind else "of a model without such a layer"
            raise ValueError(
                f"{self._label()} finds the weights {whose}: what comes after it was trained for "
                "other samples. Make the model with the layers that it was saved with, or take "
                "what fits by load_weights(path, skip_mismatch=True)."
            )
        own = {key: store[key] for key in store.keys() if key not in (_SEED_STATE, _KIND)}
        super().load_own_variables(own)
        self.seed_generator.state.assign(store[_SEED_STATE])

    def _relaxation_for(self, logits_shape: Any) -> Relaxation:
        """Returns the relaxation for logits of a shape."""
        try:
            return self._of_any_shape.for_shape(tf.TensorShape(logits_shape), self.noise_dtype)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{self._label()} {error}") from None

    def compute_output_shape(self, logits_shape: Any, context_shape: Any = None) -> Any:
        relaxation = self._relaxation_for(logits_shape)
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
            "inference": self.inference,
            "seed": self.seed,
            "check_numerics": self.check_numerics,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Stochastic:
        if "surrogate" in config:
            raise ValueError(
                f"{cls.__name__} '{config.get('name')}' was saved before tf_relax 0.1.0, when "
                "layers held what estimators learn. This version cannot read that: build the model "
                "anew and train it."
            )
        return cls(**config)


def add_per_example_loss(layer: keras.layers.Layer, per_example: tf.Tensor) -> None:
    """Adds a cost per example, `[batch]`, to a layer; its mean joins the loss.

    Keras sums what `add_loss` is given: dividing by the batch makes that sum a mean.
    """
    batch = tf.cast(tf.shape(per_example)[0], per_example.dtype)
    layer.add_loss(per_example / batch)
