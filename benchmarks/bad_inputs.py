"""Give every tool bad inputs: each must be answered with a sentence and damage nothing.

    pip install -e '.[test]'                        # for hypothesis
    python benchmarks/bad_inputs.py [--only train knn] [--examples 300]

A bad input is handled if

- the exit code is not 0, stderr has a sentence, and no traceback is shown;
- existing files are unchanged, nothing in a file was executed, and no temporary file is left;
- the correct command works in the same folder afterwards, if the bad one left new files there.

A legal input (marked + below) must succeed. Tools run in this process, and for some inputs in a new
process. Random options, bytes and lists follow: each must give a result or a ConfigError. The
script prints the numbers of inputs tried and handled and exits with 1 if they differ.
"""

import argparse
import contextlib
import gzip
import hashlib
import importlib
import io
import json
import os
import pickle
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
SECONDS = 60  # that a tool may take for an input; none here has much to do
MEMORY = 24 << 30  # bytes of address space: a huge number must not take the machine with it

CONFIG = """
_backbone = dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1])
method = dict(type='BYOL', backbone=_backbone, hidden_dim=16, proj_dim=8)
data = dict(train=dict(type='ImageFolder', root={root!r} + '/images/train'), val=6,
            mean=[0.5] * 3, std=[0.5] * 3,
            test=dict(type='ImageFolder', root={root!r} + '/images/test'))
views = [dict(size=16)] * 2
optimizer = dict(type='LARS', momentum=0.9)
epochs = 1
batch_size = 6
base_lr = 1.0
workers = 0
online_eval = dict(every=0)
"""

# Each line is a command line. '+' in front: it is legal and must succeed. NAME=value in front: a
# variable of the environment. {name}: a file made below. @name: a copy of such a folder, in the
# current directory. A line without --work-dir gets that of GOOD.
GOOD = dict(
    train='{good} --work-dir work',
    # A run of train_all takes seconds; its other cases are below.
    train_all='{home}/none.py --out work',
    extract_features='{ckpt} --work-dir work',
    knn='{ckpt} --work-dir work --k 1',
    linear='{ckpt} --work-dir work --epochs 1 --lrs 0.1 --batch-size 6',
    semi_supervised='{ckpt} --work-dir work --labels 2-per-class --epochs 1 --lrs 0.1 --batch-size '
    '4',
    transfer='{ckpt} --work-dir work --train {home}/images/train --test {home}/images/test '
    '--strengths 1',
    compare='{preds} {preds}',
    new_method='my_method --out work',
    make_shards='"{source}" work',
)

CONFIGS = """
{home}/none.py
{home}
{home}/images/train
{home}/empty.py
{home}/binary.py
{home}/latin.py
{home}/syntax.py
{home}/raises.py
{home}/raises_empty.py
{home}/exits.py
{home}/interrupts.py
{home}/recursive.py
{home}/base_of_itself.py
{home}/base_missing.py
{home}/no_method.py
{home}/method_none.py
{home}/method_dotted.py
{home}/method_list_type.py
{home}/function_value.py
{home}/object_value.py
{home}/set_value.py
{home}/data_list.py
{home}/views_dict.py
{home}/imports_missing.py
{home}/imports_string.py
{home}/imports_raises.py
{home}/imports_exits.py
{home}/presets_bad.py
{home}/config.txt
{home}/words.json
{home}/{long}.py
{home}/ünïcode.py
""
"""
OPTIONS = """
epoch=3
=3
epochs
epochs=
epochs=abc
epochs=-1
epochs=0
epochs=nan
epochs=1e999
epochs=1e-300
epochs=1{zeros}
epochs=True
epochs=None
epochs=[1]
batch_size=0
batch_size=1
batch_size=-4
batch_size=6.0
batch_size=1{zeros}
batch_size=100000
base_lr=-1
base_lr=nan
base_lr=1{zeros}
weight_decay=-1
weight_decay=1e400
"weight_decay_end=-0.1"
clip_grad=0
norm_and_bias_lr=-1
warmup_epochs=1
warmup_epochs=5
warmup_epochs=-1
accumulate=4
accumulate=0
accumulate=6
accumulate=2.0
accumulate=Auto
accumulate=auto
"accumulate=auto max_device_batch=0"
max_device_batch=4
sync_batchnorm=maybe
compile=3
precision=fp16
precision=BF16
channels_last=yes
workers=-1
workers=1.5
seed=-1
seed=99999999999999999999
seed=a
log_every=0
imports=x.py
imports=[1]
"imports=['/none.py']"
optimizer=LARS
optimizer.type=Lars
optimizer.type=torch.optim.SGD
optimizer.type=None
optimizer.lr=0.1
optimizer.momentum=abc
optimizer.momentum=-1
optimizer.nosuch=1
"optimizer={{}}"
"optimizer={{'type': 'SGD', 'nesterov': True}}"
"optimizer={{'type': 'SGD', 'momentum': 'a'}}"
"optimizer={{'type': 'Adam', 'betas': 3}}"
"optimizer={{'type': 'Adam', 'betas': [0.9]}}"
schedule.shape=linear
schedule.start=-1
schedule.end=2
schedule.gamma=a
"schedule.milestones=[0.5]"
"schedule.shape=steps"
"schedule.shape=steps schedule.milestones=[0.6,0.2]"
"schedule.shape=steps schedule.milestones=[5]"
"schedule.shape=steps schedule.milestones=['a']"
"schedule.shape=steps schedule.milestones=[[1]]"
"schedule={{'shape': []}}"
schedule=cosine
online_eval=3
online_eval.every=-1
online_eval.k=0
online_eval.temperature=0
online_eval.bank=0
online_eval.queries=-2
online_eval.nosuch=1
checkpoint.keep=0
checkpoint.every=0
checkpoint.keep_every=0
parallel.strategy=dp
parallel.timeout=0
parallel.timeout=1e300
method=BYOL
method.type=byol
method.type=os.system
method.type=3
method.nosuch=3
method.proj_dim=-1
method.proj_dim=0
method.proj_dim=1.5
method.proj_dim=abc
method.proj_dim=999999999999999
method.hidden_dim=[]
method.base_ema=2
method.backbone=resnet18
method.backbone.name=resnet
method.backbone.name=../../etc/passwd
method.backbone.name=3
method.backbone.name=hf_hub:none/none
method.backbone.stem=cifr
method.backbone.width=0
method.backbone.width=-1
method.backbone.width=1e30
method.backbone.width=a
method.backbone.layers=3
method.backbone.layers=[0,0,0,0]
method.backbone.nosuch=1
method.backbone.pretrained=maybe
"method.backbone={{}}"
"method={{}}"
views=3
views=[]
"views=[{{}},{{}}]"
"views=[{{'size': 16}}]"
"views=[{{'size': 16}},{{'size': 16}},{{'size': 16}}]"
views.2.size=16
views.-1.size=16
views.x.size=16
views.0.size=0
views.0.size=-16
views.0.size=16.5
views.0.size=1000000000
views.0.crop=1
views.0.crop=[1,0.5]
views.0.crop=[0,1]
views.0.flip_p=2
views.0.jitter=[1,1]
views.0.blur_p=1
views.0.solarize_p=a
views.0.interpolation=nearest
views.0.nosuch=1
views.0=3
data=3
data.train=3
data.train=None
data.train=/images
data.train.type=ImageFoldr
data.train.type=os.system
data.train.root=None
data.train.root=3
data.train.root=/none
data.train.root={home}/good.py
data.train.root={home}/images/empty
data.train.root={home}/images/torn
data.train.root={home}/{long}
"data.train.root='a\\\\0b'"
data.train.limit=0
data.train.limit=-1
data.train.limit=100000
data.train.limit=all
data.train.limit=True
data.val=100
data.val=1.5
data.val=-3
data.val=24
data.val=1e-9
data.val=True
data.val=/val
"data.val={{}}"
data.test.root={home}/images/strange
data.test.root={home}/images/empty
data.max_unreadable=2
data.mean=[0.5]
data.mean=0.5
data.mean=['a','b','c']
data.std=[0,1,1]
data.std=[-1,1,1]
data.std=[True,[1],1]
data.eval_size=0
data.eval_size=-3
data.eval_resize=8
data.eval_resize=100000000000
data.expected_images=many
data.nosuch=1
"data.train={{'type': 'FileList', 'path': '{home}/list_missing.txt'}}"
"data.train={{'type': 'FileList', 'path': '{home}/list_latin.txt'}}"
"data.train={{'type': 'FileList', 'path': '{home}/list_empty.txt'}}"
"data.train={{'type': 'FileList', 'path': '{home}/list_half.txt'}}"
"data.train={{'type': 'FileList', 'path': '{home}/list_nul.txt'}}"
"data.train={{'type': 'FileList', 'path': '{home}/list_long.txt'}}"
"data.train={{'type': 'FileList', 'path': '{home}/images'}}"
"data.train={{'type': 'FileList', 'path': '{home}/none.txt'}}"
"data.train={{'type': 'FileList', 'path': 5}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards_cut'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards_text'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards_gzip/a.tar'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/images/empty'}}"
"data.train={{'type': 'TarShards', 'shards': '/none-{{000..009}}.tar'}}"
"data.train={{'type': 'TarShards', 'shards': '/none-{{0..99999999}}.tar'}}"
"data.train={{'type': 'TarShards', 'shards': 'https://a/b.tar'}}"
"data.train={{'type': 'TarShards', 'shards': 'a\\\\0b'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards', 'window': 0}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards', 'classes': '{home}/list_latin.txt'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards', 'classes': '/none'}}"
"data.train={{'type': 'CIFAR10', 'root': '{home}/images'}}"
"data.train={{'type': 'CIFAR10', 'root': '{home}/images', 'split': 'val'}}"
"data.train={{'type': 'Digits', 'size': -1}}"
"data.train={{'type': 'Digits', 'size': 'a'}}"
"data.train={{'type': 'Digits', 'split': []}}"
"data.train={{'type': 'Flowers102', 'root': '{home}'}}"
data.train.type.x=1
a.b.c=3
method.0=3
epochs.x=3
epochs={deep}
"epochs={{[]: 1}}"
"epochs={{{{}}: 1}}"
epochs={long}
{long}=3
ünï=3
"data.train.root='\\\\udcff'"
schedule.=1
..=1
"""
LEGAL_OPTIONS = """
"data.train.root={home}/images/one data.test=None"
data.mean=[0,0,0]
"data.train={{'type': 'TarShards', 'shards': '{home}/shards'}} data.val=None data.test=None"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards_hostile_index'}} data.val=None "
"data.test=None"
"data.train={{'type': 'Images', 'root': '{home}/images/train'}} data.val=None data.test=None"
"accumulate=auto max_device_batch=4"
base_lr=1e-12
online_eval.k=1000000
schedule={{}}
clip_grad=1e-300
seed=3
"""
DRY_OPTIONS = """
epochs=1e300
epochs=1e9
base_lr=1e300
base_lr=1e30
method.hidden_dim=0
views.0.size=100000
"""
TRAIN = """
{good} --work-dir {good}
{good} --work-dir {good}/x
{good} --work-dir /proc/none
{good} --work-dir /proc
{good} --work-dir {long}
{good} --work-dir @run
{good} --work-dir work --resume
{good} --work-dir work --resume {home}/none.pth
{good} --work-dir work --resume {home}
{good} --work-dir work --resume {home}/hostile.pth
{good} --work-dir work --resume {home}/text.pth
{good} --work-dir work --resume {home}/empty.pth
{good} --work-dir work --resume {home}/cut.pth
{good} --work-dir work --resume {home}/flipped.pth
{good} --work-dir work --resume {home}/no_config.pth
{good} --work-dir work --resume {home}/no_step.pth
{good} --work-dir work --resume {home}/step_text.pth
{good} --work-dir work --resume {home}/step_late.pth
{good} --work-dir work --resume {home}/weights_int.pth
{good} --work-dir work --resume {home}/weights_few.pth
{good} --work-dir work --resume {home}/optimizer_int.pth
{good} --work-dir work --resume {home}/optimizer_few.pth
{good} --work-dir work --resume {home}/config_int.pth
{good} --work-dir work --resume {home}/manifest_tensor.pth
{good} --work-dir @torn_run --resume
{good} --work-dir @run --resume {home}/ckpt_other.pth
{good} --work-dir @run --resume --cfg-options epochs=2
{good} --work-dir @run --resume --cfg-options data.train.root={home}/images/one
{good} --work-dir @run --resume --seed 4
{good} --work-dir @other_run --resume
+ {good} --work-dir @run --resume
+ {good} --work-dir @run --resume auto
+ {good} --work-dir work --resume auto
+ {good} --work-dir work --resume {ckpt}
+ {good} --work-dir ünï/ä --seed 0
{good} --work-dir work --seed x
{good} --work-dir work --seed 1.5
{good} --work-dir work --seed -1
{good} --nosuch
{good} extra words
{good} --work-dir
{good} --cfg-options
WORLD_SIZE=two {good} --work-dir work
WORLD_SIZE=-1 {good} --work-dir work
WORLD_SIZE=² {good} --work-dir work
WORLD_SIZE=0 {good} --work-dir work
WORLD_SIZE=0 RANK=0 MASTER_ADDR=localhost MASTER_PORT=29512 {good} --work-dir work
WORLD_SIZE=2 {good} --work-dir work
WORLD_SIZE=2 RANK=0 {good} --work-dir work
WORLD_SIZE=2 RANK=a MASTER_ADDR=localhost MASTER_PORT=29512 {good} --work-dir work
WORLD_SIZE=2 RANK=5 MASTER_ADDR=localhost MASTER_PORT=29512 {good} --work-dir work
WORLD_SIZE=2 RANK=0 MASTER_ADDR=localhost MASTER_PORT=port {good} --work-dir work
WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost MASTER_PORT=99999999 {good} --work-dir work
WORLD_SIZE=2 RANK=1 LOCAL_RANK=x MASTER_ADDR=localhost MASTER_PORT=29512 {good} --work-dir work
SLURM_STEP_NUM_TASKS=x {good} --work-dir work
SLURM_STEP_NUM_TASKS=2 {good} --work-dir work
SLURM_STEP_NUM_TASKS=2 SLURM_PROCID=a {good} --work-dir work
SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST= {good} --work-dir work
SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=,, SLURM_PROCID=1 {good} --work-dir work
SLURM_STEP_NUM_TASKS=2 SLURM_STEP_NODELIST=a SLURM_PROCID=2 {good} --work-dir work
SLURM_STEP_NUM_TASKS=2 SLURM_JOB_ID=a {good} --work-dir work
+ WORLD_SIZE= {good} --work-dir work
+ WORLD_SIZE=1 RANK=a {good} --work-dir work
"""
CHECKPOINTS = (
    'none.pth',
    '',
    'run',
    'empty.pth',
    'binary.pth',
    'text.pth',
    'cut.pth',
    'flipped.pth',
    'hostile.pth',
    'foreign.pth',
    'list.pth',
    'plain.pth',
    'format_tensor.pth',
    'format_only.pth',
    'sha_tensor.pth',
    'no_sha.pth',
    'no_config.pth',
    'config_int.pth',
    'config_list.pth',
    'config_data_int.pth',
    'config_unknown.pth',
    'config_types.pth',
    'config_dotted.pth',
    'config_no_method.pth',
    'config_keys_int.pth',
    'config_infinite.pth',
    'no_step.pth',
    'step_text.pth',
    'weights_int.pth',
    'weights_list.pth',
    'weights_few.pth',
    'weights_shapes.pth',
    'weights_nan.pth',
    'no_weights.pth',
    'good.py',
    '{long}.pth',
)
EVALUATION = """
{ckpt} --network teacher
{ckpt} --network ""
{ckpt} --layer backbon
{ckpt} --layer 3
{ckpt} --precision fp16
{ckpt} --precision ""
{ckpt} --eval-batch-size 0
{ckpt} --eval-batch-size -3
{ckpt} --eval-batch-size x
{ckpt} --workers -1
{ckpt} --workers two
{ckpt} --seed -1
{ckpt} --seed 99999999999999999999999
{ckpt} --seed 1.5
{ckpt} --imports /none.py
{ckpt} --imports {home}
{ckpt} --imports {home}/syntax.py
{ckpt} --imports {home}/exits.py
{ckpt} --imports {home}/binary.py
{ckpt} --work-dir {good}
{ckpt} --work-dir /proc/none
{ckpt} --work-dir {long}
{ckpt} --cfg-options epochs=3
{ckpt} --cfg-options method.type=SimCLR
{ckpt} --cfg-options data
{ckpt} --cfg-options data=3
{ckpt} --cfg-options data.train=3
{ckpt} --cfg-options data.train.root=/none
{ckpt} --cfg-options data.train.root={home}/images/empty
{ckpt} --cfg-options data.train.root={home}/images/torn data.val=None
{ckpt} --cfg-options data.test.root={home}/images/torn
{ckpt} --cfg-options data.test.root={home}/images/strange
{ckpt} --cfg-options "data.test={{'type': 'Images', 'root': '{home}/images/test'}}"
{ckpt} --cfg-options "data.train={{'type': 'TarShards', 'shards': '{home}/shards_cut'}}"
{ckpt} --cfg-options "data.train={{'type': 'FileList', 'path': '{home}/list_missing.txt'}}"
{ckpt} --cfg-options "data.train={{'type': 'FileList', 'path': '{home}/list_latin.txt'}}"
{ckpt} --cfg-options data.val=1000
{ckpt} --cfg-options data.val=0.9999
{ckpt} --cfg-options data.eval_size=-1
{ckpt} --cfg-options data.mean=3
{ckpt} --cfg-options workers=-1
{ckpt} --cfg-options channels_last=3
{ckpt} --cfg-options data.train={deep}
{ckpt} --cfg-options "data.train={{[]: 1}}"
{ckpt} --cfg-options ünï=3
{ckpt} --nosuch
{ckpt} more words
WORLD_SIZE=two {ckpt}
WORLD_SIZE=2 {ckpt}
SLURM_STEP_NUM_TASKS=x {ckpt}
+ {ckpt} --work-dir ünï
+ {ckpt} --random-weights --precision bf16
"""
OWN = dict(
    knn="""
{ckpt} --k 0
{ckpt} --k
{ckpt} --k -1 5
{ckpt} --k x
{ckpt} --k 1.5
{ckpt} --temperature 0
{ckpt} --temperature nan
{ckpt} --temperature inf
{ckpt} --temperature -1
{ckpt} --temperature
{ckpt} --ivf 0
{ckpt} --ivf 1000
{ckpt} --ivf 2 --probes 0
{ckpt} --dtype float64
{ckpt} --cfg-options data.test=None
+ {ckpt} --cfg-options data.val=None
{ckpt} --cfg-options "data.test={{}}"
+ {ckpt} --temperature 1e-300
+ {ckpt} --temperature 1e300
+ {ckpt} --k 99999999999
+ {ckpt} --ivf 2 --probes 100000
+ {ckpt} --seed 4611686018427387903
+ {ckpt} --cfg-options data.train.root={home}/images/train
+ {ckpt} --work-dir @features_rubbish
+ {ckpt} --work-dir @features_pickled
+ {ckpt} --work-dir @results_rubbish
""",
    linear="""
{ckpt} --preset byl
{ckpt} --preset ""
{ckpt} --lrs 0
{ckpt} --lrs nan
{ckpt} --lrs inf
{ckpt} --lrs 1e39
{ckpt} --lrs
{ckpt} --weight-decays -1
{ckpt} --weight-decays nan
{ckpt} --epochs 0
{ckpt} --epochs 1 2
{ckpt} --epochs nan
{ckpt} --batch-size 0
{ckpt} --batch-size -1
{ckpt} --crop 1 0.5
{ckpt} --crop 0 1
{ckpt} --crop nan 1
{ckpt} --crop 1
{ckpt} --flip-p 2
{ckpt} --flip-p nan
{ckpt} --cached --crop 0.5 1
{ckpt} --cached --flip-p 0
{ckpt} --strengths 1
{ckpt} --cached --strengths 0
{ckpt} --cached --strengths nan
{ckpt} --cached --strengths -1
{ckpt} --cached --dtype float8
{ckpt} --cfg-options data.test=None
{ckpt} --retrain --cfg-options data.val=None
{ckpt} --lrs 0.1 0.2 --cfg-options data.val=None
{ckpt} --cfg-options data.train.root={home}/images/one data.val=None \
data.test.root={home}/images/one
{ckpt} --work-dir @linear_rubbish
{ckpt} --work-dir @linear_foreign
{ckpt} --work-dir @linear_hostile
{ckpt} --work-dir @linear_state
+ {ckpt} --epochs 1e-9
+ {ckpt} --batch-size 99999999999
+ {ckpt} --cached --strengths
+ {ckpt} --cached --strengths 1e-200
""",
    semi_supervised="""
{ckpt} --labels 0%
{ckpt} --labels 101%
{ckpt} --labels -1%
{ckpt} --labels nan%
{ckpt} --labels %
{ckpt} --labels 1
{ckpt} --labels 0-per-class
{ckpt} --labels 99-per-class
{ckpt} --labels ²-per-class
{ckpt} --labels ٣-per-class
{ckpt} --labels 99999999999999999999-per-class
{ckpt} --labels 9{long}%
{ckpt} --labels ""
{ckpt} --labels 50% --list {home}/labels.txt
{nolabels}
{nolabels} --list {home}/none.txt
{nolabels} --list {home}
{nolabels} --list {home}/list_empty.txt
{nolabels} --list {home}/labels_unknown.txt
{nolabels} --list {home}/labels_twice.txt
{nolabels} --list {home}/labels_one.txt
{nolabels} --list {home}/list_latin.txt
{nolabels} --list {home}/binary.pth
{nolabels} --list {home}/{long}
{nolabels} --list {home}/labels_all.txt
{ckpt} --draws 0
{ckpt} --draws x
{ckpt} --metric top5
{ckpt} --lrs -1
{ckpt} --epochs 0
{ckpt} --batch-size 1
{ckpt} --cfg-options data.test=None
{ckpt} --lrs 0.1 0.2 --cfg-options data.val=None
{ckpt} --work-dir @semi_scores_text
{ckpt} --work-dir @semi_scores_types
{ckpt} --work-dir @semi_scores_many
{ckpt} --work-dir @semi_best_text
{ckpt} --work-dir @semi_best_foreign
{ckpt} --work-dir @semi_best_gone
{ckpt} --work-dir @semi_hostile
+ {ckpt} --labels 100%
+ {nolabels} --list {home}/labels.txt
""",
    transfer="""
{bare}
{bare} --dataset CIFAR
{bare} --dataset ""
{bare} --dataset CIFAR10 --root {home}/none
{bare} --dataset CIFAR10 --root {good}
{bare} --dataset Flowers102 --root {home}/flowers_rubbish
{bare} --dataset DTD --root {home}/images
{bare} --dataset CIFAR10 --train {home}/images/train --test {home}/images/test
{bare} --train {home}/images/train
{bare} --test {home}/images/test
{ckpt} --train {home}/images/empty
{ckpt} --train /none
{ckpt} --train {good}
{ckpt} --train {home}/images/one
{ckpt} --train {home}/images/torn
{ckpt} --test {home}/images/strange
{ckpt} --test {home}/images/torn
{ckpt} --val 0
{ckpt} --val 1
{ckpt} --val 2
{ckpt} --val -0.5
{ckpt} --val nan
{ckpt} --val inf
{ckpt} --val x
{ckpt} --metric top_1
{ckpt} --epochs 3
{ckpt} --strengths 0
{ckpt} --strengths nan
{ckpt} --strengths
{ckpt} --finetune --steps 0
{ckpt} --finetune --steps -3
{ckpt} --finetune --steps x
{ckpt} --finetune --steps 1 --lrs 0
{ckpt} --finetune --steps 1 --batch-size 1
{ckpt} --finetune --steps 1 --batch-size 0
{ckpt} --finetune --steps 1 --lrs 0.1 --weight-decays nan
{ckpt} --dtype float8
+ {ckpt} --metric mean_per_class
+ {ckpt} --strengths 1e-200 1
+ {ckpt} --finetune --steps 1 --lrs 0.1 --weight-decays 0 --batch-size 6
""",
    extract_features="""
{ckpt} --data tset
{ckpt} --data
{ckpt} --data train --dtype float64
{ckpt} --data test --cfg-options data.test=None
{ckpt} --data val --cfg-options data.val=None
{ckpt} --source images
{ckpt} --source "{{"
{ckpt} --source 3
{ckpt} --source []
{ckpt} --source {{}}
{ckpt} --source "{{'type': 3}}"
{ckpt} --source "{{'type': []}}"
{ckpt} --source "{{'type': 'os.system', 'command': 'touch {marker}'}}"
{ckpt} --source "{{'type': 'Images'}}"
{ckpt} --source "{{'type': 'Images', 'root': '/none'}}"
{ckpt} --source "{{'type': 'Images', 'root': 3}}"
{ckpt} --source "{{'type': 'Images', 'root': '{home}/images/torn'}}"
{ckpt} --source "{{'type': 'Images', 'root': '{home}/images/train', 'limit': 0}}"
{ckpt} --source "{{'type': 'Images', 'root': '{home}/images/train', 'limit': True}}"
{ckpt} --source "{{[]: 3}}"
{ckpt} --source "{deep}"
{ckpt} --source "{{'type': 'Images', 5: 3}}"
+ {ckpt} --source "{{'type': 'Images', 'root': '{home}/images/train'}}" --dtype float16
+ {ckpt} --work-dir @features_rubbish
+ {ckpt} --work-dir @features_pickled
""",
)
TRAIN_ALL = """

{home}/none.py --out work
{home}/syntax.py --out work
{home}/exits.py --out work
{home} --out work
{good} {good} --out work
{good} --out work --jobs 0
{good} --out work --jobs -1
{good} --out work --jobs x
{good} --out work --seeds
{good} --out work --seeds x
{good} --out work --seeds -1
{good} --out work --seeds 0 0
{good} --out work --cfg-options epoch=3
{good} --out work --cfg-options epochs={deep}
{good} --out {good}
{good} --out /proc/none
{good} --out {long}
{home}/_base_/x.py --out work
{good} --out @all_other_settings
{home}/none.py --out @all_table_folder
{home}/none.py --out {good}
+ {good} --out @all_done
{good} --out @all_rubbish --cfg-options base_lr=nan
{good} --out @all_words --cfg-options base_lr=nan
{good} --out work --cfg-options data.train.root=/none
{good} --out @all_console_folder
"""
COMPARE = """

{preds}
{preds} {home}/none.npz
{home}/none.npz {preds}
{preds} {home}
{preds} {home}/empty.pth
{preds} {home}/binary.pth
{preds} {home}/text.pth
{preds} {home}/cut.npz
{preds} {home}/flipped.npz
{preds} {home}/hostile.npz
{preds} {home}/hostile.pth
{preds} {home}/p_missing.npz
{preds} {home}/p_shapes.npz
{preds} {home}/p_floats.npz
{preds} {home}/p_negative.npz
{preds} {home}/p_huge.npz
{preds} {home}/p_empty.npz
{preds} {home}/p_other_names.npz
{preds} {home}/p_other_labels.npz
{preds} {home}/p_row_list.npz
{preds} {home}/p_row_text.npz
{preds} {home}/{long}.npz
{preds} {preds} --metric top5
{preds} {preds} --metric ""
{preds} {preds} --nosuch
{preds} {preds} {preds}
+ {preds} {home}/p_row_strange.npz
+ {preds} {home}/p_row_strange.npz --json
+ {preds} {preds} --metric mean_per_class
"""
NEW_METHOD = """

""
../x
a/b
/tmp/x
class
My
a-b
ä
1a
_a
a_
a__b
"a b"
{long}
{long} --out work
my_{n245} --out work
byol
byol --out work
sim_clr --out work
x.py
my_method --out {good}
my_method --out {good}/x
my_method --out /proc/none
my_method --out {long}
my_method --out @method_there
my_method --out
my_method --nosuch
+ my_method --out ünï
+ match --out work
"""
MAKE_SHARDS = """

"{source}"
"" work
images work
"{{" work
3 work
[] work
{{}} work
"{{[]: 3}}" work
"{deep}" work
"{{'type': 3}}" work
"{{'type': []}}" work
"{{'type': 'os.system', 'command': 'touch {marker}'}}" work
"{{'type': 'ImageFolder'}}" work
"{{'type': 'ImageFolder', 'root': 3}}" work
"{{'type': 'ImageFolder', 'root': '/none'}}" work
"{{'type': 'ImageFolder', 'root': '{home}/images/empty'}}" work
"{{'type': 'ImageFolder', 'root': '{home}/images/train', 'limit': 0}}" work
"{{'type': 'FileList', 'path': '{home}/list_gone.txt'}}" work
"{{'type': 'TarShards', 'shards': '{home}/shards_cut'}}" work
"{{'type': 'CIFAR10', 'root': '{home}/images'}}" work
"{{'type': 'Digits', 'size': 0}}" work
"{source}" {good}
"{source}" {good}/x
"{source}" /proc/none
"{source}" {long}
"{source}" @shards_cut
"{source}" @shards_json_text
"{source}" @shards_json_folder
"{source}" @shards --per-shard 5
"{source}" work --per-shard 0
"{source}" work --per-shard -1
"{source}" work --per-shard x
"{source}" work --per-shard 1e3
"{source}" work --imports /none.py
"{source}" work --imports {home}/raises.py
"{source}" work --imports {home}/exits.py
"{source}" work --nosuch
+ "{source}" work --per-shard 99999999999999999999999
+ "{source}" @shards --per-shard 10
+ "{{'type': 'Images', 'root': '{home}/images/torn'}}" work
+ "{source}" ünï
"""
REPLAY = """

{home}/none
{good}
{home}/empty.pth
{home}/hostile.pth
@run --nosuch
/proc/none
{long}
"""
PROCESSES = (
    (
        'train',
        'WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost MASTER_PORT=29513 {good} --cfg-options '
        'parallel.timeout=1',
    ),
    ('train', '{home}/none.py'),
    ('train', '{good} --cfg-options epochs=nan'),
    ('train', 'WORLD_SIZE=2 {good}'),
    ('knn', '{home}/hostile.pth --work-dir work'),
    ('linear', '{home}/cut.pth --work-dir work'),
    ('make_shards', '"{{[]: 3}}" work'),
    ('new_method', '{long} --out work'),
    ('compare', '{preds} {home}/hostile.npz'),
)


class Hostile:
    def __init__(self, marker: Path):
        self.marker = marker

    def __reduce__(self):
        return os.system, (f'touch {self.marker}',)


class Late(BaseException):
    """A tool took too long."""


@dataclass
class Result:
    """The campaign: its files, its inputs and what came of them.

    Attributes:
        tried: tool -> number of its inputs.
        handled: tool -> number of its inputs that were handled.
        failures: (tool, input, what is wrong, last lines of the output).
    """

    tried: Counter = field(default_factory=Counter)
    handled: Counter = field(default_factory=Counter)
    failures: list[tuple[str, str, str, str]] = field(default_factory=list)

    def add(self, tool: str, what: str, wrong: str | None, output: str = '') -> None:
        self.tried[tool] += 1
        self.handled[tool] += wrong is None
        if wrong is not None:
            self.failures.append((tool, what, wrong, '\n'.join(output.strip().splitlines()[-4:])))
            print(f'not handled: {tool}  {what}'[:200], file=sys.stderr, flush=True)

    def told(self) -> str:
        def short(text):
            return re.sub(r'(.)\1{49,}', r'\1...\1', re.sub(r'/\S*?/home\b', 'HOME', text))[:400]

        lines = [
            f'NOT HANDLED  {tool}  {short(what)}\n    {wrong}\n'
            + ''.join(f'    | {short(line)}\n' for line in output.splitlines())
            for tool, what, wrong, output in self.failures
        ]
        rows = [f'{tool:<28} {self.tried[tool]:>6} / {self.handled[tool]}' for tool in self.tried]
        return '\n'.join(
            [
                *lines,
                f'{"inputs":<28}  tried / handled',
                *rows,
                f'{"all":<28} {self.tried.total():>6} / {self.handled.total()}',
            ]
        )


def commands(tool: str) -> list[str]:
    """The command lines of a tool, with '+' in front of those that are legal."""

    def lines(text):
        return [line for line in text.split('\n')[1:-1]]

    if tool == 'train':

        def with_options(text, plus=''):
            return [
                f'{plus}{{good}} --work-dir work --cfg-options '
                + (line[1:-1] if ' ' in line and line[0] == '"' and "'" not in line else line)
                for line in lines(text)
            ]

        return [
            *(f'{line} --work-dir work' for line in lines(CONFIGS)),
            *with_options(OPTIONS),
            *_legal(),
            *lines(TRAIN),
            *(f'{{good}} --dry-run --cfg-options {line}' for line in lines(OPTIONS)[::5]),
            *(f'? {{good}} --dry-run --cfg-options {line}' for line in lines(DRY_OPTIONS)),
        ]
    if tool in OWN:
        tail = GOOD[tool].removeprefix('{ckpt} ')
        found = [f'{{home}}/{name}' for name in CHECKPOINTS] + lines(EVALUATION) + lines(OWN[tool])
        if tool == 'transfer':  # which has data of its own
            found = [
                line
                for line in found
                if '--cfg-options data.train.root=' not in line or '/none' in line or 'torn' in line
            ]
        return [_with_tail(line, tail) for line in found]
    return lines(
        dict(
            train_all=TRAIN_ALL,
            compare=COMPARE,
            new_method=NEW_METHOD,
            make_shards=MAKE_SHARDS,
            replay=REPLAY,
        )[tool]
    )


def _legal() -> list[str]:
    out = []
    for line in LEGAL_OPTIONS.split('\n')[1:-1]:
        out.append(
            '+ {good} --work-dir work --cfg-options '
            + ' '.join(
                shlex.quote(part)
                for part in (
                    re.split(r' (?=\w+[.\w]*=)', shlex.split(line)[0]) if line[0] == '"' else [line]
                )
            )
        )
    return out


def _with_tail(line: str, tail: str) -> str:
    """The checkpoint, what makes the tool quick, and then the input, which may overrule it."""
    words = re.match(r'((?:\+ |\? )?(?:[A-Z_]+=\S* )*)(\S+)(.*)', line)
    first = words[2]
    if first == '{bare}':
        first, tail = '{ckpt}', '--work-dir work'
    if first == '{nolabels}':
        first, tail = '{ckpt}', tail.replace('--labels 2-per-class', '')
    return f'{words[1]}{first} {tail}{words[3]}'


class Campaign:
    """A folder of files, good and bad, and the tools to try them on."""

    def __init__(self, home: Path):
        self.home, self.result, self.tools = home, Result(), {}
        self.marker = home.parent / 'executed'
        self.names = dict(
            home=str(home),
            good=f'{home}/good.py',
            marker=str(self.marker),
            long='n' * 300,
            n245='n' * 245,
            deep='(' * 500 + '1' + ',)' * 500,
            zeros='0' * 400,
            source=f"{{'type': 'ImageFolder', 'root': '{home}/images/train'}}",
        )
        self.make()
        self.before = self.state(home)

    def main(self, tool: str):
        if tool not in self.tools:
            module = 'import_checkpoint' if tool == 'import' else tool
            self.tools[tool] = importlib.import_module(f'ssl_zoo.cli.{module}')
        return self.tools[tool].main

    @staticmethod
    def state(folder: Path) -> dict[str, str]:
        return {
            str(path): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*'))
            if path.is_file() and not re.fullmatch(r'index-\w+\.npz', path.name)
        }  # a cache, made anew if it is damaged

    def call(
        self, tool: str, words: list[str], env: dict[str, str], cwd: Path
    ) -> tuple[int | None, str, str, str | None]:
        """Call a tool in this process. Returns (exit code, stdout, stderr, escaped exception)."""

        def late(*_):
            raise Late(f'not done after {SECONDS} s')

        out, err, kept, broke, code = io.StringIO(), io.StringIO(), dict(os.environ), None, None
        argv, place, handler = sys.argv, os.getcwd(), signal.signal(signal.SIGALRM, late)
        modules = {name for name in sys.modules if name.startswith('ssl_zoo_user.')}
        try:
            os.chdir(cwd)
            os.environ.update(env)
            sys.argv = [f'tools/{tool}.py', *words]
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                code = self.main(tool)(words)
        except SystemExit as stop:
            code = 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
            if isinstance(stop.code, str):
                err.write(stop.code)
        except BaseException:  # whatever it is: it is what the campaign looks for
            broke = traceback.format_exc()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            os.chdir(place)
            os.environ.clear()
            os.environ.update(kept)
            sys.argv = argv
            for name in [
                name
                for name in sys.modules
                if name.startswith('ssl_zoo_user.') and name not in modules
            ]:
                del sys.modules[name]
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()
        return code, out.getvalue(), err.getvalue(), broke

    def process(
        self, tool: str, words: list[str], env: dict[str, str], cwd: Path
    ) -> tuple[int | None, str, str, str | None]:
        done = subprocess.run(
            [sys.executable, str(ROOT / 'tools' / f'{tool}.py'), *words],
            cwd=cwd,
            env={**os.environ, **env},
            text=True,
            capture_output=True,
            timeout=SECONDS,
        )
        return done.returncode, done.stdout, done.stderr, None

    def split(self, line: str, cwd: Path) -> tuple[list[str], dict[str, str]]:
        """Return the words and the environment of a command line; copy the folders named with @."""
        words, env = shlex.split(line.format(**self.names)), {}
        while words and (match := re.fullmatch(r'([A-Z_]+)=(.*)', words[0])):
            env[match[1]] = match[2]
            words.pop(0)
        for i, word in enumerate(words):
            if word.startswith('@'):
                words[i] = word[1:]
                shutil.copytree(self.home / word[1:], cwd / word[1:])
        return words, env

    def attempt(self, tool: str, line: str, call=None) -> None:
        """Try an input and judge it."""
        kind, line = (line[0], line[2:]) if line[:2] in ('+ ', '? ') else ('', line)
        with tempfile.TemporaryDirectory(dir=self.home.parent) as cwd:
            cwd = Path(cwd)
            words, env = self.split(line, cwd)
            there = self.state(cwd)
            code, out, err, broke = (call or self.call)(tool, words, env, cwd)
            wrong = self.judge(kind, code, out, err, broke)
            if wrong is None:
                wrong = self.damage(cwd, there, code)
            after = self.state(cwd)
            if wrong is None and code and after.keys() - there.keys() and tool != 'train_all':
                place = (
                    [words[words.index('--work-dir') + 1]] if '--work-dir' in words else ['work']
                )
                again = shlex.split(GOOD[tool].format(**self.names))
                again = [place[0] if word == 'work' else word for word in again]
                if place[0] == 'work':  # a place of its own, not one with rubbish in it
                    code, out, err, broke = self.call(tool, again, {}, cwd)
                    if code != 0:
                        wrong = f'and then the correct command gives {code} in the same place'
            self.result.add(
                tool if call is None else f'{tool}, a process',
                shlex.join([*(f'{k}={v}' for k, v in env.items()), *words]),
                wrong,
                broke or err or out,
            )

    def judge(
        self, kind: str, code: int | None, out: str, err: str, broke: str | None
    ) -> str | None:
        if broke:
            return 'an exception reaches the user'
        if 'Traceback (most recent call last)' in out + err:
            return 'a traceback reaches the user'
        if kind == '+' or (kind == '?' and code == 0):
            return None if code == 0 else f'legal, but exit code {code}'
        if not code:
            return f'exit code {code}'
        if not re.search(r'(error: |stopped|\d+ of \d+ runs failed)\s*\S+', err):
            return f'exit code {code}, but stderr has no sentence'
        return None

    def damage(self, cwd: Path, there: dict[str, str], code: int | None) -> str | None:
        """Return what the tool must not have done to files; remove what it added to the home."""
        if self.marker.exists():
            self.marker.unlink()
            return 'code in a file was executed'
        after = self.state(self.home)
        for path in after.keys() - self.before.keys():
            os.unlink(path)
        changed = [path for path, digest in self.before.items() if after.get(path) != digest]
        if changed:
            return f'{changed[0]} is not as it was'
        after = self.state(cwd)
        left = [path for path in after if '.tmp.' in path]
        if left:
            return f'{left[0]} is left'
        changed = [
            path
            for path, digest in there.items()
            if digest not in (after.get(path), after.get(f'{path}.unreadable'))
        ]
        if code and changed:
            return f'{changed[0]} is not as it was'
        return None

    def run(self, tools: list[str], part: slice = slice(None)) -> None:
        for tool in tools:
            for line in commands(tool)[part]:
                self.attempt(tool, line)

    # --- The files.

    def make(self) -> None:
        home = self.home
        rng = np.random.default_rng(0)
        for name, classes, n in (
            ('train', 'abc', 8),
            ('test', 'abc', 4),
            ('one', 'a', 24),
            ('strange', 'axyz', 4),
            ('torn', 'abc', 4),
        ):
            for c in classes:
                (home / 'images' / name / c).mkdir(parents=True)
                for i in range(n):
                    path = home / 'images' / name / c / f'{name}{i}.png'
                    Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)).save(path)
                    if name == 'torn':
                        path.write_bytes(path.read_bytes()[:60])
        (home / 'images' / 'empty' / 'a').mkdir(parents=True)
        self._configs()
        self._runs()
        self._checkpoints()
        self._lists()
        self._predictions()
        self._kept()

    def _configs(self) -> None:
        home, good = self.home, CONFIG.format(root=str(self.home))
        texts = dict(
            good=good,
            empty='',
            syntax='a = = 3',
            raises=good + "\nraise RuntimeError('on purpose')",
            raises_empty='raise ValueError',
            exits='import sys\nsys.exit(0)',
            interrupts='raise GeneratorExit',
            recursive='def f(): f()\nf()',
            base_of_itself="_base_ = 'base_of_itself.py'\n" + good,
            base_missing="_base_ = 'none.py'\n" + good,
            no_method=re.sub('method = .*', '', good),
            method_none=good + '\nmethod = None',
            method_dotted=good
            + f"\nmethod = dict(type='os.system', command='touch {self.marker}')",
            method_list_type=good + "\nmethod['type'] = ['BYOL']",
            function_value=good + '\nepochs = lambda: 3',
            object_value=good + '\nbase_lr = object()',
            set_value=good + '\nviews = {1, 2}',
            data_list=good + '\ndata = [data]',
            views_dict=good + '\nviews = dict(size=16)',
            imports_missing=good + "\nimports = ['none.py']",
            imports_string=good + "\nimports = 'good.py'",
            imports_raises=good + "\nimports = ['raises.py']",
            imports_exits=good + "\nimports = ['exits.py']",
            presets_bad=good + '\npresets = [3]',
        )
        for name, text in texts.items():
            (home / f'{name}.py').write_text(text)
        (home / 'config.txt').write_text(good)
        (home / 'words.json').write_text('["a"]')
        (home / 'binary.py').write_bytes(bytes(range(256)))
        (home / 'latin.py').write_bytes('name = "äöü"\n'.encode('latin-1') + good.encode())

    def quietly(self, tool: str, *words: str) -> None:
        code, out, err, broke = self.call(tool, list(map(str, words)), {}, self.home)
        if code != 0:
            raise SystemExit(
                f'the files of the campaign cannot be made: {tool} '
                f'{shlex.join(map(str, words))}\n{broke or err}'
            )

    def _runs(self) -> None:
        home, good = self.home, self.names['good']
        self.quietly('train', good, '--work-dir', home / 'run')
        self.quietly('train', good, '--work-dir', home / 'other_run', '--seed', '5')
        [ckpt] = (home / 'run/checkpoints').iterdir()
        self.names['ckpt'] = str(ckpt)
        shutil.copytree(home / 'run', home / 'torn_run')
        torn = home / 'torn_run/checkpoints' / ckpt.name
        torn.write_bytes(torn.read_bytes()[:1000])
        shutil.copy(home / 'other_run/checkpoints' / ckpt.name, home / 'ckpt_other.pth')

    def _checkpoints(self) -> None:
        from ssl_zoo.checkpoint import add_digest

        home, data = self.home, Path(self.names['ckpt']).read_bytes()
        (home / 'empty.pth').write_bytes(b'')
        (home / 'binary.pth').write_bytes(bytes(range(256)) * 40)
        (home / 'text.pth').write_text('these are words\n')
        (home / 'cut.pth').write_bytes(data[: len(data) // 2])
        (home / 'flipped.pth').write_bytes(
            data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 16]) + data[len(data) // 2 + 1 :]
        )
        (home / 'hostile.pth').write_bytes(pickle.dumps(Hostile(self.marker)))
        torch.save(torch.nn.Linear(2, 2), home / 'foreign.pth')
        torch.save([1, 2], home / 'list.pth')

        def save(name, change=None, **items):
            content = torch.load(self.names['ckpt'], weights_only=True)
            content.update(items)
            if change is not None:
                change(content)
            content.pop('sha256')
            torch.save(add_digest(content), home / f'{name}.pth')

        content = torch.load(self.names['ckpt'], weights_only=True)
        torch.save(content['method'], home / 'plain.pth')
        torch.save(dict(content, format=torch.zeros(3)), home / 'format_tensor.pth')
        torch.save(add_digest(dict(format=content['format'])), home / 'format_only.pth')
        torch.save(dict(content, sha256=torch.zeros(3)), home / 'sha_tensor.pth')
        torch.save({k: v for k, v in content.items() if k != 'sha256'}, home / 'no_sha.pth')
        for key, name in (('config', 'no_config'), ('step', 'no_step'), ('method', 'no_weights')):
            save(name, lambda content, key=key: content.pop(key))
        config = content['config']
        save('config_int', config=5)
        save('config_list', config=[1, 2])
        save('config_data_int', config=dict(config, data=5))
        save('config_unknown', config=dict(config, nosuch=5))
        save('config_types', config=dict(config, epochs='ten', views=3, workers=[]))
        save(
            'config_dotted',
            config=dict(config, method=dict(type='os.system', command=f'touch {self.marker}')),
        )
        save('config_no_method', config={k: v for k, v in config.items() if k != 'method'})
        save('config_keys_int', config={**config, 5: 3})
        save('config_infinite', config=dict(config, base_lr=float('inf')))
        save('step_text', step='ten')
        save('step_late', step=10**6)
        save('weights_int', method=5)
        save('weights_list', method=[1])
        few = dict(list(content['method'].items())[:3])
        save('weights_few', method=few)
        save('weights_shapes', method={k: torch.zeros(1, 2, 3) for k in content['method']})
        save(
            'weights_nan',
            method={
                k: torch.full_like(v, float('nan')) if v.is_floating_point() else v
                for k, v in content['method'].items()
            },
        )
        save('optimizer_int', optimizer=5)
        save('optimizer_few', optimizer=dict(state={}, param_groups=[]))
        save('manifest_tensor', manifest=torch.zeros(3))

    def _lists(self) -> None:
        home = self.home
        names = [f'{c}/train{i}.png' for c in 'abc' for i in range(8)]
        texts = dict(
            list_missing='no/1.png\nno/2.png\n',
            list_latin=b'\xe4\xf6\xfc.png\n',
            list_empty='\n\n',
            list_half='a.png\t1\nb.png\n',
            list_nul='a\0b.png\n',
            list_long='n' * 5000 + '\n',
            list_gone='images/train/a/train0.png\t0\nno.png\t1\n',
            labels='\n'.join(names[::3]) + '\n',
            labels_unknown='a/none.png\n',
            labels_twice=f'{names[0]}\n{names[0]}\n',
            labels_one='\n'.join(names[:3]),
            labels_all='\n'.join(names),
        )
        for name, text in texts.items():
            (home / f'{name}.txt').write_bytes(text if isinstance(text, bytes) else text.encode())
        self.quietly('make_shards', self.names['source'], home / 'shards', '--per-shard', '10')
        for name in (
            'shards_cut',
            'shards_text',
            'shards_gzip',
            'shards_hostile_index',
            'shards_json_text',
            'shards_json_folder',
        ):
            (home / name).mkdir()
        whole = (home / 'shards/shard-000000.tar').read_bytes()
        (home / 'shards_cut/a.tar').write_bytes(whole[: len(whole) // 2])
        (home / 'shards_text/a.tar').write_text('words')
        (home / 'shards_gzip/a.tar').write_bytes(gzip.compress(whole))
        (home / 'shards_json_text/shards.json').write_text('words')
        (home / 'shards_json_text/a.tar').write_bytes(whole)
        (home / 'shards_json_folder/shards.json').mkdir()
        (home / 'shards_json_folder/shards.json/x').write_text('')
        shutil.copytree(home / 'shards', home / 'shards_hostile_index', dirs_exist_ok=True)
        shards = json.dumps([f'shard-{i:06d}.tar' for i in range(3)])
        name = f'index-{hashlib.sha256(shards.encode()).hexdigest()[:8]}.npz'
        fields = dict.fromkeys(
            ('counts', 'offsets', 'sizes', 'suffixes', 'labels', 'ends', 'keys', 'state'),
            np.array([Hostile(self.marker)], dtype=object),
        )
        np.savez(home / 'shards_hostile_index' / name, allow_pickle=True, **fields)
        flowers = home / 'flowers_rubbish/flowers-102'
        (flowers / 'jpg').mkdir(parents=True)
        for file in ('imagelabels.mat', 'setid.mat'):
            (flowers / file).write_text('words')

    def _predictions(self) -> None:
        home = self.home
        self.quietly('knn', self.names['ckpt'], '--work-dir', home / 'figures', '--k', '1')
        path = next((home / 'figures/predictions').iterdir())
        self.names['preds'] = str(path)
        data, arrays = path.read_bytes(), dict(np.load(path))
        middle = data.index(b'predicted.npy') + 60
        (home / 'cut.npz').write_bytes(data[: len(data) // 2])
        (home / 'flipped.npz').write_bytes(
            data[:middle] + bytes([data[middle] ^ 16]) + data[middle + 1 :]
        )
        np.savez(
            home / 'hostile.npz',
            **dict(arrays, predicted=np.array([Hostile(self.marker)], dtype=object)),
        )
        n = len(arrays['labels'])
        for name, change in dict(
            shapes=dict(predicted=arrays['predicted'][:3]),
            floats=dict(predicted=arrays['predicted'] * 1.5),
            negative=dict(labels=arrays['labels'] - 5),
            huge=dict(labels=arrays['labels'] + 2**60),
            empty=dict(
                predicted=np.zeros((0, 1), int), labels=np.zeros(0, int), names=np.array([], 'U')
            ),
            other_names=dict(names=np.array([f'x{i}' for i in range(n)])),
            other_labels=dict(labels=arrays['labels'][::-1].copy()),
            row_list=dict(row=np.array('[1]')),
            row_text=dict(row=np.array('{')),
            row_strange=dict(row=np.array('{"config": [1], "weights": {"a": []}, "layer": 5}')),
        ).items():
            np.savez(home / f'p_{name}.npz', **dict(arrays, **change))
        np.savez(home / 'p_missing.npz', labels=arrays['labels'])

    def _kept(self) -> None:
        """Folders with what a stopped or finished command leaves, and rubbish in it."""
        home = self.home
        figures = home / 'figures'
        for name in ('features_rubbish', 'features_pickled', 'results_rubbish'):
            shutil.copytree(figures, home / name)
        for path in (home / 'features_rubbish').rglob('*'):
            if path.is_file() and path.suffix in ('.json', '.npy'):
                path.write_bytes(b'words')
        for path in (home / 'features_pickled').rglob('*.npy'):
            np.save(path, np.array([Hostile(self.marker)], dtype=object), allow_pickle=True)
        (home / 'results_rubbish/results.jsonl').write_bytes(b'\xff\xfe words without end')
        from ssl_zoo.evaluation.protocols import linear

        rmtree, linear.shutil.rmtree = shutil.rmtree, lambda *_, **__: None
        try:
            self.quietly(
                'linear',
                *shlex.split(
                    GOOD['linear'].format(**self.names).replace(' work ', f' {home}/linear ')
                ),
            )
        finally:
            linear.shutil.rmtree = rmtree
        self.quietly(
            'semi_supervised',
            *shlex.split(
                GOOD['semi_supervised'].format(**self.names).replace(' work ', f' {home}/semi ')
            ),
        )

        def variant(of, name, pattern, write):
            shutil.copytree(home / of, home / name)
            [path] = (home / name).rglob(pattern)
            write(path)

        variant('linear', 'linear_rubbish', 'trained.pth', lambda p: p.write_bytes(b'words'))
        variant('linear', 'linear_foreign', 'trained.pth', lambda p: torch.save(dict(heads={}), p))
        variant(
            'linear',
            'linear_hostile',
            'trained.pth',
            lambda p: p.write_bytes(pickle.dumps(Hostile(self.marker))),
        )
        variant(
            'linear',
            'linear_state',
            'trained.pth',
            lambda p: p.rename(p.with_name('state.pth')).write_bytes(b'words'),
        )
        variant('semi', 'semi_scores_text', 'scores.json', lambda p: p.write_text('words'))
        variant('semi', 'semi_scores_types', 'scores.json', lambda p: p.write_text('{"a": 3}'))
        variant(
            'semi',
            'semi_scores_many',
            'scores.json',
            lambda p: p.write_text('[[1, 2], [3, 4], [5, 6]]'),
        )
        variant('semi', 'semi_best_text', 'best.pth', lambda p: p.write_bytes(b'words'))
        variant('semi', 'semi_best_foreign', 'best.pth', lambda p: torch.save(dict(a=3), p))
        variant('semi', 'semi_best_gone', 'best.pth', lambda p: p.unlink())
        variant(
            'semi',
            'semi_hostile',
            'best.pth',
            lambda p: p.write_bytes(pickle.dumps(Hostile(self.marker))),
        )
        run = Path('all_done', f'{home.name}_good', 'seed_0')
        shutil.copytree(home / 'run', home / run)
        variant(
            'all_done',
            'all_other_settings',
            'results.jsonl',
            lambda p: p.write_text(p.read_text().replace('"batch_size": 6', '"batch_size": 7')),
        )
        variant('all_done', 'all_rubbish', 'results.jsonl', lambda p: p.write_bytes(b'\xff\xfe\n'))
        variant('all_done', 'all_words', 'results.jsonl', lambda p: p.write_text('3\n["a"]\n'))
        (home / 'all_table_folder/table.md').mkdir(parents=True)
        (home / 'all_table_folder/table.md/x').write_text('')
        console = home / 'all_console_folder' / f'{home.name}_good' / 'seed_0' / 'console.log'
        console.mkdir(parents=True)
        (console / 'x').write_text('')
        self.quietly('new_method', 'my_method', '--out', home / 'method_there')


# --- Random inputs.

NASTY = (
    'nan',
    'inf',
    '-inf',
    '1e400',
    '-1e400',
    '0',
    '-0.0',
    '-1',
    '1',
    '2',
    '1e-300',
    '1e300',
    '10**9',
    '9' * 400,
    '9' * 5000,
    str(2**63),
    'None',
    'True',
    'False',
    '[]',
    '{}',
    '()',
    "''",
    "'a'",
    '[[]]',
    '{[]: 1}',
    '{1: 2}',
    '(' * 300,
    '[' * 100 + ']' * 100,
    "b'a'",
    "'\\0'",
    "'\\udcff'",
    '1j',
    '...',
    '{1, 2}',
    '[None]',
    '[nan]',
    '0.5',
    '1.5',
    '[0.1, 0.2]',
    '[1, 2, 3]',
    'auto',
    'cosine',
    'steps',
)


def properties(examples: int, home: Path, names: dict[str, str], result: Result) -> None:
    """Random options, checkpoints, lists, patterns and settings, always the same ones."""
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    from ssl_zoo.checkpoint import read_checkpoint
    from ssl_zoo.config.loading import load_config
    from ssl_zoo.config.settings import (
        Checkpoints,
        Data,
        OnlineEvaluation,
        Parallel,
        Schedule,
        Settings,
        settings_from_dict,
    )
    from ssl_zoo.data.label_lists import draw_labels, read_list
    from ssl_zoo.data.sources.file_list import FileList
    from ssl_zoo.data.sources.shard_paths import find_shards
    from ssl_zoo.data.sources.shards import TarShards
    from ssl_zoo.data.views import View
    from ssl_zoo.engine.plan import Plan
    from ssl_zoo.errors import ConfigError
    from ssl_zoo.storage.digest import sha256_of_tensors

    seen = set()

    def attempt(kind: str, what: str, function) -> object:
        """Return the function's result, or None for a ConfigError.

        Any other exception is a failure, printed once for each line of code that raises it.
        """

        def late(*_):
            raise Late('not done after 20 s')

        handler = signal.signal(signal.SIGALRM, late)
        signal.setitimer(signal.ITIMER_REAL, 20)
        try:
            found = function()
        except ConfigError as error:
            found = None
            result.add(
                kind,
                what,
                None
                if str(error).strip() and '\n' not in str(error)[:5]
                else 'an error without a sentence',
            )
        except (Exception, Late) as error:
            found, frame = None, traceback.extract_tb(error.__traceback__)[-1]
            key = kind, type(error), frame.filename, frame.lineno
            if key not in seen:
                result.add(kind, what, 'an exception reaches the user', traceback.format_exc())
            seen.add(key)
        else:
            result.add(kind, what, None)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
        return found

    def campaign(function):
        settings(
            max_examples=examples,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )(function)()

    def fields_of(cls, prefix=''):
        return [prefix + name for name in cls.__dataclass_fields__]

    keys = st.sampled_from(
        [
            *fields_of(Settings),
            *fields_of(Data, 'data.'),
            *fields_of(OnlineEvaluation, 'online_eval.'),
            *fields_of(Checkpoints, 'checkpoint.'),
            *fields_of(Parallel, 'parallel.'),
            *fields_of(Schedule, 'schedule.'),
            *fields_of(View, 'views.0.'),
            'views.1',
            'views.7.size',
            *(
                f'method.{k}'
                for k in (
                    'type',
                    'hidden_dim',
                    'proj_dim',
                    'base_ema',
                    'backbone.name',
                    'backbone.width',
                    'backbone.layers',
                )
            ),
            *(f'optimizer.{k}' for k in ('type', 'momentum', 'lr', 'x')),
            *(f'data.train.{k}' for k in ('type', 'root', 'limit')),
            'presets',
        ]
    )
    numbers = st.one_of(st.integers(), st.integers(0, 300), st.floats(), st.floats(0, 3))
    literals = st.recursive(
        st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=4),
            st.tuples(inner, inner),
            st.dictionaries(st.text(max_size=5), inner, max_size=3),
        ),
        max_leaves=6,
    )
    values = st.one_of(
        numbers.map(repr), literals.map(repr), st.sampled_from(NASTY), st.text(max_size=20)
    )
    option = st.one_of(
        st.builds('{}={}'.format, keys, values),
        st.builds('{}={}'.format, keys, values),
        st.text(max_size=20),
    )
    good = names['good']

    @given(st.lists(option, min_size=1, max_size=4))
    def random_options(options):
        attempt('random options', shlex.join(options), lambda: load_config(good, options))

    # Values of about the right kind, so that some get through the check.
    likely = {
        key: st.one_of(
            st.integers(0, 10), st.integers(1, 10**6), st.floats(0, 5), st.floats(0, 1e300), numbers
        )
        for key in (
            'epochs',
            'batch_size',
            'base_lr',
            'weight_decay',
            'weight_decay_end',
            'warmup_epochs',
            'max_device_batch',
            'norm_and_bias_lr',
            'clip_grad',
            'seed',
            'log_every',
        )
    }
    likely['accumulate'] = st.one_of(st.just('auto'), st.integers(1, 64))
    parts = st.fixed_dictionaries(
        {},
        optional=dict(
            shape=st.sampled_from(['cosine', 'steps']),
            start=st.floats(0, 1),
            end=st.floats(0, 1),
            gamma=st.floats(0, 1),
            per_epoch=st.booleans(),
            milestones=st.lists(st.one_of(st.integers(1, 9), st.floats(0, 9)), max_size=3),
        ),
    )
    base = load_config(good).to_builtin()

    @given(
        st.fixed_dictionaries({}, optional=likely), parts, st.integers(1, 10**7), st.integers(1, 16)
    )
    def random_plans(changes, schedule, images, processes):
        def plan():
            found = Plan.of(
                settings_from_dict(
                    dict(base, schedule=schedule, **changes)
                    if not changes.keys() & base.keys()
                    else {**base, 'schedule': schedule, **changes}
                ),
                images,
                processes,
            )
            for step in {
                0,
                1,
                min(found.warmup_steps, found.steps - 1),
                found.steps // 2,
                found.steps - 1,
            }:
                lr, decay = found.lr(step), found.weight_decay(step)
                if not (0 <= lr < float('inf') and 0 <= decay < float('inf')):
                    raise ValueError(f'lr {lr}, weight decay {decay} at step {step}')
            return found

        attempt('random plans', f'{changes} {schedule} images={images} processes={processes}', plan)

    data, original = (
        Path(names['ckpt']).read_bytes(),
        sha256_of_tensors(read_checkpoint(names['ckpt'])),
    )

    @given(
        st.integers(0, len(data)),
        st.one_of(st.integers(0, 40), st.integers(0, len(data))),
        st.binary(max_size=40),
    )
    def spliced(start, cut, new):
        path = home.parent / 'spliced.pth'
        path.write_bytes(data[:start] + new + data[start + cut :])

        def read():
            if sha256_of_tensors(read_checkpoint(path)) != original:
                raise ValueError('other content was read')

        attempt('spliced checkpoints', f'{start}, {cut}, {new!r}', read)

    # Places that the bytes of tensors fill seldom: the zip's directory and the pickle.
    places = [m.start() for m in re.finditer(rb'PK|data\.pkl|torch|sha256|config', data)]

    @given(st.sampled_from(places), st.integers(-8, 60), st.binary(min_size=1, max_size=4))
    def spliced_heads(start, offset, new):
        place = max(start + offset, 0)
        spliced.hypothesis.inner_test(place, len(new), new)

    lines = st.one_of(
        st.sampled_from(
            [
                'images/train/a/train0.png',
                'images/train/b/train1.png',
                'a/train0.png',
                'train0.png',
                '.',
                '..',
                '/',
            ]
        ),
        st.text(max_size=12),
    )
    ends = st.sampled_from(
        ['', '\t0', '\tdog', ' 1', '\t', '\t99999999999', '\t-1', '\t²', '\t٣', '\ta\tb']
    )
    texts = st.one_of(
        st.lists(st.builds('{}{}'.format, lines, ends), max_size=5).map(
            lambda rows: '\n'.join(rows).encode(errors='surrogatepass')
        ),
        st.binary(max_size=60),
    )
    from ssl_zoo.data.sources.folder import ImageFolder

    source, file = ImageFolder(f'{home}/images/train'), home.parent / 'random.txt'

    @given(texts)
    def random_lists(text):
        file.write_bytes(text)
        attempt('random lists', repr(text), lambda: FileList(str(file), str(home)).manifest())
        attempt('random lists', repr(text), lambda: read_list(file, source))

    @given(
        st.one_of(
            st.text(max_size=12),
            st.builds(
                '{}{}'.format, st.integers(), st.sampled_from(['%', '-per-class', '.%', ' %'])
            ),
            st.from_regex(r'[\d.]{1,400}%', fullmatch=True),
        )
    )
    def random_labels(text):
        attempt('random labels', repr(text), lambda: draw_labels(source, text, 0))

    pieces = st.sampled_from(
        [
            '{',
            '}',
            '{0..3}',
            '{a,b}',
            '{000..146}',
            '{9..0}',
            ',',
            '..',
            '*',
            '?',
            '[',
            ']',
            '[a-',
            '/',
            '~',
            'shard-',
            '.tar',
            '\0',
            '{0..99999999999}',
            'x' * 300,
            '**',
        ]
    )

    @given(
        st.one_of(
            st.lists(st.one_of(pieces, st.text(max_size=4)), max_size=8).map(''.join),
            st.one_of(st.none(), st.integers(), st.lists(st.text(max_size=3), max_size=2)),
        )
    )
    def random_patterns(pattern):
        shards = f'{home}/shards/{pattern}' if isinstance(pattern, str) else pattern
        attempt('random shard patterns', repr(shards), lambda: find_shards(shards))

    tar, folder = (home / 'shards/shard-000000.tar').read_bytes(), home.parent / 'spliced'
    folder.mkdir(exist_ok=True)

    @given(
        st.one_of(st.integers(0, len(tar)), st.integers(0, 1600)),
        st.integers(0, 20),
        st.binary(max_size=20),
    )
    def spliced_shards(start, cut, new):
        for left in folder.iterdir():
            left.unlink()
        (folder / 'a.tar').write_bytes(tar[:start] + new + tar[start + cut :])
        attempt(
            'spliced shards', f'{start}, {cut}, {new!r}', lambda: TarShards(str(folder)).manifest()
        )

    for function in (
        random_options,
        random_plans,
        spliced,
        spliced_heads,
        random_lists,
        random_labels,
        random_patterns,
        spliced_shards,
    ):
        campaign(function)


def tools() -> list[str]:
    return [*GOOD, *(['replay'] if (ROOT / 'tools/replay.py').exists() else [])]


def main(argv=None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        '--only',
        nargs='+',
        choices=[*tools(), 'processes', 'random'],
        metavar='PART',
        help='tools, processes, random; default: all',
    )
    parser.add_argument(
        '--examples', type=int, default=300, help='of each kind of random input; default: 300'
    )
    args = parser.parse_args(argv)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, resource.getrlimit(resource.RLIMIT_AS)[1]))
    only, started = args.only or [*tools(), 'processes', 'random'], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, 'home')
        home.mkdir()
        campaign = Campaign(home)
        campaign.run([tool for tool in tools() if tool in only])
        if 'processes' in only:
            for tool, line in PROCESSES:
                campaign.attempt(tool, line, campaign.process)
        if 'random' in only:
            properties(args.examples, home, campaign.names, campaign.result)
    print(campaign.result.told())
    print(f'{time.perf_counter() - started:.0f} s')
    return 1 if campaign.result.failures else 0


if __name__ == '__main__':
    sys.exit(main())
