"""The passes of one step: how often, and with which samples, the model runs."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import Any

import keras
import tensorflow as tf

from tf_relax._src.compat import global_seed_state
from tf_relax._src.estimators import Passes
from tf_relax._src.layers.stochastic import SAMPLED
from tf_relax._src.relaxations import Draw, KnownMean
from tf_relax._src.relaxations.noise import of_replica
from tf_relax._src.sites import Record, Replay, Site, Sites, depends_on
from tf_relax._src.sites.replay import SampleAgain
from tf_relax._src.training.batch import as_dense, batch_size
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.objective import LossParts, per_example_objective
from tf_relax._src.training.replicas import Replicas


class Step:
    """Runs a model on the data of one step, again and again from the same random state.

    Both the recorded pass and its replays start from the same state and change none of it: dropout
    masks repeat, batch statistics do not. What the recorded pass changed comes last.

    Args:
        model: a compiled `RelaxModel`.
        data: inputs, targets and sample weights.
        replicas: that share the batch; found out if not given.
    """

    def __init__(
        self,
        model: CompiledModel,
        data: tuple[Any, Any, Any],
        replicas: Replicas | None = None,
    ):
        self.model = model
        self.x, self.y, self.sample_weight = data
        self.estimator = model.estimator
        # Persistent: estimators ask for df/db, and eagerly the tape tells what depends on what.
        self.tape = tf.GradientTape(persistent=True)
        self.evaluations = 0
        self.replicas = Replicas(batch_size(self.x)) if replicas is None else replicas
        # The importance weights of a bound hold the probabilities of the samples themselves.
        self.divergence = None if model.importance_samples is None else SAMPLED

    def record(self, noise: Any = None, conditional_noise: Any = None) -> ModelPass:
        """Runs the model on fresh samples."""
        estimator, count = self.estimator, self.num_passes
        handler = Record(
            output=self.output,
            num_noises=max(count, estimator.num_noises),
            num_conditional=lambda layer: estimator.part(layer).num_z_tildes,
            num_passes=count,
            couple=lambda layer, noises, a: estimator.part(layer).couple(layer, noises, a),
            couple_conditional=lambda layer, noises: estimator.part(layer).couple_conditional(
                layer, noises
            ),
            noise=noise,
            conditional_noise=conditional_noise,
            divergence=self.divergence,
            relaxed=estimator.relaxes_samples,
            always_samples=True,
            states=self.model.estimator_state.by_layer,
        )
        with self.tape:
            self._scope, self._held = self._stateless()
            with self._scope, handler as sites:
                y_pred, objective = self._run()
        return ModelPass(self, sites, sites, objective, y_pred)

    def moved(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Returns the variables that the recorded pass changed, with their new values."""
        variables = [*self.model.variables, *self.model.metrics_variables, *_global_seed()]
        values = {id(v): (v, self._scope.get_current_value(v)) for v in variables}
        moved = [pair for key, pair in values.items() if pair[1] is not self._held.get(key)]
        # A seed of this replica has moved as far as that of all of them moves.
        seeds = {id(seed): start for seed, start in self._seeds()}
        return [(v, v.value + (x - seeds[id(v)]) if id(v) in seeds else x) for v, x in moved]

    def _seeds(self) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Returns what other layers (dropout) draw from, and where this replica lets them begin."""
        if self.replicas.count == 1:
            return []
        own = {id(layer.seed_generator.state) for layer in self.model.stochastic_layers}
        weights = {id(v) for v in [*self.model.weights, *self.model.metrics_variables]}
        seeds = [v for v in self.model.variables if id(v) not in own | weights]
        return [(seed, of_replica(seed.value)) for seed in [*seeds, *_global_seed()]]

    def _stateless(self) -> tuple[keras.StatelessScope, dict[int, tf.Tensor]]:
        """Returns a scope in which variables do not change, and the tensors that it starts with.

        Inside of it Keras looks for the weights of regularizers in the scope and nowhere else.
        """
        weights = [v for v in self.model.trainable_variables if v.regularizer is not None]
        held = [(weight, tf.identity(weight.value)) for weight in weights]
        held += self._seeds()
        scope = keras.StatelessScope(held, collect_losses=True)
        return scope, {id(v): scope.get_current_value(v) for v, _ in held}

    @property
    def num_passes(self) -> int:
        """Number of complete passes on independent samples."""
        if self.model.importance_samples is not None:
            return self.model.importance_samples
        return self.estimator.num_passes

    def passes(self, first: ModelPass) -> Passes:
        """Returns the recorded pass and as many further ones as the estimator asks for."""
        passes = Passes([first, *(first.again(k) for k in range(1, self.num_passes))])
        with self.tape:
            objectives = [one.objective for one in passes]
            if self.model.importance_samples is None:
                objective = tf.add_n(objectives) / len(objectives)
            else:
                bound = tf.reduce_logsumexp(-tf.stack(objectives), axis=0)
                objective = math.log(len(objectives)) - bound
        passes.objective = objective
        passes.f = first.signal(objective)
        return passes

    def output(self, site: Site) -> tf.Tensor:
        """Returns what the estimator lets a layer return, observed by the tape."""
        sample = self.estimator.part(site.layer).output(site)
        if sample.dtype.is_floating:
            self.tape.watch(sample)  # to ask what depends on it, and how
        return sample

    def replay(self, handler: Replay) -> tuple[Sites, LossParts]:
        """Runs the model with other samples."""
        scope, _ = self._stateless()
        with scope, handler as sites:
            _, objective = self._run()
        return sites, objective

    def _run(self) -> tuple[Any, LossParts]:
        self.evaluations += 1
        y_pred = forward(self.model, self.x)
        objective = per_example_objective(
            self.model, self.x, self.y, y_pred, self.sample_weight, replicas=self.replicas
        )
        return y_pred, objective


def _global_seed() -> list[keras.Variable]:
    state = global_seed_state()
    return [] if state is None else [state]


class ModelPass:
    """One run of a model; see `tf_relax.estimators.Pass`."""

    def __init__(
        self, step: Step, recorded: Sites, sites: Sites, parts: LossParts, y_pred: Any = None
    ):
        self.step = step
        self.recorded = recorded
        self.sites = sites
        self.parts = parts
        self.y_pred = y_pred
        self.relaxable = step.model.relaxable
        self.objective = parts.f

    @property
    def f(self) -> tf.Tensor:
        """Objective as a constant, `[batch]` (`[1]` where examples are coupled)."""
        return self.signal(self.objective)

    @property
    def targets(self) -> tf.Tensor | None:
        """The step's `y`, if it is a single tensor."""
        y = self.step.y
        if y is None or keras.tree.is_nested(y):
            return None
        return tf.cast(y, self.sites[0].logits.dtype)

    def signal(self, per_example: tf.Tensor) -> tf.Tensor:
        """Returns what may multiply a score: an example's own value, or the batch's."""
        constant = tf.cast(tf.stop_gradient(per_example), self.sites[0].logits.dtype)
        return self.sites.signal(constant)

    def again(self, k: int) -> ModelPass:
        """Returns a complete pass on the samples of noise `k`."""
        estimator = self.step.estimator

        def sample(recorded: Site, logits: tf.Tensor) -> tuple[Draw, tf.Tensor]:
            draw = recorded.layer.relaxation.sample(logits, recorded.noises[k])
            site = Site(recorded.layer, recorded.name, logits, None, draw)
            return draw, self.step.output(site)

        one = self._replay(sample, self.sites.levels()[0])
        for site, recorded in zip(one.sites, self.recorded, strict=True):
            count = estimator.part(site.layer).num_z_tildes
            if count:
                noises = recorded.conditional_noises[k * count : (k + 1) * count]
                site.z_tildes = site.conditional(noises)
            site.noises = recorded.noises[k : k + 1]
        return one

    def forced(self, outcomes: Sequence[tf.Tensor]) -> ModelPass:
        """Returns the pass in which every site takes the given hard sample."""
        by_site = dict(zip(self.sites, outcomes, strict=True))

        def sample(recorded: Site, logits: tf.Tensor) -> tuple[Draw, tf.Tensor]:
            # Made without the recorded sample: an enumeration has nothing random in it.
            layer, outcome = recorded.layer, tf.convert_to_tensor(by_site[recorded])
            if outcome.shape.rank < layer.relaxation.outcome(recorded.draw).shape.rank:
                batch = [tf.shape(logits)[:1], tf.shape(outcome)]
                outcome = tf.broadcast_to(outcome, tf.concat(batch, axis=0))
            draw = layer.relaxation.forced(logits, outcome)
            return draw, layer.as_output(draw)

        return self._replay(sample, self.sites.levels()[0])

    def _replay(self, sample: SampleAgain, unchanged: Sequence[Site]) -> ModelPass:
        handler = Replay(
            self.sites,
            sample,
            unchanged,
            relaxed=self.step.estimator.relaxes_samples,
            divergence=self.step.divergence,
        )
        with self.step.tape:
            sites, parts = self.step.replay(handler)
        return ModelPass(self.step, self.recorded, sites, parts)

    def resampled(self, level: Sequence[Site], k: int) -> tf.Tensor:
        """Returns the objective with the sites of `level` sampled by noise `k`."""
        draws = [s.layer.relaxation.sample(s.logits, s.noises[k]) for s in level]
        return self.replaced(level, draws)

    def replaced(self, level: Sequence[Site], draws: Sequence[Draw]) -> tf.Tensor:
        """Returns the objective with other hard samples at the sites of `level`.

        Later sites recompute their hard sample from the logits that they now receive and the noise
        of the recorded pass, which is independent of the sites of `level`.
        """
        given = dict(zip(level, draws, strict=True))

        def sample(recorded: Site, logits: tf.Tensor) -> tuple[Draw, tf.Tensor]:
            draw = given.get(recorded)
            if draw is None:
                draw = recorded.layer.relaxation.sample(logits, recorded.noises[0])
            return draw, tf.stop_gradient(recorded.layer.as_output(draw))

        handler = self._from_level(level, sample, relaxed=False)
        with self.step.tape:
            _, objective = self.step.replay(handler)
        return objective.f

    def relaxed(self, level: Sequence[Site], z: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level` at `z`, and all later ones, relaxed.

        Later sites recompute their `z` from the logits that they now receive and the noise of this
        pass: that noise is independent of the sites of `level`, so this is a fixed function of
        their `z`, and the estimator stays unbiased.
        """
        self._check_masks(level)
        given = dict(zip(level, z, strict=True))

        def temperature(site: Site) -> tf.Tensor:
            learned = getattr(site.state, "temperature", None)
            if learned is not None:
                return learned
            start = getattr(site.layer.relaxation, "initial_temperature", None)
            return tf.constant(start or 1.0, site.z.dtype)

        def sample(recorded: Site, logits: tf.Tensor) -> tuple[Draw | None, tf.Tensor]:
            layer = recorded.layer
            if recorded in given:
                if not layer.relaxable:  # beside the others, so none of them causes it
                    return recorded.draw, tf.stop_gradient(recorded.output)
                z = given[recorded]
            else:
                z = layer.relaxation.sample(logits, recorded.draw.noise).z
            return None, layer.relaxed_output(z, temperature(recorded))

        _, objective = self.step.replay(self._from_level(level, sample, relaxed=True))
        return self.sites.signal(tf.cast(objective.f, z[0].dtype))

    def _check_masks(self, level: Sequence[Site]) -> None:
        """Raises where relaxing a level would move a mask, with which the objective would jump."""
        until = self.sites.until(level)
        masked = [s for s in self.sites if s.mask is not None and s not in until]
        if tf.executing_eagerly() or not masked:
            return  # there is no graph to look at
        for site in masked:
            if depends_on([site.mask], [earlier.output for earlier in level]):
                names = ", ".join(f"'{earlier.name}'" for earlier in level)
                raise ValueError(
                    f"The mask of {type(site.layer).__name__} '{site.name}' is computed from the "
                    f"samples of {names}, whose surrogate evaluates the objective at relaxed "
                    "samples: a mask that jumps there makes the gradient biased. Use "
                    "Relax(surrogate='network'), or estimator='leave_one_out'."
                )

    def at_mean(self, level: Sequence[Site], mean: Sequence[tf.Tensor]) -> tf.Tensor:
        """Returns the objective with the sites of `level`, and all later ones, at their mean."""
        given = dict(zip(level, mean, strict=True))

        def sample(recorded: Site, logits: tf.Tensor) -> tuple[None, tf.Tensor]:
            layer = recorded.layer
            if recorded not in given and not isinstance(layer.relaxation, KnownMean):
                raise ValueError(
                    f"The mean of the samples of {type(layer).__name__} '{recorded.name}' is not "
                    f"known, and the estimator of '{level[0].name}', a layer before it, needs it: "
                    "use 'relax' or 'leave_one_out' for that layer."
                )
            value = given[recorded] if recorded in given else layer.relaxation.mean(logits)
            return None, tf.cast(value, layer.compute_dtype)

        _, objective = self.step.replay(self._from_level(level, sample, relaxed=True))
        return self.sites.signal(tf.cast(objective.f, mean[0].dtype))

    def _from_level(self, level: Sequence[Site], sample: SampleAgain, relaxed: bool) -> Replay:
        """Returns a replay that keeps the hard samples of all earlier levels."""
        until = self.sites.until(level)

        def sample_or_keep(recorded: Site, logits: tf.Tensor) -> tuple[Draw | None, tf.Tensor]:
            if recorded in until and recorded not in level:
                return recorded.draw, tf.stop_gradient(recorded.output)
            return sample(recorded, logits)

        return Replay(
            self.sites, sample_or_keep, until, relaxed=relaxed, divergence=self.step.divergence
        )

    def derivative(self) -> list[tf.Tensor]:
        """Returns ``df/db`` at every site, shaped like `b`."""
        outputs = [site.output for site in self.sites]
        gradients = self.step.tape.gradient(
            self.objective, outputs, unconnected_gradients=tf.UnconnectedGradients.ZERO
        )
        dense = map(as_dense, gradients, outputs)
        return [tf.cast(g, site.b.dtype) for g, site in zip(dense, self.sites, strict=True)]


def forward(model: CompiledModel, x: Any) -> Any:
    """Runs a model in training mode."""
    if "training" in inspect.signature(model.call).parameters:
        return model(x, training=True)
    return model(x)
