"""What estimators learn: held by the compiled model, saved with it, and no part of its weights."""

import io
import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tf_relax._src.estimators.state import BaselineState, State
from tf_relax.estimators import Estimate, Estimator, Reinforce, Relax
from tf_relax.layers import RelaxBernoulli
from tf_relax.surrogates import KerasModel, Network, is_surrogate_variable

RNG = np.random.default_rng(0)
X = RNG.integers(0, 2, (16, 6)).astype("float32")


def autoencoder(prior=None, units=4, cls=tf_relax.RelaxModel):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    code = RelaxBernoulli(prior=prior, seed=1, name="code")
    sample = code(keras.layers.Dense(units, name="encoder")(inputs))
    return cls(inputs, keras.layers.Dense(6, name="decoder")(sample))


def compiled(estimator="relax", **options):
    model = autoencoder(**options)
    model.compile(keras.optimizers.Adam(0.05), tf_relax.losses.BernoulliNLL(), estimator=estimator)
    return model


def fit(model, **options):
    model.fit(X, X, batch_size=8, shuffle=False, verbose=0, **options)


def values(model):
    return [v.numpy() for v in [*model.trained_variables, *model.estimator_state.variables]]


def assert_equal(first, second):
    for a, b in zip(values(first), values(second), strict=True):
        np.testing.assert_array_equal(a, b)


# ------------------------------------------------------------------------------ whose weights


@pytest.mark.parametrize(("prior", "weights"), [(None, []), ("learned", ["prior_logits"])])
@pytest.mark.parametrize("cls", [keras.Model, tf_relax.RelaxModel])
def test_a_layer_has_no_weights_but_a_learned_prior(cls, prior, weights):
    layer = autoencoder(prior, cls=cls).get_layer("code")
    assert [v.name for v in layer.trainable_variables] == weights


@pytest.mark.parametrize("estimator", tf_relax.estimators.names())
def test_summary_shows_what_a_sigmoid_in_its_place_would(estimator):
    """Parameters, trainable variables and the weights file of the very same net."""
    model = autoencoder()
    if estimator == "rejection":
        return  # not for bits
    samples = 2 if estimator == "vimco" else None
    options = {"importance_samples": samples}
    model.compile("adam", tf_relax.losses.BernoulliNLL(), estimator=estimator, **options)
    inputs = keras.Input((6,))
    sigmoid = keras.layers.Activation("sigmoid")(keras.layers.Dense(4)(inputs))
    plain = keras.Model(inputs, keras.layers.Dense(6)(sigmoid))
    texts = []
    for each in (model, plain):
        text = io.StringIO()
        each.summary(print_fn=lambda line, text=text: text.write(line + "\n"))
        texts.append([line for line in text.getvalue().splitlines() if "params" in line])
    assert texts[0] == texts[1]
    assert model.count_params() == plain.count_params()
    shapes = [[w.shape for w in each.get_weights()] for each in (model, plain)]
    assert shapes[0] == shapes[1]


def test_before_compile_there_is_no_state():
    model = autoencoder()
    assert model.estimator is None
    assert model.estimator_state is None
    assert model.trained_variables == model.trainable_variables


@pytest.mark.parametrize(
    "estimator", ["straight_through", "disarm", "leave_one_out", "arms", "muprop", "reinforce"]
)
def test_estimators_that_learn_nothing_have_no_variables(estimator):
    model = compiled(estimator)
    assert model.estimator_state.variables == []
    fit(model)
    # The weights, an iteration counter and a learning rate each; nothing else has moments.
    assert len(model.optimizer.variables) == 2 * len(model.trainable_variables) + 4


@pytest.mark.parametrize(
    ("estimator", "names"),
    [
        ("rebar", ["log_temperature", "scale"]),
        (Relax(surrogate="network"), ["kernel", "bias"]),
        ("double_cv", ["alpha"]),
        (Reinforce("moving_average"), ["mean"]),
        (Reinforce("learned"), ["kernel", "bias"]),
        ("nvil", ["mean", "variance", "kernel", "bias"]),
        ("rodeo", ["inner_scale", "outer_scale", "kernel", "bias"]),
    ],
    ids=repr,
)
def test_a_state_has_what_its_estimator_learns(estimator, names):
    model = compiled(estimator)
    state = model.estimator_state
    assert {v.name for v in state.variables} == set(names)
    assert all(map(is_surrogate_variable, state.variables))
    before = [v.numpy() for v in state.variables]
    fit(model, epochs=3)
    changed = [not np.array_equal(a, v) for a, v in zip(before, state.variables, strict=True)]
    if isinstance(state["code"], BaselineState) and state["code"].surrogate is not None:
        # A baseline leaves z out: its network sees zeros there.
        blind = state["code"].surrogate._from_z.kernel
        changed = [c or v is blind for c, v in zip(changed, state.variables, strict=True)]
    assert all(changed)


def test_shared_layers_share_a_state():
    inputs = keras.Input((6,))
    code = RelaxBernoulli(name="code")
    dense = keras.layers.Dense(4)
    both = keras.layers.Add()([code(dense(inputs)), code(dense(keras.ops.flip(inputs, 1)))])
    model = tf_relax.RelaxModel(inputs, keras.layers.Dense(6)(both))
    model.compile("adam", tf_relax.losses.BernoulliNLL(), estimator="nvil")
    assert len(model.estimator_state.by_layer) == 1
    fit(model)


# ------------------------------------------------------------------------------ saving


def test_saved_with_the_model(tmp_path):
    model = compiled(Relax(surrogate=Network((5,)), temperature=0.3))
    fit(model)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert repr(again.estimator) == repr(model.estimator)
    assert_equal(model, again)
    for each in (model, again):
        fit(each)
    assert_equal(model, again)


def test_weights_go_from_one_estimator_to_another(tmp_path):
    """The model's own are loaded; what another estimator has learned is passed over."""
    model, other = compiled("relax"), compiled("nvil")
    fit(model)
    model.save_weights(tmp_path / "a.weights.h5")
    learned = [v.numpy() for v in other.estimator_state.variables]
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        other.load_weights(tmp_path / "a.weights.h5")  # whose optimizer has fewer variables
    for a, b in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(learned, other.estimator_state.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    plain = autoencoder()
    plain.load_weights(tmp_path / "a.weights.h5")
    plain.save_weights(tmp_path / "b.weights.h5")
    with pytest.warns(UserWarning, match="Skipping variable loading for optimizer"):
        other.load_weights(tmp_path / "b.weights.h5")  # of a model that was never compiled


def test_weights_of_the_same_estimator_bring_what_it_has_learned(tmp_path):
    model, other = compiled("relax"), compiled("relax")
    fit(model)
    model.save_weights(tmp_path / "a.weights.h5")
    fit(other)
    other.load_weights(tmp_path / "a.weights.h5")
    assert_equal(model, other)


def test_backup_and_restore(tmp_path):
    """Interrupted after an epoch and begun again, training ends where it would have."""

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    straight, stopped = compiled("nvil"), compiled("nvil")
    fit(straight, epochs=4)
    backup = lambda: keras.callbacks.BackupAndRestore(tmp_path / "backup")  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        fit(stopped, epochs=4, callbacks=[backup(), Stop()])
    resumed = compiled("nvil")
    fit(resumed, epochs=4, callbacks=[backup()])
    assert_equal(straight, resumed)


def test_state_tree():
    model, other = compiled("relax"), compiled("relax")
    for each in (model, other):  # the trees hold the optimizer's variables as well
        fit(each)
    fit(model)
    other.set_state_tree(model.get_state_tree("numpy_array"))
    assert_equal(model, other)


def test_checkpoints(tmp_path):
    model = compiled("relax")
    path = tmp_path / "{epoch}.keras"
    fit(model, epochs=2, callbacks=[keras.callbacks.ModelCheckpoint(path)])
    assert_equal(model, keras.saving.load_model(tmp_path / "2.keras"))


# ------------------------------------------------------------------------------ compiled again


def test_compiled_again_for_the_same_estimator_it_goes_on():
    model = compiled("relax")
    fit(model)
    learned = [v.numpy() for v in model.estimator_state.variables]
    model.compile("sgd", tf_relax.losses.BernoulliNLL(), estimator=Relax())
    for a, v in zip(learned, model.estimator_state.variables, strict=True):
        np.testing.assert_array_equal(a, v)
    model.compile("sgd", tf_relax.losses.BernoulliNLL(), estimator="rebar")
    assert len(model.estimator_state.variables) == 2
    assert float(model.estimator_state["code"].scale.value) == 1
    fit(model)


def test_another_estimator_for_a_while_leaves_it_alone():
    model = compiled("relax")
    before = [v.numpy() for v in model.estimator_state.variables]
    with model.using("nvil"):
        state = model.estimator_state
        step = model.differentiate(X, X)
        assert {id(v) for v in state.trainable_variables} <= {id(v) for v in step.variables}
    assert float(state["code"].mean.value) != 0
    for a, v in zip(before, model.estimator_state.variables, strict=True):
        np.testing.assert_array_equal(a, v)
    with model.using("relax"):
        assert model.estimator_state["code"] is not state["code"]
    with model.using("nvil", state):
        assert model.estimator_state is state


# ------------------------------------------------------------------------------ surrogates


def critic():
    z = keras.Input((4,))
    return keras.Model(z, keras.layers.Dense(1, name="only")(z))


def test_a_surrogate_object_serves_its_layer():
    model = critic()
    surrogate = KerasModel(model)
    autoencoder = compiled(Relax(surrogate=surrogate))
    assert autoencoder.estimator_state["code"].surrogate is surrogate
    before = model.get_weights()
    fit(autoencoder)
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_two_models_with_one_estimator_train_as_with_two():
    estimator = Relax(surrogate=Network((5,)))
    first, second = compiled(estimator), compiled(estimator)
    apart = compiled(Relax(surrogate=Network((5,))))
    surrogates = [m.estimator_state["code"].surrogate for m in (first, second)]
    assert surrogates[0] is not surrogates[1]
    surrogates[1].set_weights(surrogates[0].get_weights())
    apart.estimator_state["code"].surrogate.set_weights(surrogates[0].get_weights())
    for model in (first, second, apart):
        fit(model)
    assert_equal(first, second)
    assert_equal(first, apart)


def test_a_surrogate_that_cannot_be_copied():
    class Own(Network):
        def __init__(self, size):
            super().__init__((size,))

    inputs = keras.Input((3,))
    codes = [RelaxBernoulli(name=name)(keras.layers.Dense(2)(inputs)) for name in "ab"]
    model = tf_relax.RelaxModel(inputs, keras.layers.Concatenate()(codes))
    with pytest.raises(ValueError, match=r"(?s)RelaxBernoulli 'b' needs a copy.*Own.*get_config"):
        model.compile("sgd", "mse", estimator=Relax(surrogate=Own(3)))


# ------------------------------------------------------------------------------ of one's own


class Factor(State):
    def build(self, input_shape=None):
        self.factor = self.learned("factor", 1.0)


class Own(Estimator):
    """The score function with a learned factor of a constant baseline."""

    def build(self, layer, relaxable):
        return Factor(layer)

    def estimate(self, passes):
        (one,) = passes
        (site,) = one.sites
        signal = one.f - site.state.factor
        g = signal[:, tf.newaxis] * site.layer.relaxation.score(site.logits, site.draw)
        return Estimate([[g]], surrogate_loss=tf.reduce_mean(tf.square(g)))


def test_what_an_estimator_of_the_user_learns_is_trained():
    model = compiled(Own())
    fit(model)
    assert float(model.estimator_state["code"].factor.value) != 1


def test_a_state_that_makes_variables_too_late():
    class LateFactor(Factor):
        def __init__(self, layer):
            super().__init__(layer)
            self.more = keras.layers.Dense(1, name="more")  # built when it is called

    class Late(Own):
        def build(self, layer, relaxable):
            return LateFactor(layer)

        def estimate(self, passes):
            site = passes[0].sites[0]
            site.state.more(site.b)
            return super().estimate(passes)

    model = compiled(Late())
    before = model.get_weights()
    message = r"LateFactor.*RelaxBernoulli 'code'.*more/kernel.*after it was built.*in its `build`"
    with pytest.raises(ValueError, match=message):
        model.differentiate(X, X)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_estimator_that_learns_without_a_loss():
    class Forgetful(Own):
        def estimate(self, passes):
            return super().estimate(passes)._replace(surrogate_loss=None)

    with pytest.raises(ValueError, match=r"Forgetful.*code/factor.*no `surrogate_loss`"):
        compiled(Forgetful()).differentiate(X, X)


def test_frozen_layers_learn_nothing():
    model = compiled("relax")
    model.get_layer("code").trainable = False
    assert model.estimator_state.trainable_variables == []
    fit(model)


# ------------------------------------------------------------------------------ bad input


def test_files_of_the_layout_before_this_one():
    config = RelaxBernoulli(name="code").get_config()
    message = r"RelaxBernoulli 'code' was saved before tf_relax 0\.1\.0"
    with pytest.raises(ValueError, match=message):
        RelaxBernoulli.from_config({**config, "surrogate": {}, "temperature": 0.1, "scale": 1.0})


def test_weights_of_another_architecture_change_nothing(tmp_path):
    compiled("relax", units=3).save_weights(tmp_path / "three.weights.h5")
    model = compiled("relax")
    fit(model)
    before = values(model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras warns of what it skips before it gives up
        with pytest.raises(ValueError, match="could not be loaded"):
            model.load_weights(tmp_path / "three.weights.h5")
    for a, b in zip(before, values(model), strict=True):
        np.testing.assert_array_equal(a, b)


def test_asking_for_the_state_of_another_layer():
    with pytest.raises(KeyError, match=r"the layers \['code'\], and none for 'decoder'"):
        compiled().estimator_state["decoder"]
