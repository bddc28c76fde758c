"""What turns a user's rows into features, long after training as well: fitted on the training rows, kept as JSON."""

import dataclasses
import json
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

from erasurehead_jax.data.features import AbstractFeatures
from erasurehead_jax.errors import ConfigError


@dataclasses.dataclass(frozen=True, eq=False)  # equality is identity: encoders are static to JAX
class AbstractEncoder(ABC):
    """A function from a user's rows to features, whose fields are all that was learned: numbers, texts and lists."""

    @abstractmethod
    def features(self, X: Any) -> AbstractFeatures:
        """The features of a table, an array or a sparse matrix. Raises ConfigError if its columns are others."""

    @abstractmethod
    def read(self, path: str | Path) -> Any:
        """The rows of a file, as `features` takes them. Raises ConfigError if it cannot be read."""

    @abstractmethod
    def blank(self) -> AbstractFeatures:
        """The features of one row, of zeros and first categories."""

    def save(self, path: str | Path) -> None:
        """Writes a JSON file, which cannot execute code."""
        content = {"kind": type(self).__name__} | dataclasses.asdict(self)
        Path(path).write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")


def load_encoder(path: str | Path) -> AbstractEncoder:
    """The encoder that `save` wrote. Raises ConfigError if it is missing or damaged."""
    from erasurehead_jax.data.arrays import ArrayEncoder
    from erasurehead_jax.data.svmlight import SparseEncoder
    from erasurehead_jax.data.table_encoder import TableEncoder

    kinds = {kind.__name__: kind for kind in (ArrayEncoder, SparseEncoder, TableEncoder)}
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return kinds[content.pop("kind")](**content)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: is not an encoder, or is damaged ({error})") from None
