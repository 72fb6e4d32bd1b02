"""A damaged, foreign or hostile file ends in an error, and the model is what it was."""

import contextlib
import io
import json
import zipfile

import gymnasium
import keras
import numpy as np
import pytest

from tests.rl.envs import trainer
from tf_relax import RelaxModel, rl
from tf_relax._src.rl import saved_environment
from tf_relax.layers import RelaxBernoulli, RelaxCategorical

X = np.eye(6, dtype="float32")


def trained(layer=RelaxBernoulli, units=4):
    keras.utils.set_random_seed(2)
    layers = [keras.layers.Dropout(0.2), keras.layers.Dense(units), layer()]
    model = RelaxModel([keras.Input((6,)), *layers, keras.layers.Dense(6)])
    model.compile("adam", "mse", estimator="nvil", run_eagerly=True)
    model.fit(X, X, verbose=0)
    return model


def everything(model):
    held = [*model.variables, *model.optimizer.variables]
    if isinstance(model, RelaxModel):
        held += model.estimator_state.variables
        return [variable.numpy() for variable in held]
    for name in ("value_optimizer", "surrogate_optimizer"):
        held += getattr(model, name).variables
    own = {}
    model.save_own_variables(own)
    return [*(variable.numpy() for variable in held), *map(np.array, own.values())]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def damaged(whole, rng):
    """A file that lost its end, or of which some bits are wrong, or a stretch of bytes."""
    kind = rng.integers(3)
    if kind == 0:
        return whole[: rng.integers(len(whole))]
    data = bytearray(whole)
    if kind == 1:
        for position in rng.integers(len(data), size=rng.integers(1, 9)):
            data[position] ^= 1 << rng.integers(8)
    else:
        start = rng.integers(len(data))
        stretch = data[start : start + rng.integers(1, 400)]
        data[start : start + len(stretch)] = rng.bytes(len(stretch))
    return bytes(data)


def fuzz(folder, suffix, count, made, load):
    """Loads damaged files; returns how many were refused. The others hold what was saved."""
    model = made()
    path = folder / f"whole{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    saved = everything(model)
    whole = path.read_bytes()
    model.load_weights(path)
    for variable in model.variables[:3]:  # so that one that is loaded can be told
        variable.assign(variable + 1)
    before = everything(model)
    assert not same(before, saved)
    rng = np.random.default_rng(0)
    refused = 0
    for k in range(count):
        part = folder / f"{k}{suffix}"
        part.write_bytes(damaged(whole, rng))
        try:
            loaded = load(model, part)
        except Exception:
            refused += 1
            assert same(everything(model), before), k
        else:
            # Damage where nothing lies: what was loaded is what was saved.
            assert same(everything(loaded), saved), k
            if loaded is model:
                for variable, value in zip(model.variables[:3], before[:3], strict=True):
                    variable.assign(value)
        part.unlink()
    return refused


def weights_into(model, path):
    model.load_weights(path)
    return model


def model_from(_, path):
    return keras.saving.load_model(path)


def small_trainer():
    made = trainer("CartPole-v1", "reinforce", normalize_observations=True)
    made.fit(20, seed=0, verbose=0)
    return made


CASES = {
    "weights": (".weights.h5", trained, weights_into),
    "weights of a model": (".keras", trained, weights_into),
    "model": (".keras", trained, model_from),
    "weights of a trainer": (".weights.h5", small_trainer, weights_into),
    "trainer": (".keras", small_trainer, lambda _, path: rl.load(path)),
}


@pytest.mark.parametrize("case", CASES)
def test_a_few_damaged_files(case, tmp_path):
    assert fuzz(tmp_path, CASES[case][0], 20, *CASES[case][1:]) > 10


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_damaged_files(case, tmp_path):
    refused = fuzz(tmp_path, CASES[case][0], 200, *CASES[case][1:])
    print(f"{case}: 200 damaged files, {refused} refused, the others as they were saved")
    assert refused > 100


def test_foreign_files(tmp_path):
    model = trained()
    before = everything(model)
    other = keras.Sequential([keras.Input((6,)), keras.layers.Dense(7), keras.layers.Dense(6)])
    other.save_weights(tmp_path / "other.weights.h5")
    (tmp_path / "text.weights.h5").write_text("hello")
    (tmp_path / "empty.keras").write_bytes(b"")
    trained(RelaxCategorical).save_weights(tmp_path / "categories.weights.h5")
    trained(units=5).save_weights(tmp_path / "five.weights.h5")
    for name, kind, message in (
        ("other.weights.h5", ValueError, "objects could not be loaded"),
        ("five.weights.h5", ValueError, "objects could not be loaded"),
        ("categories.weights.h5", ValueError, "of a model without such a layer"),
        ("text.weights.h5", OSError, "is damaged, cut short, or no file of weights"),
        ("empty.keras", OSError, "is damaged, cut short, or no file of weights"),
        ("none.weights.h5", OSError, "No such file|not found|unable to open"),
    ):
        with pytest.raises(kind, match=message):
            model.load_weights(tmp_path / name)
        assert same(everything(model), before), name
    store = {"kind": np.frombuffer(b"RelaxCategorical", np.uint8), "seed_state": np.zeros(2)}
    with pytest.raises(ValueError, match="finds the weights of a RelaxCategorical"):
        model.stochastic_layers[0].load_own_variables(store)


def rewritten(path, change):
    """Writes the config of a `.keras` file anew."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(members["config.json"])
    change(config)
    members["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def test_a_model_runs_no_code_of_its_file(tmp_path):
    path, sign = tmp_path / "model.keras", tmp_path / "code-ran"
    trained().save(path)
    call = {"class_name": "Popen", "config": {"args": ["touch", str(sign)]}}

    def popen(config):
        config["config"]["layers"].append(
            {"module": "subprocess", "registered_name": None, "build_config": None, **call}
        )

    def marshalled(config):
        code = compile(f"open({str(sign)!r}, 'w')", "x", "eval")
        layer = keras.layers.Lambda(eval("lambda x: " + f"open({str(sign)!r}, 'w')"))
        assert code
        config["config"]["layers"].append(keras.saving.serialize_keras_object(layer))

    def estimator(config):
        config["compile_config"]["estimator"] = {"module": "subprocess", **call}

    for change in (popen, marshalled, estimator):
        trained().save(path)
        rewritten(path, change)
        with pytest.raises((ValueError, TypeError)):
            keras.saving.load_model(path)
        assert not sign.exists(), change.__name__


def test_an_archive_writes_nothing_outside_its_folder(tmp_path):
    path = tmp_path / "inside" / "model.keras"
    path.parent.mkdir()
    model = trained()
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("../outside", "x")
        archive.writestr("assets/../../../outside", "x")
    with contextlib.suppress(Exception):
        keras.saving.load_model(path)
    assert not list(tmp_path.rglob("outside"))


@pytest.mark.parametrize(
    "change",
    [
        {"entry_point": "subprocess:Popen", "kwargs": {"args": ["touch", "code-ran"]}},
        {"vector_entry_point": "subprocess:Popen", "kwargs": {"args": ["touch", "code-ran"]}},
        {"id": "Unknown-v0"},
        {"additional_wrappers": [{"name": "x", "entry_point": "subprocess:Popen", "kwargs": {}}]},
        {"additional_wrappers": [{"name": "x", "entry_point": "no.such:Wrapper", "kwargs": {}}]},
        {
            "additional_wrappers": [
                {
                    "name": "RecordVideo",
                    "entry_point": "gymnasium.wrappers.rendering:RecordVideo",
                    "kwargs": {"video_folder": "code-ran"},
                }
            ]
        },
    ],
)
def test_a_trainer_makes_no_environment_that_the_program_does_not_know(change):
    spec = json.loads(gymnasium.make("CartPole-v1").spec.to_json())
    assert saved_environment.restored(json.dumps(spec)).id == "CartPole-v1"
    with pytest.raises(ValueError, match=r"tf_relax.rl.load\(path, env=...\)"):
        saved_environment.restored(json.dumps({**spec, **change}))


def test_a_trainer_imports_no_module_that_its_file_names(tmp_path):
    path = tmp_path / "trainer.keras"
    small_trainer().save(path)

    def elsewhere(config):
        config["config"]["env"] = "antigravity:Code-v0"

    rewritten(path, elsewhere)
    with pytest.raises(ValueError, match="import antigravity"):
        rl.load(path)
    assert rl.load(path, env="CartPole-v1").frames >= 20
    with pytest.raises(ValueError, match="make it anew"):
        saved_environment.restored("{" + io.StringIO("broken").read())
