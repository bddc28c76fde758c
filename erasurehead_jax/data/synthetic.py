"""The built-in data set, which needs no download and has a known true model."""

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.data.dataset import Dataset, Rows
from erasurehead_jax.data.features import Dense, OneHot
from erasurehead_jax.errors import ConfigError, require_number, require_whole


def synthetic(
    rows: int = 24_000,
    fields: int = 20,
    categories: int = 1_000,
    task: Literal["classification", "regression"] = "classification",
    noise: float = 0.5,
    dense: bool = False,
    sort: bool = False,
    split_seed: int = 0,
) -> Dataset:
    """Categorical fields with Zipf-like frequencies and a constant, one-hot; a fifth of the rows is the test set.

    Category j of a field has probability proportional to 1/(j + 1). The true model is standard normal
    (`true_model`). For classification the target is +1 with probability sigmoid(z), where z are the true margins scaled
    to standard deviation 1/noise; for regression it is z/std(z) plus `noise` times a standard normal. With `dense`,
    there are `fields` standard normal columns instead of categories. With `sort`, the training rows are sorted by their
    first column or field, so that blocks differ, as when data stays where it was collected. Everything is a function
    of `split_seed`.

    Raises ConfigError for sizes below their minimum.
    """
    for name, value, least in (("rows", rows, 5), ("fields", fields, 1), ("categories", categories, 2)):
        require_whole(f"data.{name}", value, least)
    require_whole("data.split_seed", split_seed, 0)
    if task not in ("classification", "regression"):
        raise ConfigError(f"data.task={task}: must be classification or regression")
    require_number("data.noise", noise, above=0.0)
    rng = np.random.default_rng([split_seed, rows, fields, categories])
    if dense:
        x = true_model(fields + 1, split_seed)
        features = Dense(np.column_stack([rng.standard_normal((rows, fields)), np.ones(rows)]))
        z = features.matrix @ x
    else:
        x = true_model(fields * categories + 1, split_seed)
        features = OneHot(_zipf_index(rng, rows, fields, categories), len(x))
        z = x[features.index].sum(0)
    z = (z - z.mean()) / (z.std() or 1.0)  # a few rows may all be equal
    if task == "classification":
        target = np.where(rng.random(rows) < 1 / (1 + np.exp(-z / noise)), 1.0, -1.0)
    else:
        target = z + noise * rng.standard_normal(rows)
    everything, train_rows = Rows(features, target), rows - rows // 5
    train, test = everything.take(slice(train_rows)), everything.take(slice(train_rows, None))
    if sort:
        first = np.asarray(features.matrix[:, 0] if isinstance(features, Dense) else features.index[0])
        train = train.take(np.argsort(first[:train_rows], kind="stable"))
    return Dataset("synthetic", train, test)


def true_model(dim: int, split_seed: int) -> Float[np.ndarray, " d"]:
    """The model from which the targets are drawn, up to the scale given in `synthetic`."""
    return np.random.default_rng([split_seed, dim]).standard_normal(dim)


def _zipf_index(
    rng: np.random.Generator, rows: int, fields: int, categories: int
) -> Int[np.ndarray, "fields_and_constant rows"]:
    cumulative = np.cumsum(1 / np.arange(1, categories + 1))
    codes = np.searchsorted(cumulative / cumulative[-1], rng.random((fields, rows)))
    offsets = np.arange(fields)[:, None] * categories
    constant = np.full((1, rows), fields * categories)
    return np.concatenate([codes + offsets, constant]).astype(np.int32)
