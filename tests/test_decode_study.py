"""`mode=decode`: decode errors of codes without training."""

import itertools
import json
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from harness import execute

from erasurehead_jax import AbstractCode, Count, Exponential, FractionalRepetition, Scheme
from erasurehead_jax.codes import BIBD, Bernoulli, GraphCode, RegularGraph
from erasurehead_jax.decoding import ByCode, ByLeastSquares
from erasurehead_jax.simulation.rounds import Point
from erasurehead_jax.studies.decode import decode_table, examined, least_worst_error, recommend_codes
from erasurehead_jax.studies.grid import GridPoint
from erasurehead_jax.studies.worst_case import EXHAUSTIVE, group_attack, worst_case


def point(name: str, code: AbstractCode, heard: int, decode: ByCode | ByLeastSquares | None = None) -> GridPoint:
    scheme = Scheme(code, Count(heard), decode or ByCode())
    return GridPoint(
        {"scheme": name, "load": 2, "wait_for": heard, "late": "cancel"}, Point(scheme, Exponential(1.0), "cancel")
    )


def error_of(code: AbstractCode):
    return lambda heard: float(((code.G @ np.asarray(code.weights(heard)) - 1) ** 2).sum())


@pytest.mark.parametrize("code", [FractionalRepetition(9, 9, 3), GraphCode(6, 9), BIBD(7, 7, 3)])
def test_few_sets_are_all_tried(code: AbstractCode):
    k, error = code.workers, error_of(code)
    for stragglers in range(k + 1):
        worst = worst_case(error, code.holds, stragglers)
        assert worst.certain and worst.stopped.sum() == stragglers
        sets = itertools.combinations(range(k), stragglers)
        assert worst.error == max(error(~np.isin(np.arange(k), some)) for some in sets) == error(~worst.stopped)


@pytest.mark.parametrize("stragglers", [7, 10, 15])
def test_the_search_stops_whole_groups(stragglers: int):
    """Every stopped worker of a whole group erases a block (three workers hold the same three)."""
    code = FractionalRepetition(30, 30, 3)
    assert math.comb(30, stragglers) > EXHAUSTIVE
    worst = worst_case(error_of(code), code.holds, stragglers)
    assert not worst.certain and worst.error == 3 * (stragglers // 3)
    assert worst.stopped.sum() == stragglers


def test_the_search_goes_on_from_fewer_stragglers():
    code, error = RegularGraph(24, 24, 3), error_of(RegularGraph(24, 24, 3))
    fewer = worst_case(error, code.holds, 6)
    more = worst_case(error, code.holds, 7, fewer.stopped)
    assert more.error >= fewer.error and more.stopped.sum() == 7


def test_an_attack_on_groups_erases_as_many_blocks_as_possible():
    code = GraphCode(10, 15)  # three copies of a block
    for stragglers in range(16):
        stopped = group_attack(code.holds, stragglers)
        assert stopped.sum() == stragglers
        erased = (~(code.holds & ~stopped).any(1)).sum()
        assert erased >= least_worst_error(Scheme(code, Count(1), ByCode()), stragglers) == stragglers // 3


def test_the_table_agrees_with_closed_forms_and_bounds():
    codes = {"fractional": FractionalRepetition(8, 8, 2), "graph": RegularGraph(8, 8, 2), "coins": Bernoulli(8, 8, 2)}
    points = [point(name, code, 5) for name, code in codes.items()]
    points.append(point("graph, optimal", codes["graph"], 5, ByLeastSquares()))
    codes_once = examined([*points, point("graph", codes["graph"], 6)])
    assert [(each.name, each.wait_for) for each in codes_once][1] == ("graph c=2", {5, 6})
    table = decode_table(codes_once, [5], sets=200, seed=0)
    assert len(table) == 4 * 8
    known = table.query("closed_form.notna()")
    assert set(known["scheme"]) == {"fractional", "graph"}
    assert known.query("abs(mean_error - closed_form) > 4 * sem_error + 1e-9").empty
    assert table.query("optimal_error > mean_error + 1e-9 or mean_error > worst_error + 1e-9").empty
    assert table.query("least_worst_error > worst_error + 1e-9").empty
    assert table.query("least_mean_error > mean_error + 4 * sem_error + 1e-9").empty
    (advice,) = recommend_codes(codes_once, table, [5, 11])  # nobody can wait for 11 of 8
    assert advice.least_mean == "fractional c=2" and advice.stragglers == 3
    at_worst = table.query("stragglers == 3").set_index("scheme")["worst_error"].to_dict()
    assert at_worst[advice.least_worst.removesuffix(" c=2")] == min(at_worst.values())


def test_the_command_writes_table_figure_and_advice(tmp_path: Path):
    settings = ["grid.scheme=[egc,random_regular,uncoded]", "workers=6", "load=2", "wait_for=4", "hydra.run.dir=run"]
    done = execute([sys.executable, "-m", "erasurehead_jax.whatif", "mode=decode", *settings], tmp_path)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "run" / "decode.csv")
    assert len(table) == 3 * 6 and set(table["worst_is"]) == {"exhaustive"}
    advice = (tmp_path / "run" / "recommendation.txt").read_text()
    assert advice.startswith("c=2, 2 of 6 workers late: smallest mean error egc c=2") and advice.strip() in done.stdout
    (told,) = json.loads((tmp_path / "run" / "summary.json").read_text())["recommendations"]
    assert told["least_mean"] == "egc c=2"
    assert (tmp_path / "run" / "decode.png").stat().st_size > 10_000
