"""A network of one's own on scikit-learn's digits, on four real workers that sleep at random.

python examples/network.py [simulate]
"""

import sys

import equinox as eqx
import jax
import optax
from sklearn.datasets import load_digits

import erasurehead_jax as eh


class Digits:
    """Two layers of equinox. What a script defines is sent to the ranks."""

    def init(self, key, dataset):
        network = eqx.nn.MLP(dataset.dim, len(dataset.classes), width_size=32, depth=1, key=key)
        params, self.static = eqx.partition(network, eqx.is_inexact_array)
        return params

    def predict(self, params, images):
        return jax.vmap(eqx.combine(params, self.static))(images)

    def loss(self, params, images, digit):
        return optax.softmax_cross_entropy_with_integer_labels(self.predict(params, images), digit)


if __name__ == "__main__":
    images, digits = load_digits(return_X_y=True)
    run = eh.train(
        eh.array_dataset(images / 16, digits),  # 64 pixels and a constant column
        eh.Model(model=Digits()),
        eh.erasurehead(workers=4, load=2, wait_for=2),
        delay=eh.Exponential(0.01),
        optimizer=optax.adam(0.01),
        rounds=60,
        batch=0.25,
        evaluate_every=10,
        backend=sys.argv[1] if len(sys.argv) > 1 else "mpi",
    )
    print(run.history[["round", "clock_s", "test_accuracy"]].dropna().to_string(index=False))
    print("first digits:", digits[:5], "predicted:", run.predict(images[:5] / 16))
