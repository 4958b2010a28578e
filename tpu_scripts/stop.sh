#!/usr/bin/env bash
# stop.sh NAME     ends the training on every worker, which saves its step before it goes
#
# SLICES=N for slices that were created together. --dry-run prints the gcloud commands.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $# -eq 1 ]] || usage
# The shell that would start it again goes first. Its save may take a while; no training is no fault.
# (In brackets, so that the pattern does not match the command that looks for it.)
on_every_worker "$1" 'pkill -f "[u]ntil .*sora-jax train" || true
pkill -TERM -f "[b]in/sora-jax train" || true
while pgrep -f "[b]in/sora-jax train" > /dev/null; do sleep 1; done'
