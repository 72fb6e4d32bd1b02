"""The same training steps written by hand, with nothing but what one estimator on bits needs.

Minimal `GradientTape` loops for the nonlinear autoencoder, ten steps to a call, compiled with XLA:
what `fit` and the generality of the package cost is measured against them. And the floor: the
matrix products of a step alone, which no way of writing it avoids.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.noise import open_uniform

STEPS_PER_CALL = 10


class Autoencoder:
    """Encoder, decoder, prior and optimizers of the nonlinear autoencoder with 200 latents."""

    def __init__(self, mean_image: np.ndarray, latents: int = 200):
        dense, tanh, pixels = keras.layers.Dense, {"activation": "tanh"}, len(mean_image)
        keras.utils.set_random_seed(0)
        self.encoder = keras.Sequential(
            [
                keras.Input((pixels,)),
                keras.layers.Rescaling(1.0, offset=-mean_image),
                *[dense(200, **tanh), dense(200, **tanh), dense(latents)],
            ]
        )
        self.decoder = keras.Sequential(
            [
                keras.Input((latents,)),
                keras.layers.Rescaling(2.0, offset=-1.0),
                *[dense(200, **tanh), dense(200, **tanh), dense(pixels)],
            ]
        )
        # It sees z and the logits without their sign, and the image.
        self.network = keras.Sequential(
            [
                keras.Input((2 * latents + pixels,)),
                *[dense(50, "relu"), dense(1, kernel_initializer="zeros")],
            ]
        )
        self.prior = keras.Variable(np.zeros(latents, "float32"))
        self.log_temperature = keras.Variable(np.float32(np.log(0.1)))
        self.scale, self.intercept = keras.Variable(1.0), keras.Variable(0.0)
        self.seeds = keras.random.SeedGenerator(0)
        self.variables = [
            *self.encoder.trainable_variables,
            *self.decoder.trainable_variables,
            self.prior,
        ]
        self.learned = [self.log_temperature, self.scale, self.intercept]
        self.of_network = self.network.trainable_variables
        self.optimizer = keras.optimizers.Adam(1e-3, beta_2=0.99999)
        self.surrogate_optimizer = keras.optimizers.Adam(1e-3, beta_2=0.99999)

    def objective(self, x: tf.Tensor, code: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
        nll = tf.nn.sigmoid_cross_entropy_with_logits(labels=x, logits=self.decoder(code))
        p = self.prior.value
        kl = tf.sigmoid(a) * (a - p) - tf.nn.softplus(a) + tf.nn.softplus(p)
        return tf.reduce_sum(nll, axis=1) + tf.reduce_sum(kl, axis=1)

    def noise(self, a: tf.Tensor) -> tf.Tensor:
        u = open_uniform(tf.shape(a), "float32", self.seeds)
        return tf.math.log(u) - tf.math.log1p(-u)

    def apply(self, gradients: list[tf.Tensor]) -> None:
        self.optimizer.apply(gradients, self.variables)


def straight_through(model: Autoencoder, x: tf.Tensor) -> tf.Tensor:
    """One step with the straight-through estimator."""
    with tf.GradientTape() as tape:
        a = model.encoder(x)
        mean = tf.sigmoid(a)
        b = tf.cast(a + model.noise(a) > 0, a.dtype)
        loss = tf.reduce_mean(model.objective(x, mean + tf.stop_gradient(b - mean), a))
    model.apply(tape.gradient(loss, [v.value for v in model.variables]))
    return loss


def control_variate(model: Autoencoder, x: tf.Tensor, samples: int, network: bool) -> tf.Tensor:
    """One step with RELAX, coupled; two samples are made of noise and its reflection."""
    learned = [*model.learned, *(model.of_network if network else [])]
    with tf.GradientTape() as tape:
        a = model.encoder(x)
        noise = model.noise(a)
        z = [a + noise, a - noise][:samples]
        b = [tf.stop_gradient(tf.cast(z_k > 0, a.dtype)) for z_k in z]
        f = [model.objective(x, b_k, a) for b_k in b]
        loss = tf.reduce_mean(tf.add_n(f) / samples)
        with tape.stop_recording(), tf.GradientTape(watch_accessed_variables=False) as outer:
            outer.watch([v.value for v in learned])
            g = []
            for f_k, z_k, b_k in zip(f, z, b, strict=True):
                with tf.GradientTape(watch_accessed_variables=False) as inner:
                    inner.watch(z_k)
                    y = tf.sigmoid(z_k * tf.exp(-model.log_temperature.value))
                    c = model.scale.value * model.objective(x, y, a) + model.intercept.value
                    if network:
                        seen = tf.concat([z_k, -tf.abs(a), x], axis=1)
                        c += model.network(seen)[:, 0]
                h = inner.gradient(c, z_k)
                s = 2 * b_k - 1
                d = tf.sigmoid(-s * a) + tf.sigmoid(s * a) * tf.exp(-tf.abs(z_k))
                g.append((f_k - c)[:, None] * (b_k - tf.sigmoid(a)) + d * h)
            g = tf.add_n(g) / samples
            variance = tf.reduce_mean(tf.reduce_sum(g * g, axis=1))
        of_learned = outer.gradient(variance, [v.value for v in learned])
    seeds = [tf.ones(()), g / tf.cast(tf.shape(x)[0], g.dtype)]
    gradients = tape.gradient([loss, a], [v.value for v in model.variables], output_gradients=seeds)
    model.apply(gradients)
    model.surrogate_optimizer.apply(of_learned, learned)
    return loss


STEPS: dict[str, Callable[[Autoencoder, tf.Tensor], tf.Tensor]] = {
    "straight_through": straight_through,
    "relax": lambda model, x: control_variate(model, x, 1, network=True),
    "relax, objective, antithetic, K = 2": lambda model, x: control_variate(
        model, x, 2, network=False
    ),
}


class ByHand:
    """A loop over batches, ten steps to a call as `steps_per_execution=10` has it."""

    def __init__(self, name: str, mean_image: np.ndarray):
        model, one = Autoencoder(mean_image), STEPS[name]
        model.optimizer.build(model.variables)
        network = model.of_network if name == "relax" else []
        model.surrogate_optimizer.build([*model.learned, *network])
        step = tf.function(lambda x: one(model, x), jit_compile=True, autograph=False)

        @tf.function(autograph=False)
        def several(batches: Any) -> tf.Tensor:
            return tf.while_loop(
                lambda k, _: k < STEPS_PER_CALL,
                lambda k, _: (k + 1, step(next(batches)[0])),
                (0, 0.0),
            )[1]

        self._several = several

    def run(self, data: tf.data.Dataset, steps: int) -> None:
        """Trains for some steps."""
        batches = iter(data)
        for _ in range(steps // STEPS_PER_CALL):
            loss = self._several(batches)
        float(loss)  # waits


class Floor:
    """The matrix products of the encoder and of every evaluation of the decoder, and back.

    Args:
        batch: examples in a step.
        hard: evaluations whose gradient trains the decoder.
        relaxed: evaluations of which only the derivative in the samples is needed.
    """

    def __init__(self, pixels: int, batch: int, hard: int, relaxed: int, latents: int = 200):
        encoder = [(pixels, 200), (200, 200), (200, latents)]
        decoder = [(latents, 200), (200, 200), (200, pixels)]
        rng = np.random.default_rng(0)

        def tensors(shapes: list[tuple[int, int]]) -> list[tf.Tensor]:
            return [tf.constant(0.1 * rng.standard_normal(s).astype("float32")) for s in shapes]

        weights = tensors(encoder), tensors(decoder)

        def through(x: tf.Tensor, matrices: list[tf.Tensor], trains: bool, first: bool) -> Any:
            inputs = []
            for w in matrices:
                inputs.append(x)
                x = x @ w
            d, made = x, []
            for k in reversed(range(len(matrices))):
                if trains:
                    made.append(tf.matmul(inputs[k], d, transpose_a=True))
                if k or not first:
                    d = tf.matmul(d, matrices[k], transpose_b=True)
            return x, [*made, d]

        @tf.function(jit_compile=True, autograph=False)
        def products(x: tf.Tensor) -> list[tf.Tensor]:
            code, made = through(x, weights[0], trains=True, first=True)
            for k in range(hard + relaxed):
                _, more = through(code + float(k), weights[1], trains=k < hard, first=False)
                made += more
            return [tf.reduce_max(m) for m in made]

        self._products = products
        self._x = tf.constant(rng.random((batch, pixels)).astype("float32"))

    def run(self, data: tf.data.Dataset, steps: int) -> None:
        """Computes the products of some steps."""
        for _ in range(steps):
            result = self._products(self._x)
        float(result[0])  # waits
