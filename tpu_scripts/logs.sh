#!/usr/bin/env bash
# logs.sh NAME [WORKER]     follows the log of one worker, 0 by default
#
# Of slices that were created together the first; SLICES=1 logs.sh NAME-2 follows another.
# --dry-run prints the gcloud command.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $# -ge 1 ]] || usage
read -r node < <(nodes "$1")
run gcloud compute tpus tpu-vm ssh "$node" --project "$PROJECT" --zone "$ZONE" \
  --worker="${2:-0}" --command 'tail -n 200 -f ~/train.log'
