#!/bin/bash
# One share of the embeddings a task: sbatch docs/examples/slurm-array.sh DATASET PARTS
# When all tasks are done: cinefuse cache merge PARTS/*.h5 OUT.h5
#SBATCH --job-name=cinefuse
#SBATCH --array=1-16
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@60
#SBATCH --open-mode=append
set -eu

dataset=$1 parts=$2
slices=${SLURM_ARRAY_TASK_COUNT:-16}
task=$SLURM_ARRAY_TASK_ID
mkdir -p "$parts"

# `exec` hands Slurm's signals to cinefuse itself: it finishes the batch in flight and ends with 143.
# A task that runs again goes on where it stopped, so failed tasks are simply submitted again: sbatch --array=3,7 ...
exec cinefuse extract "$dataset" "$parts/$task.h5" --slice "$task/$slices" \
  --log-json "$parts/$task.jsonl" ${CINEFUSE_OPTIONS:-}
