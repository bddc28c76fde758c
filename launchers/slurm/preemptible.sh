#!/bin/bash
# Runs a command in a batch job: `exec bash preemptible.sh COMMAND...`. USR1 and TERM are passed on as USR1, on which a run
# writes a checkpoint and ends; the job is then queued again.
"$@" &
trap 'preempted=1; kill -USR1 $!' USR1 TERM
while wait $!; status=$?; kill -0 $! 2>/dev/null; do :; done  # a signal ends the wait, not the command
if [ -n "$preempted" ] && [ $status -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
