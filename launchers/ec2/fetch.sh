#!/bin/bash
# Copies the run directories from the head node into ./outputs of this checkout: launchers/ec2/fetch.sh [--dry-run]
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=settings.sh
. ./settings.sh
run rsync -az "ubuntu@$(head_address):erasurehead-jax/outputs/" ../../outputs/
