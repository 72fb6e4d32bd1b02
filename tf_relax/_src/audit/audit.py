"""Estimators side by side on a user's own model and batch."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_relax._src import compat, updates
from tf_relax._src import estimators as estimator_names
from tf_relax._src.audit.moments import Moments, bias
from tf_relax._src.audit.report import Report, Row
from tf_relax._src.estimators import Estimator, Exact, Reinforce
from tf_relax._src.estimators.auto import candidates
from tf_relax._src.relaxations.capabilities import num_outcomes
from tf_relax._src.training.batch import as_dense, as_tensors
from tf_relax._src.training.choice import facts
from tf_relax._src.training.compiled_model import CompiledModel
from tf_relax._src.training.differentiation import build_symbolically
from tf_relax._src.training.passes import Step
from tf_relax._src.training.state import moving_state, unchanged

_MOST_OUTCOMES = 64


def audit(
    model: CompiledModel,
    x: Any,
    y: Any = None,
    estimators: Sequence[str | Estimator] | Mapping[str, str | Estimator] | None = None,
    num_samples: int = 200,
    reference: str | Estimator | None = None,
    surrogate_steps: int = 200,
    learning_rate: float = 0.01,
    verbose: int | str = "auto",
) -> Report:
    r"""Measures variance, bias and time of gradient estimators on a model and a batch.

    Everything stays fixed but the samples: the model, the batch, the surrogates. Each estimator
    first gets `surrogate_steps` steps to fit its own surrogates to this model and batch, since a
    control variate that was never trained says little; afterwards the model is what it was before,
    surrogates, statistics and seeds included.

    Args:
        model: a compiled `RelaxModel`.
        x: inputs of one batch, arrays or tensors.
        y: its targets.
        estimators: names or objects, or a mapping from labels to them. `None` are those among which
            `"auto"` chooses for such a model, and the model's own.
        num_samples: draws of the gradient per estimator, at least 8.
        reference: what biases are measured against. `None` enumerates if there are at most 64
            outcomes, and otherwise takes the quietest of the unbiased estimators.
        surrogate_steps: steps for the surrogates, none of which moves the model.
        learning_rate: of Adam in those steps.
        verbose: `"auto"` or 1 shows a progress bar, 0 nothing.

    Returns:
        A `Report`: print it, or use `to_dict()`, `to_frame()`, `plot()` and `recommended`.

    Raises:
        TypeError: for a model that is no `RelaxModel`.
        ValueError: for an estimator that is not defined for one of the layers or for the loss, too
            few samples, or a model that is not compiled.

    Example:

    >>> import keras, numpy as np, tf_relax
    >>> inputs = keras.Input((3,))
    >>> code = tf_relax.layers.RelaxBernoulli(name="code")(keras.layers.Dense(2)(inputs))
    >>> model = tf_relax.RelaxModel(inputs, keras.layers.Dense(3)(code))
    >>> model.compile("adam", loss="mse", jit_compile=False)
    >>> report = audit(model, np.eye(3), np.eye(3), ["relax", "reinforce"], verbose=0)
    >>> sorted(report.to_dict())
    ['reinforce', 'relax']
    """
    if not hasattr(model, "differentiate"):
        raise TypeError(
            f"`audit` measures the estimators of a tf_relax.RelaxModel. '{model.name}' is a "
            f"{type(model).__name__}."
        )
    if not model.compiled:
        raise ValueError(f"Model '{model.name}' is not compiled: call `compile` before `audit`.")
    if tf.distribute.has_strategy():
        raise ValueError(
            f"`audit` draws every batch on one device. Call it on model '{model.name}' outside of "
            "`strategy.scope()`."
        )
    if num_samples < 8:
        raise ValueError(f"`num_samples` must be at least 8. Received: {num_samples}")
    x, y = as_tensors(x), as_tensors(y)
    build_symbolically(model, x)
    asked_for = _candidates(model) if estimators is None else _labelled(estimators)
    contestants = {}
    for label, estimator in asked_for.items():  # before any work is done
        with model.using(estimator):
            contestants[label] = chosen = model.estimator
            for layer in model.stochastic_layers:
                chosen.part(layer).check(layer)
    trainable = model.trained_variables
    before = [variable.numpy() for variable in trainable]
    with unchanged(moving_state(model)):
        try:
            return _audit(
                model, x, y, contestants, num_samples, reference, surrogate_steps, learning_rate,
                verbose,
            )  # fmt: skip
        finally:
            for variable, value in zip(trainable, before, strict=True):
                variable.assign(value)
            # Every estimator had graphs of its own, which TensorFlow would keep ready to run.
            compat.forget_kernels()


def _audit(
    model: CompiledModel,
    x: Any,
    y: Any,
    contestants: dict[str, Estimator],
    num_samples: int,
    reference: str | Estimator | None,
    surrogate_steps: int,
    learning_rate: float,
    verbose: int | str,
) -> Report:
    weights, outcomes = _sites(model, x, y)
    runs = dict(contestants)
    # An importance-weighted objective is no mean over outcomes of one sample.
    enumerable = outcomes <= _MOST_OUTCOMES and model.importance_samples is None
    if reference is not None or enumerable:
        label, estimator = _named(Exact(_MOST_OUTCOMES) if reference is None else reference)
        known = [name for name, one in contestants.items() if repr(one) == repr(estimator)]
        label = known[0] if known else label
        runs.setdefault(label, estimator)
    progress = keras.utils.Progbar(
        len(runs) * (num_samples + surrogate_steps), verbose=1 if verbose == "auto" else verbose
    )
    draws: dict[str, _Draws] = {}
    for name, one in runs.items():
        draws[name] = _Draws(model, x, y, one, weights)
        count = 8 if isinstance(one, Exact) else num_samples  # they are all the same
        draws[name].run(count, surrogate_steps, learning_rate, progress)
        progress.add(num_samples - count)
    if len(runs) == len(contestants) and reference is None:
        label = _quietest(draws)
    rows = []
    for name in contestants:
        for site in weights:
            rows.append(draws[name].row(name, site, None if name == label else draws[label]))
    return Report(rows, label)


def _quietest(draws: dict[str, _Draws]) -> str:
    """Returns the unbiased estimator of least variance, or the first where all are biased."""
    unbiased = {k: d.variance for k, d in draws.items() if d.estimator.unbiased}
    return min(unbiased, key=unbiased.__getitem__) if unbiased else next(iter(draws))


def _named(estimator: str | Estimator) -> tuple[str, Estimator]:
    label = estimator if isinstance(estimator, str) else repr(estimator)
    return label, estimator_names.get(estimator)


def _labelled(
    estimators: Sequence[str | Estimator] | Mapping[str, str | Estimator],
) -> dict[str, Estimator]:
    if isinstance(estimators, Mapping):
        return {label: estimator_names.get(e) for label, e in estimators.items()}
    if isinstance(estimators, (str, Estimator)):
        estimators = [estimators]
    if not estimators:
        raise ValueError("`audit` needs an estimator to measure, for example ['relax'].")
    return dict(_named(estimator) for estimator in estimators)


def _candidates(model: CompiledModel) -> dict[str, Estimator]:
    own = model.estimator
    found = facts(model, model.loss, model.importance_samples, model.batch_coupled)
    return {repr(estimator): estimator for estimator in [own, *candidates(found)]}


def _sites(model: CompiledModel, x: Any, y: Any) -> tuple[dict[str, list[keras.Variable]], float]:
    """Returns what computes the logits of every site, and the number of joint outcomes.

    A site's weights are those between it and the inputs and samples before it.
    """
    with model.using(Reinforce()):
        step = Step(model, (x, y, None))
        sites = step.record().sites
    own = model.trainable_variables
    result, outcomes = {}, 1.0
    for site in sites:
        outcomes *= num_outcomes(site.layer.relaxation, site.logits.shape[1:]) or math.inf
        gradients = step.tape.gradient(site.logits, [v.value for v in own])
        result[site.name] = [v for v, g in zip(own, gradients, strict=True) if g is not None]
    return result, outcomes


class _Draws:
    """Draws of the gradient of one estimator."""

    def __init__(self, model: CompiledModel, x: Any, y: Any, estimator: Estimator, weights: Any):
        self.model, self.estimator, self.weights = model, estimator, weights
        self.evaluations = 0
        self.milliseconds = 0.0
        self.logits: dict[str, list[np.ndarray]] = {site: [] for site in weights}
        self.by_weight: dict[str, Moments] = {}
        with model.using(estimator):
            self.state = state = model.estimator_state
        # Paths of variables need not be unique.
        own = {id(v): f"{k:06d}" for k, v in enumerate(model.trainable_variables)}
        learned = {id(v): f"{k:06d}" for k, v in enumerate(state.variables)}
        self.key = own

        def draw() -> tuple[Any, Any, Any]:
            with model.using(estimator, state):
                step = model.differentiate(x, y)
            self.evaluations = step.evaluations
            pairs = list(zip(step.variables, step.gradients, strict=True))
            given = [(v, as_dense(g, v)) for v, g in pairs if g is not None]
            of_weights = {own[id(v)]: g for v, g in given if id(v) in own}
            of_surrogates = {learned[id(v)]: g for v, g in given if id(v) in learned}
            return step.logit_gradients, of_weights, of_surrogates

        self.draw = tf.function(draw, jit_compile=bool(model.jit_compile), autograph=False)
        if model.run_eagerly:
            self.draw = draw

    def run(
        self, num_samples: int, surrogate_steps: int, learning_rate: float, progress: Any
    ) -> None:
        """Fits the surrogates, then draws; what was learned is forgotten."""
        before = [variable.numpy() for variable in self.state.variables]
        try:
            self._run(num_samples, surrogate_steps, learning_rate, progress)
        finally:
            for variable, value in zip(self.state.variables, before, strict=True):
                variable.assign(value)

    def _run(
        self, num_samples: int, surrogate_steps: int, learning_rate: float, progress: Any
    ) -> None:
        self._fit_surrogates(surrogate_steps, learning_rate, progress)
        self.draw()
        times = []
        for _ in range(num_samples):
            start = time.perf_counter()
            logits, of_weights, _ = self.draw()
            logits = [np.asarray(g) for g in logits]  # waits for the device
            times.append(1e3 * (time.perf_counter() - start))
            for site, g in zip(self.weights, logits, strict=True):
                self.logits[site].append(g)
            for key, g in of_weights.items():
                self.by_weight.setdefault(key, Moments()).add(np.asarray(g))
            progress.add(1)
        self.milliseconds = statistics.median(times)

    def _fit_surrogates(self, steps: int, learning_rate: float, progress: Any) -> None:
        variables = {f"{k:06d}": v for k, v in enumerate(self.state.variables)}
        fitted = {key: variables[key] for key in self.draw()[2]} if steps else {}
        if not fitted:
            progress.add(steps)
            return
        # A batch is drawn on one device. Where there are several, all have the variables, and an
        # optimizer adds up what each of them is given.
        strategy = self.model.distribute_strategy
        with strategy.scope():
            optimizer = keras.optimizers.Adam(learning_rate)
            optimizer.build(list(fitted.values()))

        def update(gradients: list[tf.Tensor]) -> None:
            parts = [gradient / strategy.num_replicas_in_sync for gradient in gradients]
            updates.apply(optimizer, parts, list(fitted.values()))

        @tf.function(autograph=False)
        def apply(gradients: list[tf.Tensor]) -> None:
            strategy.run(update, args=(gradients,))

        for _ in range(steps):
            gradients = self.draw()[2]
            apply([gradients[key] for key in fitted])
            progress.add(1)

    @property
    def variance(self) -> float:
        """Variance of the gradient in the logits, all sites together."""
        return sum(float(np.var(np.stack(g), axis=0, ddof=1).sum()) for g in self.logits.values())

    def row(self, name: str, site: str, reference: _Draws | None) -> Row:
        """Returns what was measured at one site."""
        logits = Moments()
        for g in self.logits[site]:
            logits.add(g)
        keys = [self.key[id(v)] for v in self.weights[site]]
        weights = [self.by_weight[key] for key in keys if key in self.by_weight]
        joined = Moments.joined(weights) if weights else None
        distance = (float("nan"), float("nan"))
        if reference is not None:
            distance = bias(np.stack(self.logits[site]), np.stack(reference.logits[site]))
        model_variance = sum(float(each.variance.sum()) for each in self.by_weight.values())
        return Row(
            estimator=name,
            layer=site,
            unbiased=self.estimator.unbiased,
            variance=logits.mean_variance,
            snr=logits.snr,
            weight_variance=joined.mean_variance if joined else float("nan"),
            weight_snr=joined.snr if joined else float("nan"),
            bias=distance[0],
            z=distance[1],
            model_variance=model_variance,
            evaluations=self.evaluations,
            milliseconds=self.milliseconds,
            variance_time=model_variance * self.milliseconds / 1e3,
        )
