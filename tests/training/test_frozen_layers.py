"""Layers, and surrogates, that are not to be trained."""

import pytest

from tests.models import relax
from tests.training.models import assert_same, changed, compile_model, fit, functional, numpy
from tf_relax.surrogates import Network


def test_frozen_layers_stay():
    model = functional()
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    compile_model(model)
    frozen, before = numpy(encoder.weights), numpy(model.trained_variables)
    fit(model)
    assert_same(numpy(encoder.weights), frozen)
    assert all(changed(before, numpy(model.trained_variables)))


def test_everything_but_the_encoder_frozen():
    model = functional()
    decoder, code = model.get_layer("decoder"), model.stochastic_layers[0]
    decoder.trainable = code.trainable = False
    compile_model(model)
    frozen_variables = [*decoder.weights, *code.weights, *model.estimator_state.variables]
    assert len(frozen_variables) == 2 + 2 + 3  # dense layer, prior and its weight, surrogate
    frozen = numpy(frozen_variables)
    before = numpy(model.trained_variables)
    assert len(before) == 2
    fit(model)
    assert_same(numpy(frozen_variables), frozen)
    assert all(changed(before, numpy(model.trained_variables)))


@pytest.mark.parametrize("when", ["before", "after"])
def test_frozen_surrogate_beside_a_learned_prior(when):
    surrogate = Network(units=(2,))
    surrogate.trainable = when == "after"
    model = compile_model(functional(name="code"), estimator=relax(surrogate=surrogate))
    assert model.estimator_state["code"].surrogate is surrogate
    surrogate.trainable = False
    frozen, before = numpy(surrogate.weights), numpy(model.trainable_variables)
    assert frozen
    assert model.estimator_state.trainable_variables == []
    fit(model)
    assert_same(numpy(surrogate.weights), frozen)
    assert all(changed(before, numpy(model.trainable_variables)))


def test_a_layer_is_thawed_by_compiling_again():
    model = functional()
    encoder = model.get_layer("encoder")
    encoder.trainable = False
    fit(compile_model(model))
    encoder.trainable = True
    before = numpy(encoder.weights)
    fit(compile_model(model))
    assert all(changed(before, numpy(encoder.weights)))
