"""The optimizers that a RelaxModel is compiled with."""

import keras
import numpy as np

from tests.training.models import changed, compile_model, fit, functional, numpy
from tf_relax import RelaxOptimizer


def test_a_plain_optimizer_gets_a_copy_for_the_surrogates():
    plain = keras.optimizers.Adam(0.02, beta_1=0.5)
    model = compile_model(functional(), plain)
    assert isinstance(model.optimizer, RelaxOptimizer)
    assert model.optimizer.optimizer is plain
    copy = model.optimizer.surrogate_optimizer
    assert copy is not plain
    assert type(copy) is keras.optimizers.Adam
    assert float(copy.learning_rate.numpy()) == np.float32(0.02)
    assert copy.beta_1 == 0.5
    fit(model)
    assert int(copy.iterations.numpy()) == int(plain.iterations.numpy()) == 3


def test_a_schedule_is_copied_too():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 1, 0.5)
    model = compile_model(functional(), keras.optimizers.SGD(schedule))
    fit(model)
    for inner in (model.optimizer.optimizer, model.optimizer.surrogate_optimizer):
        np.testing.assert_allclose(inner.learning_rate, 0.1 * 0.5**3, rtol=1e-6)


def test_a_pair_of_optimizers_is_used_as_it_is():
    pair = RelaxOptimizer(keras.optimizers.SGD(0.0), keras.optimizers.SGD(0.1))
    model = compile_model(functional(), pair)
    assert model.optimizer is pair
    before = numpy(model.trained_variables)
    fit(model)
    paths = [v.path for v in model.trained_variables]
    moved = changed(before, numpy(model.trained_variables))
    names = ("/log_temperature", "/scale", "/intercept")
    expected = {path for path in paths if path.endswith(names)}
    assert {path for path, m in zip(paths, moved, strict=True) if m} == expected
    assert len(expected) == 3


def test_state_tree_with_a_plain_optimizer():
    model = compile_model(functional())
    fit(model)
    tree = model.get_state_tree()
    model.set_state_tree(tree)
    assert set(tree) >= {"trainable_variables", "optimizer_variables"}
