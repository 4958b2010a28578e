#!/usr/bin/env bash
# train.sh NAME EXPERIMENT --out gs://BUCKET/RUN [FLAGS ...]     trains on every worker of a slice
#
#   train.sh small experiments/video/sora_1_3b.py --out gs://bucket/runs/first
#
# Goes on in the background when this terminal is closed; `logs.sh NAME` follows it. A run that is
# stopped by a preemption or by `stop.sh` has saved its step: the same command goes on with it. While
# the slice stands, a run is started again that ends with the code of a preemption or of a process
# that hangs (75), because another process is gone (134), or killed (137); but not when ten in a row
# have ended within a quarter of an hour. What starting again does not mend ends all processes with
# code 1. With the flag --profile 10:15 the steps 10 to 15 are profiled, for TensorBoard, into OUT.
# SLICES=N for slices that were created together. --dry-run prints the gcloud commands.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $# -ge 2 ]] || usage
name=$1
shift

# shellcheck disable=SC2016  # the worker's variables, not ours
{
  before='short=0; until began=$SECONDS;'
  again='; [[ ! " 75 134 137 " = *" $? "* ]] ||'
  again+=' (( (short = SECONDS - began < 900 ? short + 1 : 0) >= 10 )); do sleep 10; done'
}
trained="$before ~/sora/bin/sora-jax train --distributed $(printf '%q ' "$@")$again"
# Two loops would train one run. (In brackets, so that the pattern does not match this command.)
alone='if pgrep -f "[u]ntil .*sora-jax train" > /dev/null; then'
alone+=' echo "a training is under way here: stop.sh ends it" >&2; exit 1; fi'
# In braces, so that what waits in the background holds nothing of this connection, which ends.
on_every_worker "$name" "$alone
cd sora_jax && export LIBTPU_INIT_ARGS=$(printf %q "${LIBTPU_INIT_ARGS:-}") &&
{ nohup bash -c $(printf %q "$trained") > ~/train.log 2>&1 < /dev/null & }"
