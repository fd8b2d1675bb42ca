#!/usr/bin/env bash
# Converts captures by an array of SLURM tasks; archive, dataset and plan are folders that all nodes see, or URLs.
#
#   deploy/slurm.sh /archive /shared/dataset /shared/plan
#
# It plans here, submits an array that writes the units, and a last task that makes captures visible.  Options of sbatch
# (partition, account, time) come from SBATCH_… variables.  TASKS bounds the array, AT_ONCE how many of it run at once.
# Where tasks failed, `pcap2arrow commit PLAN` names the units that are missing: run these, and commit again.
set -euo pipefail

submit() {
    local archive=$1 dataset=$2 plan=$3 units tasks array script
    # Exit code 1 tells of captures that are damaged or can't be read; the others are planned.
    units=$({ pcap2arrow plan "$archive" -o "$plan" --dataset "$dataset" --json || (($? == 1)); } |
        sed -n 's/.*"event": "summary".*"units": \([0-9]*\).*/\1/p')
    echo "${units:?no units planned} units"
    if ((units == 0)); then
        return
    fi
    tasks=$((units < ${TASKS:-1000} ? units : ${TASKS:-1000}))
    script=$(realpath "${BASH_SOURCE[0]}")
    array=$(sbatch --parsable --job-name=pcap2arrow-unit --cpus-per-task=1 --mem=1500M \
        --array="0-$((tasks - 1))%${AT_ONCE:-200}" "$script" unit "$plan" "$units" "$tasks")
    sbatch --parsable --job-name=pcap2arrow-commit --cpus-per-task=1 --mem=2G \
        --dependency="afterany:${array%%;*}" "$script" commit "$plan"
}

# Task K of N writes the units K, K + N, K + 2N, …
unit() {
    local plan=$1 units=$2 tasks=$3
    mapfile -t mine < <(seq "$SLURM_ARRAY_TASK_ID" "$tasks" "$((units - 1))")
    pcap2arrow unit "$plan" "${mine[@]}"
}

case ${1:-} in
    unit) unit "$2" "$3" "$4" ;;
    commit) pcap2arrow commit "$2" ;;
    *)
        if (($# != 3)); then
            echo "usage: $0 ARCHIVE DATASET PLAN" >&2
            exit 2
        fi
        submit "$@"
        ;;
esac
