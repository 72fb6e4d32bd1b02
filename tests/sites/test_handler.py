"""Where a layer is called: in a loop, or on logits of another rank than it was built for."""

import pytest
import tensorflow as tf

import tf_relax
from tf_relax._src import compat
from tf_relax.layers import RelaxBernoulli


@pytest.fixture
def layer():
    layer = RelaxBernoulli(name="code")
    layer.build((None, 3))
    return layer


def in_a_graph(call):
    return tf.function(call, autograph=False)


@pytest.mark.parametrize("mode", [lambda call: call, in_a_graph], ids=["eager", "graph"])
@pytest.mark.parametrize("shape", [(3,), (4, 2, 3)])
def test_another_rank_is_told_from_a_loop(layer, shape, mode):
    @mode
    def call():
        with tf_relax.record():
            return layer(tf.zeros(shape))

    with pytest.raises(ValueError, match=rf"built for logits of rank 2 .*rank {len(shape)}\."):
        call()

    @mode
    def loop():
        with tf_relax.record():
            return tf.map_fn(layer, tf.zeros((4, 3)))

    with pytest.raises(RuntimeError, match=r"inside a tf\.map_fn"):
        loop()


def test_hook_inside_eager_loop():
    seen = []
    tf.map_fn(lambda x: seen.append(compat.inside_eager_loop()) or x, tf.zeros(2))
    tf.function(
        lambda: tf.map_fn(lambda x: seen.append(compat.inside_eager_loop()) or x, tf.zeros(2))
    )()
    assert seen == [True, True, False]
    assert not compat.inside_eager_loop()
