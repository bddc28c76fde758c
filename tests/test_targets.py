"""When a target is reached, and the kind of a recorded run; neither needs JAX."""

import subprocess
import sys

import numpy as np
import pytest
import yaml

from erasurehead_jax.rundir.kinds import Kind, kind_of_run
from erasurehead_jax.rundir.targets import SLACK, reached, time_to
from erasurehead_jax.settings import CONFIG_DIR

STOPS = "erasurehead_jax.stopping."


@pytest.mark.parametrize("target", [0.8, -0.8])
@pytest.mark.parametrize("more_is_better", [True, False])
def test_as_good_as_the_target_to_within_the_slack(more_is_better: bool, target: float):
    worse = -1 if more_is_better else 1
    offs = worse * np.array([-1, 0, 0.99, 1.01, 100]) * SLACK
    assert reached(target + 0.8 * offs, target, more_is_better).tolist() == [True, True, True, False, False]
    assert not reached(np.nan, target, more_is_better)


@pytest.mark.parametrize("sign", [1, -1])
def test_the_first_round_counts_even_if_a_later_one_is_worse(sign: int):
    values = 5 + sign * np.array([[np.nan, 0, 2, 1, 3], [0, 0, 0, 0, np.nan], [3, 0, 0, 0, 0]])
    clock_s = np.arange(15.0).reshape(3, 5)
    assert time_to(values, clock_s, 5 + 2 * sign, more_is_better=sign > 0).tolist() == [2.0, np.inf, 10.0]


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("uncoded", "Uncoded", Kind.UNCODED),
        ("ignore_stragglers", "Uncoded", Kind.IGNORE_STRAGGLERS),
        ("egc", "FractionalRepetition", Kind.EXACT),
        ("egc_cyclic", "CyclicRepetition", Kind.EXACT),
        ("erasurehead", "FractionalRepetition", Kind.ERASUREHEAD),
    ],
)
def test_kinds_of_the_schemes_of_configs(name: str, code: str, kind: Kind):
    with open(f"{CONFIG_DIR}/scheme/{name}.yaml") as file:
        assert kind_of_run(code, yaml.safe_load(file)) == kind


@pytest.mark.parametrize(
    ("code", "rules"),
    [("Uncoded", ["Deadline"]), ("FractionalRepetition", ["Count"]), ("CyclicRepetition", ["Decodable", "Count"])],
)
def test_other_combinations_are_not_schemes_of_the_paper(code: str, rules: list[str]):
    stop = {"_target_": STOPS + "AnyOf", "rules": [{"_target_": STOPS + rule} for rule in rules]}
    assert kind_of_run(code, {"stop": stop}) == Kind.OTHER
    assert kind_of_run(code, {}) == Kind.OTHER


def test_a_report_does_not_import_jax():
    script = "import sys, erasurehead_jax.report; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
