#!/bin/bash
# Deletes the cluster and everything on it (run fetch.sh first): launchers/ec2/down.sh [--dry-run]
set -euo pipefail
cd "$(dirname "$0")"
# shellcheck source=settings.sh
. ./settings.sh
run pcluster delete-cluster --cluster-name "$NAME" --region "$REGION"
run aws cloudformation wait stack-delete-complete --stack-name "$NAME" --region "$REGION"
