#!/usr/bin/env bash
# Run a study under SLURM. Each task of the array is a scheduler with one GPU; the tasks share the
# jobs of the study.
#
#     sbatch --array=0-7 tools/slurm_study.sh configs/studies/cifar10.py [arguments of tools/study.py]
#
# SLURM sends SIGUSR1 two minutes before the time limit, and SIGTERM at a preemption: the running
# job saves, and the task goes back into the queue. The folder of the study (--out) must be on a file
# system that all nodes share and that has locks. The report is written when all jobs have ended. A
# job that fails does not stop the others; submit the same command again to try it again.
#SBATCH --job-name=ssl_zoo_study
#SBATCH --gpus-per-task=1
#SBATCH --ntasks=1
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%A_%a.out
set -u
if [ $# -eq 0 ]; then
    echo "usage: sbatch --array=0-N [options] tools/slurm_study.sh STUDY [arguments]" >&2
    exit 2
fi
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
"${PYTHON:-python}" tools/study.py "$@" &
scheduler=$!
signalled=0
trap 'signalled=1; kill -USR1 "$scheduler"' USR1
trap 'signalled=1; kill -TERM "$scheduler"' TERM
while :; do # a signal ends `wait`, but not the scheduler
    signalled=0
    wait "$scheduler"
    code=$?
    [ $signalled = 1 ] || break
done
case $code in
    138 | 143) # stopped by SIGUSR1 or SIGTERM
        echo "ended with code $code; back into the queue"
        array_task=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_}
        scontrol requeue "$array_task${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
        ;;
esac
exit "$code"
