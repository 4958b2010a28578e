#!/usr/bin/env bash
# setup.sh NAME     installs sora_jax on every worker of a slice
#
# REPOSITORY and REVISION say what; SLICES=N for slices that were created together. May be run again
# to install another revision. --dry-run prints the gcloud commands.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $# -eq 1 ]] || usage

read -r -d '' install <<COMMANDS || true
set -e
test -d sora_jax || git clone --quiet $REPOSITORY sora_jax
cd sora_jax
git fetch --quiet origin && git checkout --quiet $REVISION
python3 -m venv ~/sora && ~/sora/bin/pip install --quiet --upgrade pip
~/sora/bin/pip install --quiet -e . "jax[tpu]"
COMMANDS
on_every_worker "$1" "$install"
