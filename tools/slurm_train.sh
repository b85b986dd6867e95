#!/usr/bin/env bash
# Pretrain under SLURM, one task per GPU, over one node or several; goes on by itself after a time limit or a preemption.
#
#     sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 tools/slurm_train.sh configs/byol/r50_imagenet.py [arguments of train.py]
#
# Two minutes before the time limit SLURM sends SIGUSR1 to the tasks, at a preemption SIGTERM: the run writes a checkpoint, all tasks
# end with code 138 or 143, and the job is put back into the queue. It finds its work directory by the job's number, which stays.
# The work directory must be on a file system that all nodes share. What is set here can be set on sbatch's command line as well.
#SBATCH --job-name=ssl_zoo
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -u
[ $# -gt 0 ] || { echo "usage: sbatch [options] tools/slurm_train.sh CONFIG [arguments of tools/train.py]" >&2; exit 2; }
# sbatch copies this script elsewhere, so paths are those of the directory it was submitted from: the project's.
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2
trap 'signalled=1' USR1 TERM     # the tasks end by themselves, and this script must live to put the job back into the queue
srun --kill-on-bad-exit=1 "${PYTHON:-python}" tools/train.py "$@" --work-dir "work_dirs/slurm-$SLURM_JOB_ID" --resume auto &
task=$! signalled=1
while [ $signalled = 1 ]; do     # a signal ends a wait, not the task
    signalled=0
    wait "$task"
    code=$?
done
case $code in
    138 | 143 | 75)              # stopped by SIGUSR1 or SIGTERM, or a process was lost with its node
        echo "ended with code $code; back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
        ;;
esac
exit "$code"
