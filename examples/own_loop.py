"""A network of one's own in an optax loop of one's own, with coded gradients.

python examples/own_loop.py                                  simulates the workers
python -m erasurehead_jax.run -n 6 examples/own_loop.py      six real ones
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import erasurehead_jax as eh

jax.config.update("jax_enable_x64", True)
images, digits = load_digits(return_X_y=True)
train_x, test_x, train_y, test_y = train_test_split(images / 16, digits, random_state=0)
network = eqx.nn.MLP(64, 10, width_size=32, depth=2, key=jax.random.key(0))
params, static = eqx.partition(network, eqx.is_inexact_array)


def loss(params, images, digits):
    logits = jax.vmap(eqx.combine(params, static))(images)
    return optax.softmax_cross_entropy_with_integer_labels(logits, digits).mean()


optimizer = optax.adam(0.01)
state = optimizer.init(params)
scheme, delay = eh.egc(workers=6, load=3), eh.Exponential(mean_s=0.01)
with eh.coded_gradient(loss, params, (train_x, train_y), scheme, delay=delay) as gradient:  # instead of jax.grad(loss)
    for _ in range(100):
        grads, info = gradient(params)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)

right = jnp.argmax(jax.vmap(eqx.combine(params, static))(test_x), axis=1) == test_y
print(f"loss {loss(params, train_x, train_y):.8f}, test accuracy {right.mean():.3f}, clock {info.clock_s:.2f} s")
