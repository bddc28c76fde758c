#!/bin/bash
# Copies this checkout, and $ERASUREHEAD_DATA if set, to the head node's home, which all nodes share, and installs it there.
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=settings.sh
. ./settings.sh
to=ubuntu@$(head_address)
run rsync -az --exclude-from=../../.gitignore -e "ssh -o StrictHostKeyChecking=accept-new" ../../ "$to:erasurehead-jax/"
if [ -n "${ERASUREHEAD_DATA-}" ]; then
  run rsync -az "$ERASUREHEAD_DATA/" "$to:data/"
fi
on_head "sudo apt-get install -y make python3-venv && cd erasurehead-jax && make setup"
echo "Submit with: ssh ubuntu@$(head_address)"
echo "  cd erasurehead-jax && . .venv/bin/activate && export ERASUREHEAD_DATA=~/data"
echo "  sbatch --nodes=$((WORKERS + 1)) --ntasks=$((WORKERS + 1)) --ntasks-per-node=1 launchers/slurm/train.sbatch scheme=erasurehead"
