"""What earlier versions saved."""

import pytest

from tests.models import bernoulli
from tf_relax.layers import RelaxBernoulli


def test_layers_that_held_what_estimators_learn():
    config = {**bernoulli().get_config(), "surrogate": "sum", "temperature": 0.1, "scale": 1.0}
    with pytest.raises(
        ValueError, match=r"RelaxBernoulli 'code'.*before tf_relax 0\.1\.0.*build the model"
    ):
        RelaxBernoulli.from_config(config)
