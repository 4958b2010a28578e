# shellcheck shell=bash
# What all of these scripts share; sourced, not run. Each setting may be exported beforehand.

PROJECT=${PROJECT:-$(gcloud config get-value project 2>/dev/null || true)}
ZONE=${ZONE:-us-east5-b}
# The branch or commit that `setup.sh` installs on every worker.
REPOSITORY=${REPOSITORY:-https://github.com/sora-jax/sora_jax}
REVISION=${REVISION:-main}

DRY_RUN=
ARGUMENTS=()
for argument in "$@"; do
  if [[ $argument == --dry-run ]]; then DRY_RUN=1; else ARGUMENTS+=("$argument"); fi
done
set -- "${ARGUMENTS[@]}"

usage() {
  # The comment at the top of the script that was called.
  sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0" >&2
  exit 2
}

run() {
  # Runs a command, or with --dry-run prints it as it would be typed.
  if [[ ! $PROJECT ]]; then
    echo "no project: export PROJECT=..., or gcloud config set project ..." >&2
    exit 2
  fi
  if [[ $DRY_RUN ]]; then
    printf '%q ' "$@"
    printf '\n'
  else
    "$@"
  fi
}

on_every_worker() {
  # on_every_worker NAME COMMAND: runs a shell command on all hosts of a slice, or of all slices
  # that were created together (NAME, or NAME-0, NAME-1, ...).
  local name=$1 command=$2 node job failed=0
  for node in $(nodes "$name"); do
    run gcloud compute tpus tpu-vm ssh "$node" --project "$PROJECT" --zone "$ZONE" \
      --worker=all --command "$command" &
    # All slices at once; what is printed, one after another.
    if [[ $DRY_RUN ]]; then wait "$!"; fi
  done
  for job in $(jobs -p); do wait "$job" || failed=1; done
  return "$failed"
}

nodes() {
  # The slices that a name stands for: SLICES of them, or itself.
  local name=$1 number
  if (( ${SLICES:-1} == 1 )); then
    echo "$name"
  else
    for (( number = 0; number < SLICES; number++ )); do echo "$name-$number"; done
  fi
}
