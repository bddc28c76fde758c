"""A debug mode: records the protocol's events in a run, and replays them without any other process.

python -m erasurehead_jax.train cluster.record_events=true ...
python -m erasurehead_jax.cluster.replay DIR [--round N]
"""

import argparse
import contextlib
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

from erasurehead_jax.cluster.protocol import Decision, Event, Fail, Journal, Protocol, Update, Wait
from erasurehead_jax.errors import ConfigError, Status
from erasurehead_jax.job import build_sampling, build_scheme
from erasurehead_jax.rundir.files import EVENTS, SUMMARY, storing


class Replayed(NamedTuple):
    """An event, with the recorded and the replayed decision in words."""

    round: int
    event: Event
    recorded: str
    now: str


@contextlib.contextmanager
def recording(run_dir: Path) -> Iterator[Journal]:
    """A journal that appends every event and decision to events.jsonl. Raises StorageFailed if it cannot be written."""
    with storing(run_dir):
        file = (run_dir / EVENTS).open("a")

    def write(event: Event, decision: Decision) -> None:
        with storing(run_dir):
            file.write(json.dumps([*event, describe(decision)]) + "\n")

    try:
        yield write
    finally:
        with storing(run_dir):
            file.close()


def describe(decision: Decision) -> str:
    """The decision in words."""
    match decision:
        case Wait(until_s):
            return "wait" if math.isinf(until_s) else f"wait until {until_s:.6f}"
        case Update(got):
            return f"update with messages {np.flatnonzero(got).tolist()}"
        case Fail(reason):
            return f"fail: {reason}"
    return "proceed"


def replay(run_dir: Path) -> Iterator[Replayed]:
    """Replays the events of a run. Raises ConfigError if none were recorded."""
    try:
        config = yaml.safe_load((run_dir / ".hydra" / "config.yaml").read_text())
        lines = (run_dir / EVENTS).read_text().splitlines()
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: {error.strerror}; only a run with cluster.record_events=true can be replayed"
        ) from None
    scheme = build_scheme(config)
    sampling = build_sampling(config, json.loads((run_dir / SUMMARY).read_text())["train_rows"])
    protocol = Protocol(scheme, config["late"], config["cluster"]["on_loss"], sampling=sampling)
    for line in lines:
        name, content, t, recorded = json.loads(line)
        if name == "restored":
            rounds, late, faulty, losses = content
            protocol.restore(rounds, np.array(late), np.array(faulty), [tuple(loss) for loss in losses])
            continue
        if name == "arrived":
            content = [[(round_, message) for round_, message in content[0]]]
        decision = getattr(protocol, name)(*content, t)
        yield Replayed(protocol.round, Event(name, content, t), recorded, describe(decision))


def command() -> None:
    """Prints the events with their decisions; status 1 if any decision differs from the recorded one."""
    parser = argparse.ArgumentParser(prog="erasurehead_jax.cluster.replay", description="Replay a run's protocol.")
    parser.add_argument("run_dir", type=Path, metavar="DIR")
    parser.add_argument("--round", type=int, help="print this round only")
    arguments = parser.parse_args()
    differing = 0
    for round_, event, recorded, now in replay(arguments.run_dir):
        differs = recorded != now
        differing += differs
        if arguments.round in (None, round_):
            happened = " ".join([event.name, *map(str, event.content)])
            print(f"round {round_}  {event.t:12.6f} s  {happened}: {now}" + f"  (recorded: {recorded})" * differs)
    print(f"{differing} decisions differ from the recorded ones")
    sys.exit(Status.FAILED if differing else Status.OK)


def main() -> None:
    """The command."""
    from erasurehead_jax.hydra_app import run_command  # late: the master records without Hydra

    run_command(command)


if __name__ == "__main__":
    main()
