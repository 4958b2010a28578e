# shellcheck shell=bash
# Flags of the TPU compiler, each with its reason; sourced by train.sh. They reach libtpu by this
# variable alone. Those that are set here are for v5e, v5p and v6e; measure before adding others: a
# set for one chip has been seen to hang another.

flags=(
  # Parameters are gathered and gradients scattered layer by layer: let these go on beside products.
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  --xla_tpu_overlap_compute_collective_tc=true
  --xla_enable_async_all_gather=true
  # The exchanges of heads for tokens, two before and one after each attention.
  --xla_tpu_enable_async_all_to_all=true
  # Those of ring attention.
  --xla_enable_async_collective_permute=true
)
LIBTPU_INIT_ARGS="${flags[*]} ${LIBTPU_INIT_ARGS:-}"
export LIBTPU_INIT_ARGS
