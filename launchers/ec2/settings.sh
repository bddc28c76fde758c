# shellcheck shell=bash
# Read by up.sh, push.sh, fetch.sh and down.sh. Set any of these in the environment; SUBNET and KEY have no default.
# The paper had a c3.8xlarge and 30 m1.small (MASTER=c3.8xlarge WORKER=m1.small PLACEMENT=false); those below are today's.
: "${NAME:=erasurehead}" "${REGION:=us-east-1}" "${SUBNET:?a public subnet, as subnet-0123456789abcdef0}"
: "${KEY:?the name of an EC2 key pair in $REGION}"
: "${HEAD:=t3.medium}" "${MASTER:=c6i.2xlarge}" "${WORKER:=m6i.large}" "${WORKERS:=30}"
: "${CAPACITY:=SPOT}"      # or ONDEMAND. A node that is taken back is a worker lost, or a job queued again
: "${PLACEMENT:=true}"     # in one placement group; not every type can be
: "${ONE_THREAD:=true}"    # a core for a rank, not half of one; m1.small has nothing to switch off
: "${IDLE_MIN:=5}" "${LIFETIME_H:=8}"
# $ an hour: list prices on demand in us-east-1, an upper bound for spot. For other types and regions set your own.
: "${HEAD_USD:=0.0416}" "${MASTER_USD:=0.34}" "${WORKER_USD:=0.096}"
if [ "$CAPACITY" = SPOT ]; then STRATEGY=capacity-optimized; else STRATEGY=lowest-price; fi
export NAME REGION SUBNET KEY HEAD MASTER WORKER WORKERS CAPACITY STRATEGY PLACEMENT ONE_THREAD IDLE_MIN LIFETIME_H MY_IP

case ${1-} in --dry-run) DRY=1 ;; "") DRY= ;; *) echo "usage: $0 [--dry-run]" >&2; exit 2 ;; esac

run() {  # a command, or with --dry-run only its text
  printf '+'; printf ' %q' "$@"; echo
  [ -n "$DRY" ] || "$@"
}

on_head() {
  run pcluster ssh --cluster-name "$NAME" --region "$REGION" -o StrictHostKeyChecking=accept-new "$@"
}

head_address() {
  if [ -n "$DRY" ]; then echo HEAD-ADDRESS; return; fi
  pcluster describe-cluster --cluster-name "$NAME" --region "$REGION" --query headNode.publicIpAddress | tr -d '"'
}
