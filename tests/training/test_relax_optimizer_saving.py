"""A RelaxOptimizer is saved and restored with the state of both optimizers."""

import json

import h5py
import keras
import pytest
import tensorflow as tf

from tests.training.models import assert_same, numpy
from tests.training.optimizer_pairs import (
    adam,
    adamw,
    assert_same_state,
    fit,
    make_model,
    sgd,
    two_variables,
)
from tf_relax._src.training.relax_optimizer import RelaxOptimizer


def schedule():
    return keras.optimizers.schedules.ExponentialDecay(0.1, 2, 0.5)


PAIRS = {
    "names": lambda: ("adam", "rmsprop"),
    "clipnorm": lambda: (adam(0.1, clipnorm=0.01), sgd(0.1, momentum=0.9, clipvalue=0.01)),
    "average": lambda: (
        adam(0.1, use_ema=True, ema_overwrite_frequency=2),
        adam(0.2, use_ema=True, ema_momentum=0.5, name="other"),
    ),
    "accumulation": lambda: (
        adam(0.1, gradient_accumulation_steps=2),
        sgd(0.1, momentum=0.9, gradient_accumulation_steps=4),
    ),
    "decay": lambda: (adamw(0.1, weight_decay=0.5), sgd(0.1, weight_decay=0.25)),
    "schedule": lambda: (adam(schedule()), sgd(schedule(), momentum=0.9)),
}


def make_pair(kind):
    main, surrogate = PAIRS[kind]()
    return RelaxOptimizer(main, surrogate_optimizer=surrogate, name="pair")


@pytest.mark.parametrize("kind", PAIRS)
def test_config_round_trip(kind):
    optimizer = make_pair(kind)
    config = optimizer.get_config()
    text = json.dumps(config)
    clone = RelaxOptimizer.from_config(config)
    assert json.dumps(config) == text
    assert json.dumps(clone.get_config()) == text
    assert clone.name == "pair"
    assert type(clone.surrogate_optimizer) is type(optimizer.surrogate_optimizer)
    again = keras.optimizers.deserialize(keras.optimizers.serialize(optimizer))
    assert isinstance(again, RelaxOptimizer)
    assert json.dumps(again.get_config()) == text


def test_config_with_custom_objects():
    class Custom(keras.optimizers.SGD):
        """A class that Keras has not registered."""

    config = RelaxOptimizer("adam", surrogate_optimizer=Custom(0.1)).get_config()
    clone = RelaxOptimizer.from_config(config, custom_objects={"Custom": Custom})
    assert type(clone.surrogate_optimizer) is Custom


@pytest.mark.parametrize("kind", PAIRS)
def test_saved_model_goes_on_exactly_as_the_original(kind, tmp_path):
    model = make_model(make_pair(kind))
    fit(model)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(loaded.optimizer, RelaxOptimizer)
    assert loaded.optimizer.get_config() == model.optimizer.get_config()
    assert_same_state(loaded, model)

    before = numpy(model.weights)
    fit(model)
    fit(loaded)
    assert_same_state(loaded, model)
    assert all((a != b).any() for a, b in zip(before, numpy(model.weights), strict=True))


def test_weights_file_holds_the_state_of_both_once(tmp_path):
    model = make_model(make_pair("average"))
    fit(model)
    model.save_weights(tmp_path / "w.weights.h5")
    saved = []
    with h5py.File(tmp_path / "w.weights.h5") as file:
        file["optimizer"].visititems(
            lambda name, item: saved.append(item[()]) if isinstance(item, h5py.Dataset) else None
        )
    assert len(saved) == len(model.optimizer.variables)

    other = make_model(make_pair("average"))
    other.optimizer.build(other.trainable_variables)
    other.load_weights(tmp_path / "w.weights.h5")
    assert_same_state(other, model)


def test_set_weights():
    theta, phi = two_variables()
    source = RelaxOptimizer("adam", surrogate_optimizer=sgd(0.5, momentum=0.9))
    source.apply([tf.ones(2), tf.ones(1)], [theta, phi])
    target = RelaxOptimizer("adam", surrogate_optimizer=sgd(0.25, momentum=0.9))
    target.build([theta, phi])
    target.set_weights(source.variables)
    assert_same(target.variables, source.variables)


def test_model_checkpoint(tmp_path):
    model = make_model(make_pair("clipnorm"))
    path = str(tmp_path / "{epoch}.keras")
    fit(model, epochs=2, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    resumed = keras.saving.load_model(tmp_path / "1.keras")
    fit(resumed)
    assert_same_state(resumed, model)


def test_backup_and_restore(tmp_path):
    expected = make_model(make_pair("clipnorm"))
    fit(expected, epochs=3)

    def stop(epoch, logs=None):
        if epoch == 1:
            raise KeyboardInterrupt

    backup = str(tmp_path / "backup")
    interrupted = make_model(make_pair("clipnorm"))
    with pytest.raises(KeyboardInterrupt):
        fit(
            interrupted,
            epochs=3,
            callbacks=[
                keras.callbacks.BackupAndRestore(backup),
                keras.callbacks.LambdaCallback(on_epoch_begin=stop),
            ],
        )
    resumed = make_model(make_pair("clipnorm"))
    fit(resumed, epochs=3, callbacks=[keras.callbacks.BackupAndRestore(backup)])
    assert_same_state(resumed, expected)


def test_tensorflow_checkpoint(tmp_path):
    model = make_model(make_pair("clipnorm"))
    fit(model)
    path = tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(str(tmp_path / "c"))
    other = make_model(make_pair("clipnorm"))
    other.optimizer.build(other.trainable_variables)
    tf.train.Checkpoint(model=other, optimizer=other.optimizer).read(path).assert_consumed()
    assert_same_state(other, model)


def test_state_tree():
    model = make_model(RelaxOptimizer("adam", surrogate_optimizer="rmsprop"))
    model.optimizer.build(model.trainable_variables)
    saved = numpy(model.optimizer.variables)
    tree = model.get_state_tree(value_format="numpy_array")
    fit(model)
    model.set_state_tree(tree)
    assert_same(model.optimizer.variables, saved)
