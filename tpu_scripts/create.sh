#!/usr/bin/env bash
# create.sh NAME CHIP:SIDES [--spot | --reserved]     asks for a TPU slice and waits until it is there
#
#   create.sh small v6e:4x4 --spot
#   SLICES=4 create.sh large v6e:16x16 --reserved     four slices, joined by the data centre's network
#
# PROJECT and ZONE say where. --dry-run prints the gcloud commands.
set -euo pipefail
source "$(dirname "$0")/settings.sh"
[[ $# -ge 2 ]] || usage
name=$1 topology=$2
if [[ ! $topology =~ ^[a-z0-9]+:[0-9]+(x[0-9]+){1,2}$ ]]; then
  echo "$topology is no slice: give the chip and its sides, such as v6e:16x16" >&2
  exit 2
fi
shift 2

chip=${topology%%:*} sides=${topology#*:}
chips=$(( ${sides//x/*} ))
case $chip in
  # The cloud counts the cores of v4 and v5p, two a chip, and the chips of the others.
  v4)  accelerator=v4-$(( 2 * chips ))     runtime=tpu-ubuntu2204-base ;;
  v5e) accelerator=v5litepod-$chips        runtime=v2-alpha-tpuv5-lite ;;
  v5p) accelerator=v5p-$(( 2 * chips ))    runtime=v2-alpha-tpuv5 ;;
  v6e) accelerator=v6e-$chips              runtime=v2-alpha-tpuv6e ;;
  *)   echo "no chip $chip: give v4, v5e, v5p or v6e, such as v6e:16x16" >&2; exit 2 ;;
esac

where=(--project "$PROJECT" --zone "$ZONE")
if (( ${SLICES:-1} == 1 )); then
  node=(--node-id "$name")
else
  node=(--node-count "$SLICES" --node-prefix "$name")
fi
run gcloud compute tpus queued-resources create "$name" "${node[@]}" "${where[@]}" \
  --accelerator-type "$accelerator" --runtime-version "$runtime" "$@"

state() {
  gcloud compute tpus queued-resources describe "$name" "${where[@]}" --format 'value(state.state)'
}
[[ $DRY_RUN ]] && exit
until [[ $(state) == ACTIVE ]]; do
  case $(state) in
    FAILED|SUSPENDED) echo "$name is $(state); delete.sh $name, and ask again" >&2; exit 1 ;;
  esac
  echo "$name is $(state)"
  sleep 30
done
