#!/bin/sh
# A SLURM cluster of one node on this machine, for tests: `one_node_slurm.sh up DIR`, `one_node_slurm.sh down DIR`. As root.
# Needs slurm-wlm and munge; everything it writes is in DIR. Jobs are submitted with SLURM_CONF=DIR/slurm.conf.
set -eu
dir=$(mkdir -p "$2" && cd "$2" && pwd)
node=$(hostname -s)

stop() {  # by process id, and wait
  [ -f "$1" ] || return 0
  pid=$(cat "$1")
  kill "$pid" 2>/dev/null || true
  for _ in $(seq 100); do kill -0 "$pid" 2>/dev/null || return 0; sleep 0.1; done
  kill -9 "$pid" 2>/dev/null || true
}

case $1 in
down)
  SLURM_CONF=$dir/slurm.conf scancel --user="$(id -un)" 2>/dev/null || true
  for name in slurmd slurmctld munged; do stop "$dir/$name.pid"; done
  ;;
up)
  umask 022
  mkdir -p "$dir/state" "$dir/spool"
  dd if=/dev/urandom of="$dir/munge.key" bs=128 count=1 status=none
  chmod 600 "$dir/munge.key"
  # More CPUs than there are, so that a job has one for each of its ranks.
  cat > "$dir/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$node(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/munge.socket
SlurmctldPort=16817
SlurmdPort=16818
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool
SlurmctldPidFile=$dir/slurmctld.pid
SlurmdPidFile=$dir/slurmd.pid
SlurmctldLogFile=$dir/slurmctld.log
SlurmdLogFile=$dir/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=100000
KillWait=5
ReturnToService=2
JobRequeue=1
NodeName=$node NodeAddr=127.0.0.1 CPUs=64 State=UNKNOWN
PartitionName=all Nodes=$node Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
CONF
  munged --force --key-file="$dir/munge.key" --socket="$dir/munge.socket" --pid-file="$dir/munged.pid" \
    --log-file="$dir/munged.log" --seed-file="$dir/munged.seed" --num-threads=1
  slurmctld -f "$dir/slurm.conf" -c
  slurmd -f "$dir/slurm.conf" -N "$node"
  for _ in $(seq 100); do
    SLURM_CONF=$dir/slurm.conf sinfo -h -o %T 2>/dev/null | grep -q idle && exit 0
    sleep 0.2
  done
  echo "SLURM did not start: see $dir/slurmctld.log and $dir/slurmd.log" >&2
  exit 1
  ;;
esac
