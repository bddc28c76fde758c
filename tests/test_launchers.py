"""The scripts of launchers/: dry runs, the validity of the AWS ParallelCluster configuration, and shellcheck."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from harness import LIMIT_S

ROOT = Path(__file__).parent.parent
EC2 = ROOT / "launchers" / "ec2"
MINE = {"SUBNET": "subnet-0123456789abcdef0", "KEY": "me", "MY_IP": "192.0.2.7", "ERASUREHEAD_DATA": "/data"}
USD = {"HEAD_USD": "0.0416", "MASTER_USD": "1.68"}
PAPER = {
    "MASTER": "c3.8xlarge",
    "WORKER": "m1.small",
    "PLACEMENT": "false",
    "ONE_THREAD": "false",
    "WORKER_USD": "0.044",
    **USD,
}
VALIDATE = """
import os, sys, yaml
os.environ["AWS_DEFAULT_REGION"] = "us-east-1"
from pcluster.schemas.cluster_schema import ClusterSchema
cluster = ClusterSchema(cluster_name="erasurehead").load(yaml.safe_load(sys.stdin))
print([(each.name, each.max_count) for each in cluster.scheduling.queues[0].compute_resources])
"""


def script(name: str, *arguments: str, status: int = 0, more: dict[str, str] | None = None) -> str:
    """Runs one of launchers/ec2 on a machine without pcluster and aws; returns its output."""
    env = {"PATH": os.environ["PATH"], **MINE, **(more or {})}
    env = {name: value for name, value in env.items() if value}
    line = [EC2 / name, *arguments]
    done = subprocess.run(line, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def commands(output: str) -> list[str]:
    return [line[2:] for line in output.splitlines() if line.startswith("+ ")]


def configuration(more: dict[str, str] | None = None) -> str:
    return "\n".join(
        line[4:] for line in script("up.sh", "--dry-run", more=more).splitlines() if line.startswith("  | ")
    )


def test_a_dry_run_prints_every_command_and_runs_none():
    up = script("up.sh", "--dry-run")
    assert [line.split(" --")[0] for line in commands(up)] == [
        "pcluster create-cluster",
        "aws cloudformation wait stack-create-complete",
        "ssh -o StrictHostKeyChecking=accept-new ubuntu@HEAD-ADDRESS sudo\\ shutdown\\ -h\\ +480",  # LIFETIME_H=8
    ]
    assert [line.split(" ")[0] for line in commands(script("push.sh", "--dry-run"))] == ["rsync", "rsync", "ssh"]
    assert [line.split(" ")[0] for line in commands(script("fetch.sh", "--dry-run"))] == ["rsync"]
    assert commands(script("down.sh", "--dry-run"))[0].startswith("pcluster delete-cluster")


def test_the_costs_come_first_and_somebody_must_agree():
    output = script("up.sh", status=1)
    assert "$3.26 an hour with all nodes" in output and "$26.09 if they run for all of LIFETIME_H=8 hours" in output
    assert commands(output) == []


def test_missing_tools_and_settings_are_reported():
    assert "a public subnet" in script("up.sh", "--dry-run", status=1, more={"SUBNET": ""})
    assert "$ an hour of a m6i.large in eu-west-1" in script(
        "up.sh", "--dry-run", status=1, more={"REGION": "eu-west-1", **USD}
    )
    assert "usage:" in script("down.sh", "--dryrun", status=2)


def test_the_cluster_is_closed_and_ends_by_itself():
    settings = yaml.safe_load(configuration())
    assert settings["HeadNode"]["Ssh"]["AllowedIps"] == "192.0.2.7/32"
    assert settings["HeadNode"]["Imds"]["Secured"] and settings["HeadNode"]["LocalStorage"]["RootVolume"]["Encrypted"]
    assert settings["Scheduling"]["SlurmSettings"]["ScaledownIdletime"] == 5
    (queue,) = settings["Scheduling"]["SlurmQueues"]
    assert queue["CapacityType"] == "SPOT" and queue["Networking"]["PlacementGroup"]["Enabled"]
    assert queue["CustomSlurmSettings"]["MaxTime"] == "8:00:00"
    assert all(resource["MinCount"] == 0 for resource in queue["ComputeResources"])


@pytest.fixture(scope="module")
def pcluster() -> Path:
    """Python with aws-parallelcluster in its own environment, because its requirements conflict with ours."""
    folder = ROOT / ".venv" / "parallelcluster"
    if not (folder / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True, timeout=LIMIT_S)
        install = [folder / "bin" / "pip", "install", "--quiet", "aws-parallelcluster==3.16.1"]
        done = subprocess.run(install, capture_output=True, text=True, timeout=5 * LIMIT_S)
        if done.returncode:
            pytest.skip(f"aws-parallelcluster cannot be installed here: {done.stderr.splitlines()[-1]}")
        (folder / "ready").touch()
    return folder / "bin" / "python"


@pytest.mark.clusters
@pytest.mark.parametrize("more", [{}, {"CAPACITY": "ONDEMAND", **PAPER}], ids=["today", "paper"])
def test_parallelcluster_takes_the_configuration(pcluster: Path, more: dict[str, str]):
    line = [pcluster, "-c", VALIDATE]
    done = subprocess.run(line, input=configuration(more), capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[('master', 1), ('worker', 30)]"


def test_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed")
    scripts = [*ROOT.glob("launchers/**/*.sh"), *ROOT.glob("launchers/**/*.sbatch"), *ROOT.glob("tests/*.sh")]
    assert len(scripts) >= 9
    done = subprocess.run(["shellcheck", "-x", "-P", "SCRIPTDIR", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
