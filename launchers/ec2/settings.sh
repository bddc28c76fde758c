# shellcheck shell=bash
# Sourced by up.sh, push.sh, fetch.sh and down.sh. Override any of these in the environment; SUBNET and KEY have no default.
# The paper used a c3.8xlarge and 30 m1.small: MASTER=c3.8xlarge WORKER=m1.small PLACEMENT=false ONE_THREAD=false, with their
# prices MASTER_USD=1.68 WORKER_USD=0.044. The defaults below are current types.
: "${NAME:=erasurehead}" "${REGION:=us-east-1}" "${SUBNET:?a public subnet, as subnet-0123456789abcdef0}"
: "${KEY:?the name of an EC2 key pair in $REGION}"
: "${HEAD:=t3.medium}" "${MASTER:=c6i.2xlarge}" "${WORKER:=m6i.large}" "${WORKERS:=30}"
: "${CAPACITY:=SPOT}"      # or ONDEMAND. A reclaimed spot node means a lost worker or a requeued job
: "${PLACEMENT:=true}"     # one placement group; not supported by every instance type
: "${ONE_THREAD:=true}"    # a full core per rank, without hyper-threading; m1.small does not support the switch
: "${IDLE_MIN:=5}" "${LIFETIME_H:=8}"
# On-demand list prices in $ per hour, an upper bound for spot. Set them for other types and regions.
if [ "$REGION $HEAD $MASTER $WORKER" = "us-east-1 t3.medium c6i.2xlarge m6i.large" ]; then
  : "${HEAD_USD:=0.0416}" "${MASTER_USD:=0.34}" "${WORKER_USD:=0.096}"
fi
: "${HEAD_USD:?\$ an hour of a $HEAD in $REGION}" "${MASTER_USD:?\$ an hour of a $MASTER in $REGION}"
: "${WORKER_USD:?\$ an hour of a $WORKER in $REGION}"
if [ "$CAPACITY" = SPOT ]; then STRATEGY=capacity-optimized; else STRATEGY=lowest-price; fi
export NAME REGION SUBNET KEY HEAD MASTER WORKER WORKERS CAPACITY STRATEGY PLACEMENT ONE_THREAD IDLE_MIN LIFETIME_H MY_IP

case ${1-} in --dry-run) DRY=1 ;; "") DRY= ;; *) echo "usage: $0 [--dry-run]" >&2; exit 2 ;; esac

run() {  # runs a command; with --dry-run only prints it
  printf '+'; printf ' %q' "$@"; echo
  [ -n "$DRY" ] || "$@"
}

head_address() {
  if [ -n "$DRY" ]; then echo HEAD-ADDRESS; return; fi
  pcluster describe-cluster --cluster-name "$NAME" --region "$REGION" --query headNode.publicIpAddress | tr -d '"'
}

on_head() {  # not pcluster ssh, which hides failures
  run ssh -o StrictHostKeyChecking=accept-new "ubuntu@$(head_address)" "$@"
}
