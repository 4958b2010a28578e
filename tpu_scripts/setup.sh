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
git fetch --quiet origin $REVISION
git checkout --quiet --detach FETCH_HEAD
# The images have Python 3.10; uv brings its own.
curl -LsSf https://astral.sh/uv/install.sh | sh > /dev/null
test -d ~/sora || ~/.local/bin/uv venv --quiet --python 3.12 ~/sora
~/.local/bin/uv pip install --quiet --python ~/sora/bin/python -e ".[tpu]"
COMMANDS
on_every_worker "$1" "$install"
