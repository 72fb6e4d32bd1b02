"""RELAX as it is usually written: nested tapes around everything.

The decoder runs three times, on b, z and z~, and the estimate is differentiated through the weights
of the encoder, twice: once for the gradient and once more for the variance. Correct, and the
yardstick for the cost of a step.
"""

from __future__ import annotations

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src.relaxations.noise import open_uniform


class PlainRelax(keras.Model):
    """The nonlinear autoencoder with 200 Bernoulli latents and a nested-tape RELAX step."""

    def __init__(self, mean_image: np.ndarray, latents: int = 200):
        super().__init__()
        pixels = len(mean_image)
        dense, tanh = keras.layers.Dense, {"activation": "tanh"}
        self.centre = keras.layers.Rescaling(1.0, offset=-mean_image)
        self.encoder = keras.Sequential(
            [keras.Input((pixels,)), dense(200, **tanh), dense(200, **tanh), dense(latents)]
        )
        self.decoder = keras.Sequential(
            [keras.Input((latents,)), dense(200, **tanh), dense(200, **tanh), dense(pixels)]
        )
        self.network = keras.Sequential(
            [
                keras.Input((pixels + 2 * latents,)),
                dense(50, activation="relu"),
                dense(1, kernel_initializer="zeros"),
            ]
        )
        self.prior = self.add_weight(shape=(latents,), initializer="zeros")
        self.log_temperature = self.add_weight(
            shape=(), initializer=keras.initializers.Constant(np.log(0.1))
        )
        self.scale = self.add_weight(shape=(), initializer="ones")
        self.surrogate_optimizer = keras.optimizers.Adam(1e-3)
        self.seeds = keras.random.SeedGenerator(0)
        self.built = True

    def uniform(self, shape: tf.Tensor) -> tf.Tensor:
        return open_uniform(shape, "float32", self.seeds)  # the same fast generator for all

    def objective(self, images: tf.Tensor, code: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
        pixels = self.decoder(2 * code - 1)
        nll = tf.nn.sigmoid_cross_entropy_with_logits(labels=images, logits=pixels)
        p = self.prior.value
        kl = tf.sigmoid(a) * (a - p) - tf.nn.softplus(a) + tf.nn.softplus(p)
        return tf.reduce_sum(nll, axis=1) + tf.reduce_sum(kl, axis=1)

    def surrogate(self, x: tf.Tensor, images: tf.Tensor, z: tf.Tensor, a: tf.Tensor) -> tf.Tensor:
        relaxed = tf.sigmoid(z / tf.exp(self.log_temperature))
        network = self.network(tf.concat([x, z, a], axis=1))[:, 0]
        return self.scale * self.objective(images, relaxed, a) + network

    def train_step(self, data):
        images, _ = data
        encoder = self.encoder.trainable_variables
        decoder = [*self.decoder.trainable_variables, self.prior]
        surrogate = [*self.network.trainable_variables, self.log_temperature, self.scale]
        with tf.GradientTape() as outer, tf.GradientTape(persistent=True) as tape:
            x = self.centre(images)
            a = self.encoder(x)
            u, v = self.uniform(tf.shape(a)), self.uniform(tf.shape(a))
            z = a + tf.math.log(u) - tf.math.log1p(-u)
            b = tf.stop_gradient(tf.cast(z > 0, z.dtype))
            s = 2 * b - 1
            noise = tf.math.log(v) - tf.math.log1p(-v)
            z_tilde = s * tf.nn.softplus(noise + tf.nn.softplus(s * a))
            f_b = self.objective(images, b, a)
            c_z = self.surrogate(x, images, z, a)
            c_tilde = self.surrogate(x, images, z_tilde, a)
            log_p = -tf.reduce_sum(tf.nn.softplus(-s * a), axis=1)
            loss = tf.reduce_mean(f_b)
            pathwise = tf.reduce_mean(f_b + c_z - c_tilde)
            batch = tf.cast(tf.shape(f_b)[0], f_b.dtype)
            with tape.stop_recording():
                score = tape.gradient(log_p, encoder, output_gradients=(f_b - c_tilde) / batch)
                path = tape.gradient(pathwise, encoder)
                g = [left + right for left, right in zip(score, path, strict=True)]
                variance = tf.add_n([tf.reduce_sum(tf.square(g_k)) for g_k in g])
        surrogate_gradients = outer.gradient(variance, [w.value for w in surrogate])
        decoder_gradients = tape.gradient(loss, [w.value for w in decoder])
        self.optimizer.apply([*g, *decoder_gradients], [*encoder, *decoder])
        self.surrogate_optimizer.apply(surrogate_gradients, surrogate)
        return {"loss": loss}
