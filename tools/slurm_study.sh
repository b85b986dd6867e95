#!/usr/bin/env bash
# Work on a study under SLURM: every task of the array is a worker with one GPU, which takes what no other has taken.
#
#     sbatch --array=0-7 tools/slurm_study.sh configs/studies/cifar10.py [arguments of tools/study.py]
#
# Two minutes before the time limit SLURM sends SIGUSR1, at a preemption SIGTERM: the run at work saves, and the task goes back into the
# queue. The folder of the study (--out) must be on a file system that all nodes share and that has locks. The report is written when
# all is done; a failed run does not stop the others, and submitting again tries it again.
#SBATCH --job-name=ssl_zoo_study
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
set -u
[ $# -gt 0 ] || { echo "usage: sbatch --array=0-N [options] tools/slurm_study.sh STUDY [arguments of tools/study.py]" >&2; exit 2; }
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
"${PYTHON:-python}" tools/study.py "$@" &
task=$! signalled=0
trap 'signalled=1; kill -USR1 "$task"' USR1
trap 'signalled=1; kill -TERM "$task"' TERM
while :; do                      # a signal ends a wait, not the task
    signalled=0
    wait "$task"
    code=$?
    [ $signalled = 1 ] || break
done
case $code in
    138 | 143)                   # stopped by SIGUSR1 or SIGTERM
        echo "ended with code $code; back into the queue"
        scontrol requeue "${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
        ;;
esac
exit "$code"
