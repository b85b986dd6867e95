#!/usr/bin/env bash
# Pretrain under SLURM, one task per GPU, on one node or several. The job continues by itself after a time limit or a preemption.
#
#     sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 tools/slurm_train.sh CONFIG [arguments of tools/train.py]
#
# SLURM sends SIGUSR1 to the tasks two minutes before the time limit, and SIGTERM at a preemption. The run then writes a checkpoint,
# all tasks exit with code 138 or 143, and this script puts the job back into the queue. The restarted job has the same number and
# finds its work directory by it. All nodes must share the file system of the work directory.
# Options of sbatch on the command line replace those below.
#SBATCH --job-name=ssl_zoo
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
set -u

if [ $# -eq 0 ]; then
    echo "usage: sbatch [options] tools/slurm_train.sh CONFIG [arguments of tools/train.py]" >&2
    exit 2
fi

# sbatch runs a copy of this script from another folder; paths are relative to the folder of submission, the project's.
cd "${SLURM_SUBMIT_DIR:-.}" || exit 2

# The tasks receive the signals too and exit by themselves. This script must outlive them to requeue the job.
trap 'signalled=1' USR1 TERM

srun --kill-on-bad-exit=1 "${PYTHON:-python}" tools/train.py "$@" \
    --work-dir "work_dirs/slurm-$SLURM_JOB_ID" --resume auto &
task=$!

# A signal ends `wait` before the task has ended: wait again.
signalled=1
while [ $signalled = 1 ]; do
    signalled=0
    wait "$task"
    code=$?
done

case $code in
    138 | 143 | 75)    # stopped by SIGUSR1 or SIGTERM; 75: another process was lost, with its node
        echo "exit code $code; the job goes back into the queue"
        scontrol requeue "$SLURM_JOB_ID"
        ;;
esac
exit "$code"
