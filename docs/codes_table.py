"""The tables of codes.md: `make codes-table`."""
# ruff: noqa: RUF001 - minus signs, crosses and script letters, as in the page

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from erasurehead_jax.codes import AbstractCode, CommunicationEfficient
from erasurehead_jax.codes.communication_efficient import CONSTRUCTIONS
from erasurehead_jax.decoding import ByLeastSquares
from erasurehead_jax.scheme import Scheme
from erasurehead_jax.schemes import named_scheme
from erasurehead_jax.studies.decode import Sampled, sampled
from erasurehead_jax.studies.worst_case import worst_case

PAGE = Path(__file__).with_name("codes.md")
BEGIN, END = "<!-- codes_table.py writes {} from here -->\n", "<!-- to here -->\n"
LATE, SETS, SEED = 15, 500, 0
HEADER = (
    "scheme", "code", "*c*", "decodes exactly", "mean error", "worst error", "least squares", "amplification",
    "cost of decoding", "source", "take it when",
)  # fmt: skip


class Words(NamedTuple):
    """What cannot be computed."""

    exact: str
    cost: str
    source: str
    when: str


class Sizes(NamedTuple):
    """Blocks, workers and load."""

    blocks: int = 30
    workers: int = 30
    load: int = 3


# Nearest to 30 blocks, 30 workers, load 3; for the graph code, also as many copies of a block.
SIZES = {
    "bibd": Sizes(31, 31, 6),
    "communication_efficient": Sizes(load=5),
    "cyclic_mds": Sizes(load=4),
    "graph_code": Sizes(20),
    "partial_cyclic": Sizes(60),
    "partial_replication": Sizes(60),
    "reed_solomon": Sizes(load=4),
}

ANY = "any *c* − 1 late"
EQUATIONS = "an equation for each late worker; least squares if too many are late"
WORDS = {
    "uncoded": Words("nobody late", "a sum", "Chen et al. 2016", "nobody is slow; the yardstick for all others"),
    "ignore_stragglers": Words(
        "nobody late",
        "a sum",
        "Chen et al. 2016",
        "the slow workers change from round to round, and blocks resemble each other",
    ),
    "egc": Words(
        "any ℓ − 1 late, and more if every group has an answer",
        "a sum",
        "Tandon et al. 2017",
        "the gradient must be exact; the first code to try",
    ),
    "erasurehead": Words(
        "as `egc`", "a sum", "Wang et al. 2019", "the same workers stay slow, and an approximation will do"
    ),
    "egc_cyclic": Words(ANY, EQUATIONS, "Tandon et al. 2017", "exact, for sizes that `egc` and `cyclic_mds` refuse"),
    "cyclic_mds": Words(ANY, EQUATIONS, "Raviv et al. 2018", "exact, if the load does not divide the blocks"),
    "reed_solomon": Words(
        ANY,
        EQUATIONS,
        "Halbawi et al. 2018",
        "as `cyclic_mds`; more accurate if load and workers have a common divisor",
    ),
    "communication_efficient": Words(
        "any *c* − 2 late; messages half as long",
        "an equation for each late worker",
        "Ye, Abbe 2018",
        "exact, dense gradients, and a slow network",
    ),
    "bernoulli": Words(
        "never for certain", "one weight for all", "Charles et al. 2017", "theory needs independent entries"
    ),
    "block_model": Words(
        "never for certain",
        "one weight for all",
        "Charles, Papailiopoulos 2018",
        "you study what lies between `bernoulli` and `egc`",
    ),
    "coupon_collector": Words(
        "every batch answered; never, if nobody drew one", "a sum", "Li et al. 2018", "workers choose without a plan"
    ),
    "stochastic": Words(
        "never; unbiased", "fixed weights", "Bitar et al. 2020", "some blocks matter more, or bias is worse than noise"
    ),
    "random_regular": Words(
        "nobody late", "one weight for all", "Raviv et al. 2018", "the worst sets matter; decode by least squares"
    ),
    "expander": Words(
        "nobody late", "one weight for all", "Raviv et al. 2018", "as `random_regular`, with a better graph"
    ),
    "graph_code": Words(
        "every connected part of the answers' graph has an odd cycle",
        "proportional to *k*",
        "Glasgow, Wootters 2020",
        "two blocks a worker must do, and the worst sets matter",
    ),
    "bibd": Words(
        "nobody late",
        "one weight for all",
        "Kadhe et al. 2019",
        "no set may be worse than another, and a design of your sizes exists",
    ),
    "partial_replication": Words(
        "every first message, and a second one from every group",
        "a sum",
        "Tandon et al. 2017",
        "stragglers are slow, but always answer",
    ),
    "partial_cyclic": Words(
        "every first message, and all but any *c* − 2 second ones",
        EQUATIONS,
        "Tandon et al. 2017",
        "as `partial_replication`, for any load",
    ),
    "custom": Words("what *G* allows", "least squares", "you", "you have a matrix of your own"),
}


def row(name: str) -> list[str]:
    """The cells of a scheme."""
    words = WORDS[name]
    if name == "custom":  # its matrix is the user's
        return [f"`{name}`", "`Custom`", "any", words.exact, *["–"] * 4, *words[1:]]
    sizes = SIZES.get(name, Sizes())
    scheme = named_scheme(name, sizes.workers, sizes.load, sizes.workers - LATE, sizes.blocks)
    late, few = sampled(scheme, LATE, SETS, SEED), sampled(scheme, 2, SETS, SEED)
    return [
        f"`{name}`",
        f"`{type(scheme.code).__name__}`",
        _load(scheme.code, sizes),
        words.exact,
        _number(late.error.mean()),
        _number(_worst(scheme)),
        _least_squares(scheme, late),
        f"{_number(np.median(few.amplification))}; {_number(few.amplification.max())}",
        *words[1:],
    ]


def table() -> str:
    """All rows, as Markdown."""
    rows = [HEADER, ["---"] * len(HEADER), *(row(name) for name in WORDS)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _load(code: AbstractCode, sizes: Sizes) -> str:
    held = code.holds.sum(0)
    load = str(code.load) if (held == code.load).all() else f"{_number(held.mean())}, at most {code.load}"
    if sizes.workers != 30:
        return f"{load} (*n* = *k* = {sizes.workers})"
    return load if sizes.blocks == 30 else f"{load} (*n* = {sizes.blocks})"


def _least_squares(scheme: Scheme, late: Sampled) -> str:
    if not scheme.code.approximates:
        return "–"
    least = Scheme(scheme.code, scheme.stop, ByLeastSquares())
    return f"{_number(late.optimal.mean())}; {_number(_worst(least))}"


def _worst(scheme: Scheme) -> float:
    error = lambda heard: scheme.decode_error(scheme.weights(heard[scheme.code.owner]))
    return worst_case(error, scheme.code.holds, LATE, seed=SEED).error


def _number(value: float) -> str:
    """Two significant digits."""
    rounded = float(f"{value:.2g}")
    if rounded >= 1e6:
        mantissa, exponent = f"{value:.0e}".split("e")
        return f"{mantissa} × 10<sup>{int(exponent)}</sup>"
    return "0" if rounded < 1e-9 else f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def constructions() -> str:
    """Amplifications of communication-efficient codes with two parts: random sets, and neighbours late."""
    sizes = [(10, 5), (20, 5), (30, 5), (30, 11), (100, 5)]
    rows = [["construction", *(f"{k} workers, *c* = {load}" for k, load in sizes)], ["---"] * (1 + len(sizes))]
    rows += [[f"`{name}`", *(_amplifications(name, *size) for size in sizes)] for name in CONSTRUCTIONS]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in rows)


def _amplifications(construction: str, workers: int, load: int) -> str:
    code = CommunicationEfficient(workers, workers, load, construction=construction)
    norm, late = np.linalg.norm(code.coefficients.reshape(-1, workers), 2), load - code.parts
    rng = np.random.default_rng(SEED)
    sets = [rng.permutation(workers) >= late for _ in range(SETS)] + [np.arange(workers) >= late]
    found = [np.linalg.norm(np.asarray(code.weights(got)), 2) * norm for got in sets]
    return f"{_number(float(np.median(found)))}; {_number(float(found[-1]))}"


TABLES = {"codes": table, "constructions": constructions}


def rewritten(page: str) -> str:
    """The page with all tables computed anew."""
    for name, make in TABLES.items():
        begin = BEGIN.format(name)
        pattern = f"(?<={re.escape(begin)}).*?(?={re.escape(END)})"
        page, written = re.subn(pattern, lambda _, make=make: make(), page, count=1, flags=re.DOTALL)
        if written != 1:
            raise SystemExit(f"{PAGE}: must contain {begin.strip()}, and then {END.strip()}")
    return page


def main() -> None:
    PAGE.write_text(rewritten(PAGE.read_text()))


if __name__ == "__main__":
    main()
