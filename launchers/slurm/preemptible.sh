#!/bin/bash
# Runs a command in a batch job: `exec bash preemptible.sh COMMAND...`. On USR1 the run writes a checkpoint and ends, and the job
# is requeued. TERM (scancel, or a preemption after which SLURM itself requeues the job) ends the run without a requeue.
"$@" &
trap 'preempted=1; kill -USR1 $!' USR1
trap 'kill -USR1 $!' TERM
while wait $!; status=$?; kill -0 $! 2>/dev/null; do :; done  # a signal ends the wait, not the command
if [ -n "$preempted" ] && [ $status -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
