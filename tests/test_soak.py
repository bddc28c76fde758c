"""Long tests: `make soak`."""

import random
import signal
import time
from pathlib import Path

import pytest
from harness import Finished, Live, ranks_of
from test_survival import (
    GROUPS,
    SLEEPS,
    TWELVE,
    check_killed,
    kill_and_resume,
    killed_at_random,
    ordered,
    undisturbed,
    victims,
)

pytestmark = [pytest.mark.mpi, pytest.mark.soak]
__all__ = ["ordered", "undisturbed"]  # fixtures

ROUNDS, SETTLED = 10_000, 1_000  # buffers and caches are filled after the second
SAMPLES = 25


@pytest.mark.parametrize("seed", range(20))
def test_killed_workers_are_not_missed(tmp_path: Path, undisturbed: Finished, seed: int):
    scheme = ("egc", "erasurehead")[seed % 2]
    run, lost = killed_at_random(tmp_path, random.Random(100 + seed), scheme)
    check_killed(run, lost, undisturbed if scheme == "egc" else None)


@pytest.mark.parametrize("seed", range(20))
def test_a_killed_master_is_resumed_bit_for_bit(tmp_path: Path, ordered, seed: int):
    rng = random.Random(seed)
    optimizer = ("gd", "nesterov", "agd")[seed % 3]
    kill_and_resume(tmp_path, optimizer, rng.randrange(20), ordered(optimizer), pause_s=rng.uniform(0, 0.1))


def test_memory_and_open_files_stay_flat(tmp_path: Path):
    """Ten thousand rounds with random delays, kills and freezes."""
    rng = random.Random(0)
    lost = victims(rng, 6)
    kill_at = dict(zip(sorted(rng.sample(range(SETTLED, ROUNDS - 500), len(lost))), lost, strict=True))
    with Live(tmp_path, *TWELVE, *SLEEPS, "scheme=erasurehead", f"rounds={ROUNDS}", "delay.mean_s=0.002") as run:
        run.wait_for_rows(SETTLED)
        before = {rank: measured(pid) for rank, pid in ranks_of(run.run_dir).items()}
        frozen = None
        for at in sorted({*kill_at, *range(SETTLED, ROUNDS - 300, 400)}):
            run.wait_for_rows(at)
            if frozen is not None:
                run.send(frozen, signal.SIGCONT)
            alive = [rank - 1 for rank in ranks_of(run.run_dir) if rank > 0]
            if at in kill_at:
                run.send(kill_at[at], signal.SIGKILL)
                alive.remove(kill_at[at])
            frozen = rng.choice(
                [j for group in GROUPS for j in group if j in alive and len(set(group) & set(alive)) > 1]
            )
            run.send(frozen, signal.SIGSTOP)
        if frozen is not None:
            run.send(frozen, signal.SIGCONT)
        run.wait_for_rows(ROUNDS - 100)
        after = {rank: measured(pid) for rank, pid in ranks_of(run.run_dir).items()}
        finished = run.finish()
    assert finished.status == 0, finished.err
    assert len(finished.history) == ROUNDS and len(finished.summary["lost_workers"]) == len(lost)
    grown = {rank: after[rank][0] / before[rank][0] - 1 for rank in after}
    print("resident memory grew by", {rank: f"{share:.2%}" for rank, share in sorted(grown.items())})
    assert len(after) == 13 - len(lost) and max(grown.values()) < 0.02, grown
    assert {rank: after[rank][1] for rank in after} == {rank: before[rank][1] for rank in after}


def measured(pid: int) -> tuple[int, int]:
    """Resident pages and open files; the minimum of several looks, because a checkpoint briefly opens files."""
    pages, files = [], []
    for _ in range(SAMPLES):
        pages.append(int(Path(f"/proc/{pid}/statm").read_text().split()[1]))
        files.append(len(list(Path(f"/proc/{pid}/fd").iterdir())))
        time.sleep(0.002)
    return min(pages), min(files)
