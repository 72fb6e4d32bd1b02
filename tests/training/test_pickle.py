"""Models that are pickled and copied, here and in another process."""

import copy
import pickle
import subprocess
import sys

import joblib
import numpy as np

from tests.training.habits import (
    STYLES,
    assert_same_state,
    compiled,
    fit,
    functional,
    sequential,
    styles,
)
from tf_relax import RelaxOptimizer


def through_joblib(model, tmp_path):
    joblib.dump(model, tmp_path / "model.joblib")
    return joblib.load(tmp_path / "model.joblib")


COPIES = {
    "pickle": lambda model, _: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, _: copy.deepcopy(model),
    "joblib": through_joblib,
}


@styles
def test_pickle(style, tmp_path):
    model = STYLES[style]()
    if model.built:
        for make_copy in COPIES.values():
            again = make_copy(model, tmp_path)
            assert type(again) is type(model)
            assert not again.compiled
    fit(compiled(model, RelaxOptimizer("adam", "sgd"), estimator="rebar"))
    for make_copy in COPIES.values():
        again = make_copy(model, tmp_path)
        assert type(again) is type(model)
        assert repr(again.estimator) == repr(model.estimator)
        assert_same_state(again, model)
        for one, other in zip(again.optimizer.variables, model.optimizer.variables, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
        fit(again)


UNPICKLE = """
import pickle, sys
with open(sys.argv[1], "rb") as file:
    models = pickle.load(file)
import numpy as np
from tf_relax import RelaxModel
for model in models:
    assert isinstance(model, RelaxModel), type(model)
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    weights = [v.numpy() for v in [*model.weights, *model.estimator_state.variables]]
    np.savez(f"{sys.argv[1]}-{type(model)._style.__name__}.npz", *weights)
"""


def test_unpickling_in_a_new_process(tmp_path):
    path, models = tmp_path / "models.pickle", [functional(), sequential()]
    for model in models:
        fit(compiled(model))
    path.write_bytes(pickle.dumps(models))
    subprocess.run([sys.executable, "-c", UNPICKLE, str(path)], check=True)
    for model in models:
        fit(model, np.ones((4, 3)), np.ones((4, 2)), shuffle=True)
        there = np.load(f"{path}-{type(model)._style.__name__}.npz")
        weights = [*model.weights, *model.estimator_state.variables]
        for name, weight in zip(there.files, weights, strict=True):
            np.testing.assert_allclose(there[name], weight.numpy(), rtol=1e-5, atol=1e-6)
