"""Layers of categories, permutations, subsets and trees: outputs, training, saving."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_relax
from tests.estimators.learned import taught
from tests.layers.families import (
    ALL,
    WITHOUT_CONDITIONAL,
    all_families,
    divergence,
    families,
    log_probabilities,
    logits,
)
from tests.relaxations.families import FAMILIES, SPARSE
from tf_relax import RelaxModel, estimators, layers, relaxations
from tf_relax.sites import Record

# b for the event shapes of FAMILIES.
SHAPES = {
    "categorical": (2, 4),
    "sticks": (2, 4),
    "plackett_luce": (4, 4),
    "stick_breaking": (4, 4),
    "matching": (4, 4),
    "top_2_of_5": (5,),
    "ordered_top_2_of_5": (2, 5),
    "spanning_tree": (6,),
    "adjacency": (4, 4),
    "arborescence": (4, 4),
    "sparse": (4, 4),
    "gumbel_sinkhorn": (3, 3),
    "rounding": (3, 3),
}


# ------------------------------------------------------------------------------ samples


@pytest.mark.parametrize(
    ("policy", "compute"), [("float32", "float32"), ("mixed_bfloat16", "bfloat16")]
)
@all_families
def test_shape_and_dtype(family, policy, compute, rng):
    """Samples have the compute dtype; z and its noise never have less than float32."""
    prior = None if family.name == "rounding" else "learned"
    layer = family.make(dtype=policy, prior=prior)
    shape = (3, *SHAPES[family.name])
    a = tf.cast(logits(family, rng), compute)
    with Record() as sites:
        sample = layer(a, training=True)
    assert sample.shape == shape == layer.compute_output_shape(a.shape)
    assert sample.dtype == compute
    assert set(np.unique(tf.cast(sample, "float32"))) == {0.0, 1.0}
    site = sites[0]
    assert {tensor.dtype for tensor in (site.logits, site.z, site.b)} == {tf.float32}
    state = estimators.Dlax().build(layer, True)
    state.build()
    assert {variable.dtype for variable in state.weights + layer.weights} == {"float32"}
    assert bool(layer.weights) == (prior is not None)
    symbolic = family.make(dtype=policy)(keras.Input(family.event, dtype=compute))
    assert (symbolic.shape, symbolic.dtype) == ((None, *shape[1:]), compute)


@all_families
def test_seed_repeats_the_samples(family, rng):
    a = logits(family, rng, 40)
    first, second, other = (family.make(seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first(a), second(a))
    assert (np.asarray(first(a)) != np.asarray(other(a))).any()


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("categorical", ("one_hot", "index")),
        ("sticks", ("one_hot", "index")),
        ("plackett_luce", ("matrix", "index")),
        ("stick_breaking", ("matrix", "index")),
        ("matching", ("matrix", "index")),
    ],
)
@pytest.mark.parametrize("inference", ["sample", "mode"])
def test_indices_are_those_of_the_ones(name, kinds, inference, rng):
    family = next(family for family in FAMILIES if family.name == name)
    a = logits(family, rng, 20)
    rows, index = (family.make(output=kind, inference=inference, seed=1) for kind in kinds)
    b, i = rows(a), index(a)
    assert i.dtype == "int32"
    assert i.shape == index.compute_output_shape(a.shape) == b.shape[:-1]
    np.testing.assert_array_equal(np.argmax(b, axis=-1), i)
    symbolic = family.make(output="index")(keras.Input(family.event))
    assert (symbolic.shape, symbolic.dtype) == ((None, *i.shape[1:]), "int32")


@pytest.mark.parametrize("inference", ["sample", "mode"])
def test_outputs_of_subsets_agree(inference, rng):
    a = tf.constant(rng.normal(size=(20, 6)), "float32")
    found = {
        kind: layers.RelaxTopK(3, output=kind, seed=1, inference=inference)(a)
        for kind in ("set", "ordered", "index")
    }
    assert found["index"].shape == (20, 3)
    np.testing.assert_array_equal(np.argmax(found["ordered"], axis=-1), found["index"])
    np.testing.assert_array_equal(np.sum(found["ordered"], axis=1), found["set"])
    np.testing.assert_array_equal(np.sum(found["set"], axis=1), np.full(20, 3))


@pytest.mark.parametrize("inference", ["sample", "mode"])
def test_outputs_of_trees_agree(inference, rng):
    a = tf.constant(rng.normal(size=(20, 6)), "float32")
    edges, adjacency = (
        np.asarray(layers.RelaxSpanningTree(output=kind, seed=1, inference=inference)(a))
        for kind in ("edges", "adjacency")
    )
    for (u, v), taken in zip(relaxations.complete_graph(6), edges.T, strict=True):
        np.testing.assert_array_equal(adjacency[:, u, v], taken)
        np.testing.assert_array_equal(adjacency[:, v, u], taken)
    np.testing.assert_array_equal(edges.sum(axis=1), np.full(20, 3))


def test_samples_are_what_they_are_called(rng):
    """Rows and columns of permutations, degrees and roots of trees."""
    by_name = {family.name: family for family in ALL}
    for name in ("plackett_luce", "stick_breaking", "matching", "gumbel_sinkhorn", "rounding"):
        b = np.asarray(by_name[name].make()(logits(by_name[name], rng, 50)))
        np.testing.assert_array_equal(b.sum(axis=1), np.ones(b.shape[:2]), err_msg=name)
        np.testing.assert_array_equal(b.sum(axis=2), np.ones(b.shape[:2]), err_msg=name)
    for name in ("arborescence", "sparse"):
        b = np.asarray(by_name[name].make()(logits(by_name[name], rng, 50)))
        np.testing.assert_array_equal(b.sum(axis=1), np.tile([0, 1, 1, 1], (50, 1)))
        paths = np.linalg.matrix_power(b + np.eye(4), 3)
        assert (paths[:, 0] > 0).all()  # all nodes are reached from the root
        if name == "sparse":
            forbidden = np.ones((4, 4), bool)
            forbidden[tuple(np.transpose(SPARSE))] = False
            assert not b[:, forbidden].any()


# ------------------------------------------------------------------------------ inference


@pytest.mark.parametrize(
    "family",
    [f for f in FAMILIES if f.name in ("categorical", "sticks", "plackett_luce")]
    + [f for f in FAMILIES if "top_2" in f.name],
    ids=lambda family: family.name,
)
def test_mode_is_the_most_probable(family, rng):
    a = logits(family, rng, 8)
    layer = family.make(inference="mode")
    found = np.asarray(layer(a))
    outcomes = layer.relaxation.outcomes(family.shape)
    draws = layer.relaxation.forced(tf.zeros((len(outcomes), *family.event)), tf.constant(outcomes))
    b = np.asarray(draws.b).reshape(len(outcomes), -1)
    for k in range(len(a)):
        p = np.exp(log_probabilities(layer.relaxation, outcomes, a[k]))
        seen, group = np.unique(b, axis=0, return_inverse=True)  # sets in all of their orders
        total = np.bincount(group.ravel(), weights=p)
        np.testing.assert_array_equal(found[k].ravel(), seen[np.argmax(total)])


@all_families
def test_mode_is_the_sample_where_there_is_no_doubt(family, rng):
    a = 400 * logits(family, rng, 8)
    if family.name == "rounding":
        a = tf.concat([a[..., :3], tf.fill((8, 3, 3), -20.0)], axis=-1)
    mode, sample = family.make(inference="mode"), family.make(seed=0)
    np.testing.assert_array_equal(mode(a, training=False), sample(a, training=True))


@pytest.mark.parametrize("name", ["categorical", "sticks"])
def test_mean_is_the_sum_over_outcomes(name, rng):
    family = next(family for family in FAMILIES if family.name == name)
    a = logits(family, rng)
    layer = family.make(inference="mean")
    found = layer(a, training=False)
    outcomes = layer.relaxation.outcomes(family.shape)
    for k in range(3):
        p = np.exp(log_probabilities(layer.relaxation, outcomes, a[k]))
        np.testing.assert_allclose(found[k], np.tensordot(p, outcomes, 1), atol=1e-6)


# ------------------------------------------------------------------------------ masks


def test_masked_categories_are_never_chosen(rng):
    mask = [[True, False, True, True], [False, True, True, False]]
    a = tf.constant(np.where(mask, 0.0, 50.0) + np.zeros((500, 2, 4)), "float32")
    layer = layers.RelaxCategorical(mask=mask, prior="uniform")
    sample = np.asarray(layer(a, training=True))
    assert not sample[:, ~np.array(mask)].any()
    assert sample[:, np.array(mask)].any(axis=0).all()
    # The prior is uniform over those that are left.
    np.testing.assert_allclose(divergence(layer), np.zeros(500), atol=1e-5)
    with tf.GradientTape() as tape, tf_relax.record() as sites:
        tape.watch(a)
        layer(a, training=True)
    gradient = tape.gradient(sites[0].logits, a)
    np.testing.assert_array_equal(gradient[0], np.array(mask, "float32"))
    again = layers.RelaxCategorical.from_config(layer.get_config())
    np.testing.assert_array_equal(again.mask, mask)


def test_masked_items_are_in_no_subset(rng):
    mask = [True, False, True, True, False]
    layer = layers.RelaxTopK(2, mask=mask, prior="uniform", kl="sampled")
    sample = np.asarray(layer(tf.zeros((500, 5)), training=True))
    np.testing.assert_array_equal(sample.sum(axis=1), np.full(500, 2))
    assert not sample[:, ~np.array(mask)].any()
    assert sample[:, np.array(mask)].any(axis=0).all()
    # The prior is uniform over the 3 * 2 ordered pairs that are left.
    np.testing.assert_allclose(divergence(layer), np.zeros(500), atol=1e-5)


def test_training_with_a_mask_leaves_the_others_alone(rng):
    inputs = keras.Input((3,))
    mask = [True, False, True, True]
    a = keras.layers.Dense(4, name="logits")(inputs)
    sample = layers.RelaxCategorical(mask=mask, prior="uniform")(a)
    model = RelaxModel(inputs, keras.layers.Dense(1)(sample))
    model.compile(keras.optimizers.SGD(0.1), "mse", estimator="relax", run_eagerly=True)
    before = model.get_layer("logits").kernel.numpy()
    model.fit(rng.normal(size=(8, 3)), np.ones((8, 1)), verbose=0)
    moved = (model.get_layer("logits").kernel.numpy() != before).any(axis=0)
    np.testing.assert_array_equal(moved, mask)


# ------------------------------------------------------------------------------ training, saving


def trained(family):
    inputs = keras.Input((3,))
    size = int(np.prod(family.event))
    a = keras.layers.Reshape(family.event)(keras.layers.Dense(size, name="encoder")(inputs))
    sample = family.make(inference="mode", seed=0, name="layer")(a)
    flat = keras.layers.Flatten()(sample)
    model = RelaxModel(inputs, keras.layers.Dense(2, name="decoder")(flat))
    name = "dlax" if family in WITHOUT_CONDITIONAL else "relax"
    estimator = taught(name, temperature=0.3, scale=0.5)
    model.compile("adam", "mse", estimator=estimator, run_eagerly=True)
    return model


@all_families
def test_trains_and_is_saved_with_its_model(family, rng, tmp_path):
    model = trained(family)
    state = model.estimator_state["layer"]
    if family.name == "rounding":  # relaxed samples are z itself
        assert state.temperature is None
    else:
        np.testing.assert_allclose(state.temperature, 0.3, rtol=1e-6)
    x, y = rng.normal(size=(8, 3)), rng.normal(size=(8, 2))
    before = model.get_layer("encoder").kernel.numpy()
    history = model.fit(x, y, batch_size=4, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert np.isfinite(np.concatenate([np.ravel(w) for w in model.get_weights()])).all()
    assert np.isfinite(np.concatenate([np.ravel(w) for w in state.get_weights()])).all()
    assert (model.get_layer("encoder").kernel.numpy() != before).any()
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    mine, theirs = (m.get_layer("layer").get_config() for m in (model, loaded))
    assert mine == theirs
    assert estimators.serialize(loaded.estimator) == estimators.serialize(model.estimator)
    again = loaded.estimator_state["layer"]
    assert type(again.surrogate) is type(state.surrogate)
    for a, b in zip(state.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(loaded.predict(x, verbose=0), model.predict(x, verbose=0))


@all_families
def test_configuration(family):
    layer = family.make(inference="mode", seed=3, check_numerics=True)
    again = type(layer).from_config(layer.get_config())
    assert again.get_config() == layer.get_config()


@families
def test_configuration_of_priors(family, rng):
    for prior in ("uniform", "learned", rng.normal(size=family.event)):
        layer = family.make(prior=prior, kl="sampled", kl_weight=0.25)
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config
        assert (config["kl"], config["kl_weight"]) == ("sampled", 0.25)


def test_outputs_are_part_of_the_configuration():
    for layer in (
        layers.RelaxCategorical(output="index", mask=[True, False, True]),
        layers.RelaxPermutation(method="matching", output="index"),
        layers.RelaxTopK(2, output="ordered", mask=[True, True, False]),
        layers.RelaxSpanningTree(edges=[(0, 1), (1, 2)], output="adjacency"),
        layers.RelaxArborescence(3, root=2, edges=[(2, 0), (0, 1)]),
        layers.GumbelSinkhorn(iterations=7),
        layers.Rounding(iterations=7),
    ):
        config = layer.get_config()
        assert type(layer).from_config(config).get_config() == config


def test_training_through_indices(rng):
    """An embedding of the choice: RELAX with the surrogate network alone."""
    inputs = keras.Input((3,))
    choice = layers.RelaxCategorical(output="index", prior="learned")(
        keras.layers.Dense(5, name="encoder")(inputs)
    )
    code = keras.layers.Embedding(5, 2, name="table")(choice)
    model = RelaxModel(inputs, keras.layers.Dense(1)(code))
    estimator = estimators.Relax(surrogate="network")
    model.compile("adam", "mse", estimator=estimator, run_eagerly=True)
    before = [model.get_layer(name).get_weights()[0] for name in ("encoder", "table")]
    model.fit(rng.normal(size=(8, 3)), np.ones((8, 1)), verbose=0)
    for name, weights in zip(("encoder", "table"), before, strict=True):
        assert (model.get_layer(name).get_weights()[0] != weights).any()


def test_refuses_to_be_differentiated_in_a_plain_model(rng):
    for family in ALL:
        layer, a = family.make(), logits(family, rng)
        with tf.GradientTape() as tape:
            tape.watch(a)
            sample = layer(a, training=True)
        with pytest.raises(LookupError, match=layer.name):
            tape.gradient(sample, a)


def test_sites_of_every_kind_are_recorded(rng):
    for family in FAMILIES:
        layer = family.make()
        with tf_relax.record() as sites:
            output = layer(logits(family, rng), training=True)
        (site,) = sites
        np.testing.assert_array_equal(site.b, output)
        assert np.abs(site.z_tilde - site.z).max() > 1e-3
