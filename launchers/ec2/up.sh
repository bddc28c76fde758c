#!/bin/bash
# Starts the cluster, after showing its maximum cost: SUBNET=... KEY=... launchers/ec2/up.sh [--dry-run]. See settings.sh.
set -euo pipefail
cd "$(dirname "$0")"
MY_IP=${MY_IP:-$(curl -fsS https://checkip.amazonaws.com)}
# shellcheck source=settings.sh
. ./settings.sh

filled=$(mktemp)
trap 'rm -f "$filled"' EXIT
python3 -c 'import os, string, sys; print(string.Template(sys.stdin.read()).substitute(os.environ), end="")' \
  < cluster.yaml > "$filled"

awk -v head="$HEAD_USD" -v master="$MASTER_USD" -v worker="$WORKER_USD" -v n="$WORKERS" -v hours="$LIFETIME_H" 'BEGIN {
  idle = head; busy = head + master + n * worker
  printf "Costs at most (list prices, without traffic and disks): $%.2f an hour idle, $%.2f an hour with all nodes,\n", idle, busy
  printf "$%.2f if they run for all of LIFETIME_H=%d hours. The cluster is there until down.sh.\n", busy * hours, hours }'
if [ -z "$DRY" ] && [ "${YES-}" != 1 ]; then
  read -rp "Start it? (yes) " answer
  [ "$answer" = yes ] || exit 1
fi

if [ -n "$DRY" ]; then sed 's/^/  | /' "$filled"; fi
run pcluster create-cluster --cluster-name "$NAME" --region "$REGION" --cluster-configuration "$filled"
run aws cloudformation wait stack-create-complete --stack-name "$NAME" --region "$REGION"
# Limits its lifetime: without the head node, the other nodes terminate themselves.
for pause_s in 20 20 20 0; do
  if on_head "sudo shutdown -h +$((60 * LIFETIME_H))"; then exit 0; fi
  sleep "$pause_s"
done
echo "error: the head node of $NAME cannot be reached over ssh, so nothing limits how long it runs: mend that, or down.sh" >&2
exit 1
