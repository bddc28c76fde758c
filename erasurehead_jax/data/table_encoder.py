"""Columns of a table as features: numbers imputed and standardised, categories one-hot."""

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from erasurehead_jax.data.encoder import AbstractEncoder
from erasurehead_jax.data.features import AbstractFeatures, Dense, OneHot
from erasurehead_jax.data.features.mixed import Mixed
from erasurehead_jax.data.frames import category_names, column_numbers, read_frame
from erasurehead_jax.errors import ConfigError

Name = str | None  # of a category; None: missing
DIGITS = {"0": "False", "1": "True"}  # how another program may write them


@dataclasses.dataclass(frozen=True, eq=False)
class TableEncoder(AbstractEncoder):
    """What scikit-learn's SimpleImputer, StandardScaler and OrdinalEncoder learned from the training rows.

    A field has the categories listed (None: missing) and one more column for the `rare` and the unseen. Features are
    the numbers and a constant (Dense), then the fields (OneHot); without numbers, the constant is a field.
    """

    target: str
    dropped: list[str]
    numeric: list[str]
    medians: list[float]
    means: list[float]
    scales: list[float]
    categorical: list[str]
    categories: list[list[Name]]
    rare: list[list[Name]]

    def features(self, X: Any) -> AbstractFeatures:
        """The features of a pandas DataFrame, which may have the target and the dropped columns too.

        Warns of other columns, and of categories that training has never seen.
        """
        features, warned = self.encoded(X)
        for line in warned:
            warnings.warn(line, stacklevel=2)
        return features

    def encoded(self, X: Any) -> tuple[AbstractFeatures, list[str]]:
        """The features, and a line for whatever in this frame is unknown and not used."""
        frame = X.rename(columns=str)
        warned = [*self._other_columns(frame)]
        numbers = np.empty((len(frame), len(self.numeric)))
        for i, name in enumerate(self.numeric):
            column = column_numbers(frame[name], name)
            numbers[:, i] = np.where(np.isnan(column), self.medians[i], column)
        numbers = (numbers - np.array(self.means)) / np.array(self.scales)
        codes = np.zeros((len(self.categorical), len(frame)), np.int32)
        for i, (name, kept, rare) in enumerate(zip(self.categorical, self.categories, self.rare, strict=True)):
            codes[i], unseen = _codes(category_names(frame[name]), kept, rare)
            if unseen:
                warned.append(_unseen(name, unseen, len(frame), [*kept, *rare]))
        return self._joined(numbers, codes), warned

    def read(self, path: str | Path) -> Any:
        """The table in a CSV or Parquet file, as a DataFrame."""
        return read_frame(path)

    def blank(self) -> AbstractFeatures:
        return self._joined(np.zeros((1, len(self.numeric))), np.zeros((len(self.categorical), 1), np.int32))

    def _joined(self, numbers: Float[np.ndarray, "m numeric"], codes: Int[np.ndarray, "fields m"]) -> AbstractFeatures:
        """Numbers and categories with a constant, each in the layout that suits it."""
        sizes = [len(kept) + 1 for kept in self.categories]
        index = codes + np.cumsum([0, *sizes[:-1]], dtype=np.int32)[: len(sizes), None]
        constant = np.ones((len(numbers), 1))
        if not sizes:
            return Dense(np.hstack([numbers, constant]))
        if not self.numeric:
            last = np.full((1, len(numbers)), sum(sizes), np.int32)
            return OneHot(np.concatenate([index, last]), sum(sizes) + 1)
        return Mixed((Dense(np.hstack([numbers, constant])), OneHot(index, sum(sizes))))

    def _other_columns(self, frame: Any) -> Iterator[str]:
        """A line about columns that training did not have. Raises ConfigError if one that it had is missing."""
        needed = [*self.numeric, *self.categorical]
        if missing := [name for name in needed if name not in frame.columns]:
            raise ConfigError(f"column {listed(missing)}: not in the table; must have the columns of the training data")
        known = {*needed, *self.dropped, self.target}
        if extra := [name for name in frame.columns if name not in known]:
            yield f"column {listed(extra)}: not in the training data; it is ignored"


class Roles(NamedTuple):
    """The names of the columns by what they are used for."""

    dropped: list[str]
    numeric: list[str]
    categorical: list[str]


def fit_table(frame: Any, target: str, roles: Roles, least: int) -> TableEncoder:
    """The encoder of these training rows, a DataFrame. Categories with fewer than `least` rows are pooled."""
    from sklearn.impute import SimpleImputer  # late: slow to import, and ranks read a prepared data set
    from sklearn.preprocessing import OrdinalEncoder, StandardScaler

    dropped, numeric, categorical = roles
    medians, means, scales = np.zeros((3, len(numeric)))
    if numeric:
        numbers = np.column_stack([column_numbers(frame[name], name) for name in numeric])
        imputer, scaler = SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler()
        scaler.fit(imputer.fit_transform(numbers))
        medians, means, scales = imputer.statistics_, scaler.mean_, scaler.scale_
    kept, pooled = [], []
    if categorical:
        names = np.column_stack([category_names(frame[name]) for name in categorical])
        unknown = {"handle_unknown": "use_encoded_value", "unknown_value": -1}
        encoder = OrdinalEncoder(min_frequency=least, **unknown).fit(names)
        for found, rare in zip(encoder.categories_, encoder.infrequent_categories_, strict=True):
            few = set() if rare is None else set(rare)
            kept.append([name for name in found if name not in few])
            pooled.append([name for name in found if name in few])
    medians, means, scales = (np.asarray(each, float).tolist() for each in (medians, means, scales))
    return TableEncoder(target, dropped, numeric, medians, means, scales, categorical, kept, pooled)


def listed(names: Sequence[Name]) -> str:
    """The first names, for a message."""
    shown = ["missing" if name is None else name for name in names[:5]]
    return ", ".join(shown) + (", ..." if len(names) > 5 else "")


def _codes(names: np.ndarray, kept: list[Name], rare: list[Name]) -> tuple[Int[np.ndarray, " m"], dict[Name, int]]:
    """The place of each name among those kept; the place after the last one for others, with their number of rows."""
    import pandas as pd

    codes, values = pd.factorize(names, use_na_sentinel=False)
    found = [None if pd.isna(value) else value for value in values]
    place = {name: i for i, name in enumerate(kept)} | dict.fromkeys(rare, len(kept))
    if place.keys() <= {"False", "True", None}:
        place |= {digit: place[word] for digit, word in DIGITS.items() if word in place}
    counts = np.bincount(codes, minlength=len(found))
    unseen = {name: int(count) for name, count in zip(found, counts, strict=True) if name not in place}
    return np.array([place.get(name, len(kept)) for name in found], np.int32)[codes], unseen


def _unseen(column: str, unseen: dict[Name, int], rows: int, seen: Sequence[Name]) -> str:
    names = sorted(unseen, key=str)
    return (
        f"column {column}: {sum(unseen.values())} of {rows} values ({listed(names)}) were not seen in training "
        f"({listed(seen)}); they count as unknown"
    )
