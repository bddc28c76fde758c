"""Several hosts, which are network namespaces with their own links that the hostfile launcher reaches by an agent."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness import LIMIT_S, TESTS, Finished, Live, command, execute, train

import erasurehead_jax
from erasurehead_jax.cluster.hosts import require_alike
from erasurehead_jax.errors import ConfigError

NET = "10.77.0"
NAMES = ("eh-1", "eh-2", "eh-3")
WIDE = ("data.rows=1003", "data.fields=20", "data.categories=200")  # 16 kB a model: half a second on the slow link
SIX = ("cluster=hostfile", "workers=6", "load=2", "wait_for=3", "optimizer.step_size=2", "tracking=none", *WIDE)
SLOW_LINK = ("tbf", "rate", "256kbit", "burst", "4kb", "latency", "5s")
SLOW_UPLINK = ("tbf", "rate", "8mbit", "burst", "16kb", "latency", "5s")


def sh(*line: str, check: bool = True) -> None:
    subprocess.run(line, check=check, capture_output=True, timeout=LIMIT_S)


def remove() -> None:
    for name in NAMES:
        sh("ip", "netns", "del", name, check=False)
    sh("ip", "link", "del", "eh-bridge", check=False)


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """A bridge, where this machine is 254, and three hosts on it."""
    if os.getuid() or not shutil.which("ip") or not shutil.which("tc"):
        pytest.skip("network namespaces need root, and iproute2")
    remove()
    try:
        sh("ip", "link", "add", "eh-bridge", "type", "bridge")
        sh("ip", "addr", "add", f"{NET}.254/24", "dev", "eh-bridge")
        sh("ip", "link", "set", "eh-bridge", "up")
        for i, name in enumerate(NAMES, 1):
            sh("ip", "netns", "add", name)
            sh("ip", "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name)
            sh("ip", "link", "set", name, "master", "eh-bridge", "up")
            sh("ip", "-n", name, "addr", "add", f"{NET}.{i}/24", "dev", "eth0")
            sh("ip", "-n", name, "link", "set", "eth0", "up")
            sh("ip", "-n", name, "link", "set", "lo", "up")
    except subprocess.CalledProcessError as error:
        remove()
        pytest.skip(f"no network namespaces here: {error.stderr.decode()}")
    yield
    remove()


@pytest.fixture
def hosts(network: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, ...]:
    """The overrides that put a master here and two workers on each of the three hosts."""
    hostfile = tmp_path / "hosts"
    hostfile.write_text("localhost slots=1\n" + "".join(f"{NET}.{i} slots=2\n" for i in (1, 2, 3)))
    monkeypatch.setenv("OMPI_MCA_btl_tcp_if_include", f"{NET}.0/24")
    monkeypatch.setenv("PRTE_MCA_prte_if_include", f"{NET}.0/24")
    monkeypatch.setenv("HOSTS_FOLDER", str(tmp_path))
    return (*SIX, f"cluster.hosts={hostfile}", f"cluster.agent={TESTS / 'agent.sh'}")


@pytest.mark.clusters
def test_a_throttled_link_slows_uncoded_only(hosts: tuple[str, ...], tmp_path: Path):
    """A multirun on the same ranks. The test does not measure time, but which host ends the rounds."""
    sh("ip", "netns", "exec", "eh-3", "tc", "qdisc", "add", "dev", "eth0", "root", *SLOW_LINK)
    try:
        line = command("-m", *hosts, "rounds=12", "scheme=uncoded,egc,erasurehead", "hydra.sweep.dir=sweep")
        done = execute(line, tmp_path, 2 * LIMIT_S)
    finally:
        sh("ip", "netns", "exec", "eh-3", "tc", "qdisc", "del", "dev", "eth0", "root")
    assert done.returncode == 0, done.stderr
    uncoded, egc, erasurehead = (Finished(0, "", "", path) for path in sorted((tmp_path / "sweep").glob("[0-9]*")))
    assert set(uncoded.history["last_host"]) == {"eh-3"}
    for run in (egc, erasurehead):
        assert run.history["last_host"].tolist().count("eh-3") < 6
        assert run.summary["clock_s"] < uncoded.summary["clock_s"] / 2
    assert set(egc.history["exact"]) == {1}
    with np.load(egc.run_dir / "arrivals.npz") as file:
        assert file["hosts"].tolist() == [*NAMES, *NAMES]
    assert egc.summary["telemetry"]["workers"]["host"] == [*NAMES, *NAMES]


@pytest.mark.clusters
def test_shorter_messages_win_on_slow_uplinks(hosts: tuple[str, ...], tmp_path: Path):
    """Both codes do without one worker. A gradient of 51 kB takes 0.1 s of a link, half of it half."""
    network = ("objective=mlp", "data.rows=1003", "data.fields=5", "data.categories=40", "rounds=20")
    for name in NAMES:
        sh("ip", "netns", "exec", name, "tc", "qdisc", "add", "dev", "eth0", "root", *SLOW_UPLINK)
    try:
        runs = {}
        for scheme, load in (("cyclic_mds", 2), ("communication_efficient", 3)):
            settings = (*hosts, *network, f"scheme={scheme}", f"load={load}", "hydra.run.dir=" + scheme)
            done = execute(command(*settings), tmp_path, 2 * LIMIT_S)
            assert done.returncode == 0, done.stderr
            runs[scheme] = Finished(0, "", "", tmp_path / scheme)
    finally:
        for name in NAMES:
            sh("ip", "netns", "exec", name, "tc", "qdisc", "del", "dev", "eth0", "root")
    whole, halves = (run.summary for run in runs.values())
    print({scheme: run.summary["clock_s"] / 20 for scheme, run in runs.items()}, "s a round")
    assert whole["final"]["train_loss"] == pytest.approx(halves["final"]["train_loss"], rel=1e-4)
    assert halves["clock_s"] < 0.75 * whole["clock_s"]


@pytest.mark.clusters
@pytest.mark.parametrize(("scheme", "status"), [("egc", 0), ("uncoded", 3)])
def test_a_host_is_cut_off(hosts: tuple[str, ...], tmp_path: Path, scheme: str, status: int):
    """Its blocks have copies elsewhere, so egc stays exact. Uncoded cannot continue, and ends with a checkpoint."""
    limits = ("cluster.heartbeat_s=1", "cluster.lost_s=3", "rounds=150", "delay=exponential", "delay.mean_s=0.03")
    with Live(tmp_path, *hosts, *limits, f"scheme={scheme}") as run:
        run.wait_for_rows(20)
        sh("ip", "link", "set", "eh-3", "down")
        try:
            finished = run.finish()
        finally:
            sh("ip", "link", "set", "eh-3", "up")
    assert finished.status == status, finished.err
    assert "worker 2 on eh-3 is lost" in finished.err and "worker 5 on eh-3 is lost" in finished.err
    assert {row["worker"] for row in finished.summary["lost_workers"]} == {2, 5}
    if scheme == "egc":
        assert len(finished.history) == 150 and set(finished.history["exact"]) == {1}
        assert set(finished.history["last_host"][-50:]) == {"eh-1", "eh-2"}
    else:
        assert "no more can arrive" in finished.err and list((run.run_dir / "checkpoint").glob("*.npz"))


@pytest.mark.clusters
def test_what_is_wrong_with_the_hosts_is_one_line(hosts: tuple[str, ...], tmp_path: Path):
    hostfile, package = tmp_path / "hosts", Path(erasurehead_jax.__file__).parent
    good = hostfile.read_text()

    def refused(*overrides: str) -> str:
        run = train(tmp_path, *hosts, "rounds=2", *overrides)
        shutil.rmtree(run.run_dir, ignore_errors=True)
        lines = [line for line in run.err.splitlines() if line.startswith("error: ")]
        assert run.status == 2 and len(lines) == 1 and "Traceback" not in run.err, run.err
        return lines[0]

    assert "cluster.hosts=nowhere: no such file" in refused("cluster.hosts=nowhere")
    assert "more ranks than slots" in refused("workers=8")
    hostfile.write_text(good.replace(f"{NET}.3", f"{NET}.99"))
    assert f"host {NET}.99 cannot be reached" in refused()

    hostfile.write_text(good)
    shutil.copytree(package, tmp_path / "other")
    (tmp_path / "other" / "errors.py").write_text((package / "errors.py").read_text() + "\n# changed\n")
    (tmp_path / "mounts-eh-2").write_text(f"mount --bind {tmp_path / 'other'} {package}\n")
    assert "the code of erasurehead-jax is" in (line := refused()) and "on eh-2" in line
    (tmp_path / "mounts-eh-2").unlink()

    hostfile.write_text("".join(f"{NET}.{i} slots=3\n" for i in (1, 2, 3)))
    (tmp_path / "mounts-eh-1").write_text(f"mount -t tmpfs none {tmp_path}\n")
    assert "rank 0 runs on eh-1, where it does not exist" in refused()


def test_versions_that_differ_are_named():
    reports = [{"host": "a", "versions": {"jax": "1", "mpi4py": "4"}}, {"host": "a", "versions": None}, None]
    require_alike([*reports, {"host": "b", "versions": {"jax": "1", "mpi4py": "4"}}])
    with pytest.raises(ConfigError, match="jax is 1 on a and 2 on b"):
        require_alike([*reports, {"host": "b", "versions": {"jax": "2", "mpi4py": "4"}}])


OWN_LOOP = """
import jax.numpy as jnp
import erasurehead_jax as eh

with eh.coded_gradient(lambda p, x: (p * x) ** 2, 1.0, (jnp.ones(12),), eh.egc(6, 3)) as gradient:
    print(*gradient(3.0))
"""


@pytest.mark.clusters
def test_a_loop_of_ones_own_on_several_hosts(hosts: tuple[str, ...], tmp_path: Path):
    hostfile, script = tmp_path / "hosts", tmp_path / "mine.py"
    script.write_text(OWN_LOOP)

    def run() -> tuple[int, str]:
        line = [sys.executable, "-m", "erasurehead_jax.run", "-n", "6", hosts[0], *hosts[-2:], str(script)]
        (tmp_path / "shared").mkdir(exist_ok=True)
        done = execute(line, tmp_path, TMPDIR=str(tmp_path / "shared"))
        return done.returncode, done.stdout + done.stderr

    status, said = run()
    assert status == 0 and said.startswith("6.0 Info(round=0, exact=True"), said
    (tmp_path / "mounts-eh-2").write_text(f"mount -t tmpfs none {tmp_path / 'shared'}\n")
    status, said = run()
    assert status == 2 and "does not exist on eh-2, where a worker is; set TMPDIR to a folder that all hosts" in said
    (tmp_path / "mounts-eh-2").unlink()
    hostfile.write_text("".join(f"{NET}.{i} slots=3\n" for i in (1, 2, 3)))
    status, said = run()
    assert status == 2 and said.startswith("error: -n: the script would run on eh-1, which is another host;"), said
