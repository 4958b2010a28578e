#!/usr/bin/env bash
# delete.sh NAME     gives a slice back, with all that lies on its disks
#
# What the runs wrote to gs:// stays. --dry-run prints the gcloud command.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $# -eq 1 ]] || usage
run gcloud compute tpus queued-resources delete "$1" --project "$PROJECT" --zone "$ZONE" \
  --force --quiet
