"""Small models in every style, as users pass them to what Keras offers beside `fit`."""

import keras
import numpy as np
import pytest

from tests.models import bernoulli
from tests.training import models
from tf_relax import RelaxModel
from tf_relax.estimators import Relax

X = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
Y = np.random.default_rng(1).standard_normal((4, 2)).astype("float32")


def functional(model_class=RelaxModel):
    return models.functional(model_class, outputs=2, prior=None, name="code")


def sequential(model_class=RelaxModel):
    return models.sequential(model_class, outputs=2, prior=None, name="code")


@keras.saving.register_keras_serializable(package="tests.training.habits")
class Subclassed(models.Subclassed):
    """Two outputs, as all models here."""

    def __init__(self, units=2, outputs=2, **kwargs):
        super().__init__(units, outputs, **kwargs)


@keras.saving.register_keras_serializable(package="tests.training.habits")
class BuildsItself(RelaxModel):
    """Functional or sequential, with a constructor of its own."""

    def __init__(self, style="functional", **kwargs):
        if style == "sequential":
            layers = [keras.Input((3,)), keras.layers.Dense(2), bernoulli(), keras.layers.Dense(2)]
            super().__init__(layers, **kwargs)
        else:
            inputs = keras.Input((3,))
            code = bernoulli()(keras.layers.Dense(2)(inputs))
            super().__init__(inputs, keras.layers.Dense(2)(code), **kwargs)
        self.style = style

    def get_config(self):
        return {"name": self.name, "style": self.style}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**config)


STYLES = {
    "functional": functional,
    "sequential": sequential,
    "functional_subclass": lambda: functional(models.Own),
    "sequential_subclass": lambda: sequential(models.Own),
    "subclassed": Subclassed,
    "builds_itself": BuildsItself,
    "builds_itself_sequentially": lambda: BuildsItself("sequential"),
}
styles = pytest.mark.parametrize("style", STYLES)


def compiled(model, optimizer="adam", loss="mse", **options):
    if isinstance(model, RelaxModel):
        options = {"estimator": Relax(surrogate="objective"), **options}
    model.compile(optimizer, loss, **{"run_eagerly": True, **options})
    return model


def fit(model, x=X, y=Y, **options):
    return model.fit(x, y, **{"verbose": 0, "shuffle": False, **options})


def held(model):
    """The variables of a compiled model, and what its estimator has learned."""
    return [*model.variables, *model.estimator_state.variables]


def assert_same_state(a, b):
    for one, other in zip(held(a), held(b), strict=True):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
