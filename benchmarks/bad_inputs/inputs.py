"""The inputs of the campaign, as data: one command line per line, for every tool.

How to read a line:

- ``+ LINE``: the input is legal and must succeed. ``? LINE``: the input may succeed.
- ``NAME=value`` at the start: an environment variable.
- ``{name}``: a value or a file that the campaign makes, see ``Campaign.names`` and files.py.
- An empty line: no arguments.
- ``@name``: a copy of the folder {home}/name in the current directory; ``@odd`` is made anew, and
  holds a FIFO, links, a device and files of other programs, which must not change.
- ``{bare}``: a checkpoint without the arguments of WORKING; ``{nolabels}``: without --labels.

In the tables of evaluation tools, the arguments of the working command are put before the line's
own arguments, without those that the line has itself.
"""

# The config of all runs; {root} is the folder of the campaign.
CONFIG = """
method = dict(type='BYOL', hidden_dim=16, proj_dim=8,
              backbone=dict(name='resnet18', stem='cifar', width=0.125, layers=[1, 1, 1, 1]))
data = dict(train=dict(type='ImageFolder', root={root!r} + '/images/train'), val=6,
            test=dict(type='ImageFolder', root={root!r} + '/images/test'),
            mean=[0.5] * 3, std=[0.5] * 3)
views = [dict(size=16)] * 2
optimizer = dict(type='LARS', momentum=0.9)
epochs = 1
batch_size = 6
base_lr = 1.0
workers = 0
online_eval = dict(every=0)
"""

# For each tool a command that works; it must still work after a bad input. A run of train_all takes
# seconds, so train_all has no working command.
WORKING = dict(
    train='{good} --work-dir work',
    train_all='{home}/none.py --out work',
    extract_features='{ckpt} --work-dir work',
    knn='{ckpt} --work-dir work --k 1',
    linear='{ckpt} --work-dir work --epochs 1 --lrs 0.1 --batch-size 6',
    semi_supervised='{ckpt} --work-dir work --labels 2-per-class --epochs 1 --lrs 0.1 '
    '--batch-size 4',
    transfer='{ckpt} --work-dir work --train {home}/images/train --test {home}/images/test '
    '--strengths 1',
    compare='{preds} {preds}',
    new_method='my_method --out work',
    make_shards='"{source}" work',
)

# Configs for train.
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
{home}/hostile.yaml
{home}/hostile.yml
{home}/hostile.json
{home}/base_yaml.py
{home}/base_list_yaml.py
{home}/imports_yaml.py
{home}/{bytes}.py
{home}/{long}.py
{home}/ünïcode.py
""
"""

# Values of --cfg-options for train.
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
data.train.root={home}/images/postscript
data.train.root={home}/images/bombs
"data.train={{'type': 'TarShards', 'shards': '{home}/shards_two_labels'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/{braces}.tar'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/{product}.tar'}}"
"data.train={{'type': 'TarShards', 'shards': '{home}/shards_few_names'}}"
"data.test={{'type': 'TarShards', 'shards': '{home}/shards_other_names'}}"
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

# Values of --cfg-options with which training must succeed.
LEGAL_OPTIONS = """
"data.train.root={home}/images/one data.test=None"
data.mean=[0,0,0]
"data.train={{'type': 'TarShards', 'shards': '{home}/shards'}} data.val=None data.test=None"
"data.train={{'type': 'TarShards', 'shards': '{hostile_index}'}} data.val=None data.test=None"
"data.train={{'type': 'Images', 'root': '{home}/images/train'}} data.val=None data.test=None"
"accumulate=auto max_device_batch=4"
"data.train.root={home}/{bytes} data.test.root={home}/{bytes}"
base_lr=1e-12
online_eval.k=1000000
schedule={{}}
clip_grad=1e-300
seed=3
"""

# Values of --cfg-options for a dry run. They may succeed: only the training itself would fail.
DRY_OPTIONS = """
epochs=1e300
epochs=1e9
base_lr=1e300
base_lr=1e30
method.hidden_dim=0
views.0.size=100000
"""

# Other arguments of train.
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
{good} --work-dir work --resume {home}/optimizer_text.pth
{good} --work-dir work --resume {home}/manifest_tensor.pth
{good} --work-dir work --resume {home}/accumulate_zero.pth
{good} --work-dir work --resume {home}/progress_text.pth
{good} --work-dir work --resume {home}/claims_stride.pth
{good} --work-dir work --resume {home}/claims_shared.pth
{good} --work-dir work --resume {home}/claims_zip.pth
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
{good} --work-dir {bytes}
{good} --work-dir @odd/fifo
{good} --work-dir @odd/link
{good} --work-dir work --resume @odd/fifo
{good} --work-dir work --cfg-options {bytes}=3
? {good} --work-dir work --seed 4294967296
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

# Checkpoints for the evaluation tools.
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
    'accumulate_zero.pth',
    'images_text.pth',
    'backbone_fetches.pth',
    'backbone_opens.pth',
    'backbone_writes.pth',
    'layers_many.pth',
    'width_large.pth',
    'views_many.pth',
    'claims_stride.pth',
    'claims_meta.pth',
    'claims_cycle.pth',
    'claims_shared.pth',
    'claims_texts.pth',
    'claims_zip.pth',
    'good.py',
    '{long}.pth',
    'planted_overlay.pth',
    'planted_path.pth',
    'planted_download.pth',
    'huge_tensor.pth',
    'cycle.pth',
    'shared_lists.pth',
    'zip_bomb.pth',
    'absurd_layers.pth',
    'absurd_width.pth',
    'absurd_views.pth',
    'accumulate_zero.pth',
    '{bytes}.pth',
)

# Arguments that all evaluation tools share.
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
? {ckpt} --cfg-options "data.test={{'type': 'Images', 'root': '{home}/images/test'}}"
{ckpt} --cfg-options "data.train={{'type': 'TarShards', 'shards': '{home}/shards_cut'}}"
{ckpt} --cfg-options "data.train={{'type': 'FileList', 'path': '{home}/list_missing.txt'}}"
{ckpt} --cfg-options "data.train={{'type': 'FileList', 'path': '{home}/list_latin.txt'}}"
{ckpt} --cfg-options data.train.root={home}/images/postscript data.val=None
{ckpt} --cfg-options data.test.root={home}/images/postscript
{ckpt} --cfg-options data.test.root={home}/images/bombs
{ckpt} --cfg-options "data.train={{'type': 'TarShards', 'shards': '{home}/{braces}.tar'}}"
{ckpt} --imports {home}/hostile.yaml
{ckpt} --work-dir {bytes}
{ckpt} --work-dir @odd/fifo
? {ckpt} --seed 4294967296
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

# Arguments of single evaluation tools.
TOOL_ARGUMENTS = dict(
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
{ckpt} --cfg-options data.train.root={one} data.val=None data.test.root={one}
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

# Arguments of the other tools.
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
{home}/hostile.yaml --out work
{home}/base_yaml.py --out work
{good} --out {bytes}
{good} --out @odd/fifo
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
{preds} {home}/{bytes}.npz
{preds} @odd/fifo
{preds} /dev/zero
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
my_method --out {bytes}
my_method --out @odd/fifo
{bytes}
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
"{source}" {bytes}
"{source}" @odd/fifo
"{source}" @odd/link
? "{source}" @odd
"{{'type': 'TarShards', 'shards': '{home}/{braces}.tar'}}" work
"{{'type': 'TarShards', 'shards': '{home}/{product}.tar'}}" work
"{{'type': 'TarShards', 'shards': '{home}/shards_two_labels'}}" work
"{source}" work --imports {home}/hostile.yaml
+ "{{'type': 'ImageFolder', 'root': '{home}/{bytes}'}}" work
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
{home}/replay_few.pth
{home}/replay_types.pth
{home}/claims_zip.pth
@run --nosuch
/proc/none
{long}
"""

STUDY = """

{home}/none.py --out work
{home}/hostile.yaml --out work
{home}/hostile.json --out work
{home}/base_yaml.py --out work
{home}/good.py --out work
{home}/exits.py --out work
{home}/study_yaml.py --out work
digits --out {good} --seeds 0
digits --out {bytes} --seeds 0 --plan
digits --out @odd/fifo --seeds 0
digits --out work --seeds x
digits --out work --jobs 0
digits --out work --cfg-options epoch=3
digits --out work --report
digits --out @odd --report
"""

# Rows of results that a tool must not trust, see hostile_files.ROWS.
LEADERBOARD = """

{home}/none
{home}/images --out work/board.html
{home}/empty.pth --out work/board.html
{home}/{bytes} --out work/board.html
/dev/zero --out work/board.html
{home}/{long} --out work/board.html
{home}/run --out {long}
@odd/fifo --out work/board.html
{home}/run --out @odd/fifo
{home}/run --out @odd/link
{home}/run --out @odd/device
{home}/run --out @odd/folder
{home}/run --out @odd/notes.txt
{home}/run --out work/a.html --csv @odd/fifo
{home}/run --out work/a.html --csv @odd/link
{home}/run --out work/a.html --csv @odd/device
{home}/run --out work/a.html --csv @odd/results.jsonl
{home}/run --out {good}/x
{home}/run --out {bytes}.html
{home}/run --metric none --out work/board.html
? {home}/rows_numbers --out work/board.html
? {home}/rows_types --out work/board.html
? {home}/rows_text --out work/board.html
? {home}/rows_formula --out work/board.html --csv work/board.csv
? {home}/rows_deep --out work/board.html
? {home}/rows_binary --out work/board.html
? {home}/rows_fifo --out work/board.html
+ {home}/run --out work/board.html --csv work/board.csv
"""

PLOT = """

{home}/none --out plot.png
{home}/images --out plot.png
/dev/zero --out plot.png
{home}/{long} --out plot.png
{home}/run --out {long}.png
@odd/fifo --out plot.png
{home}/run --out plot.exe
{home}/run --out {bytes}.png
{home}/run --out @odd/fifo
{home}/run --out @odd/link.png
{home}/run --out @odd/folder
{home}/run --out {good}/x.png
{home}/run --keys none --out plot.png
? {home}/log_numbers --out plot.png
? {home}/log_types --out plot.png
? {home}/log_binary --out plot.png
? {home}/log_fifo --out plot.png
+ {home}/run --out plot.png
+ {home}/run --out plot.svg
"""

REPORT = """

{home}/none --no-images
{home}/images --no-images
/dev/zero --no-images
{home}/{long} --no-images
{home}/{bytes} --no-images
{home}/run --no-images --out {long}.html
{home}/run --no-images --out {bytes}.html
{home}/run --no-images --out @odd/fifo
{home}/run --no-images --out @odd/link
{home}/run --no-images --out @odd/folder
{home}/run --no-images --out {good}/x.html
{home}/run --no-images --out {good}
{home}/run --out page.html --cfg-options epochs=2
{home}/run --out page.html --cfg-options data.train.root={home}/none
{home}/run --out page.html --imports {home}/none.py
{home}/run --out page.html --workers -1
? {home}/log_numbers --out page.html
? {home}/log_types --out page.html
? {home}/log_binary --out page.html
? {home}/log_fifo --out page.html
? {home}/torn_run --out page.html
+ {home}/run --no-images --out page.html
+ {home}/run --out page.html
"""

SHOW_VIEWS = """

{home}/none.py --out views.png
{home}/hostile.yaml --out views.png
{home}/base_yaml.py --out views.png
{home}/good.py --out {good}/x
{home}/good.py --out {bytes}.png
{home}/good.py --out @odd/fifo
{home}/good.py --out @odd/link.png
{home}/good.py --out views.png --images 0
{home}/good.py --out views.png --images -1
{home}/good.py --out views.png --first 1000000
{home}/good.py --out views.png --epoch -1
{home}/good.py --out views.png --seed -1
{home}/good.py --out views.png --cfg-options data.train.root={home}/images/postscript
{home}/good.py --out views.png --cfg-options data.train.root={home}/images/bombs
+ {home}/good.py --out views.png
+ {home}/good.py --out views.png --cfg-options data.train.root={home}/{bytes}
"""

EXPORT = """

{ckpt} --format timm
{ckpt} --format tim --out out.pth
{ckpt} --format timm --out {good}
{ckpt} --format timm --out {good}/x
{ckpt} --format timm --out {bytes}.pth
{ckpt} --format timm --out @odd/fifo
{ckpt} --format timm --out @odd/link
{ckpt} --format safetensors --out @odd/device
{ckpt} --format safetensors --out @odd/fifo
{ckpt} --format safetensors --out @odd/link
{ckpt} --format safetensors --out @odd/notes.txt/
{ckpt} --format safetensors --out {long}
{ckpt} --format safetensors --out {long}.safetensors
{ckpt} --format safetensors --out /proc/none
{ckpt} --format safetensors --out {bytes}
{ckpt} --format timm --out @odd/folder
{ckpt} --format timm --out out.pth --dynamic-size
{ckpt} --format timm --out out.pth --network teacher
{ckpt} --format timm --out out.pth --images 0
{ckpt} --format timm --out out.pth --imports {home}/hostile.yaml
{ckpt} --format timm --out out.pth --cfg-options data.test.root={home}/images/postscript
+ {ckpt} --format timm --out out.pth
+ {ckpt} --format safetensors --out out/model.safetensors
+ {ckpt} --format safetensors --out @odd/folder
"""

IMPORT = """

{home}/none.pth --out work
{home}/images --out work
/dev/zero --out work
@odd/fifo --out work
{home}/huge_layer.pth --out work
{home}/infinite.pth --out work
{ckpt} --out {bytes}
{ckpt} --out @odd/fifo
{ckpt} --out {good}
{ckpt} --out work --layout none
{ckpt} --out work --backbone none
"""

# Inputs that are also tried in a new process.
PROCESSES = (
    (
        'train',
        'WORLD_SIZE=2 RANK=1 MASTER_ADDR=localhost MASTER_PORT=29513 {good} '
        '--cfg-options parallel.timeout=1',
    ),
    ('train', '{home}/none.py'),
    ('train', '{good} --cfg-options epochs=nan'),
    ('train', 'WORLD_SIZE=2 {good}'),
    ('knn', '{home}/hostile.pth --work-dir work'),
    ('train', '{home}/hostile.yaml --work-dir work'),
    ('knn', '{home}/planted_overlay.pth --work-dir work --random-weights'),
    ('leaderboard', '{home}/{bytes} --out board.html'),
    ('linear', '{home}/cut.pth --work-dir work'),
    ('make_shards', '"{{[]: 3}}" work'),
    ('new_method', '{long} --out work'),
    ('compare', '{preds} {home}/hostile.npz'),
)

# Values from which random options are drawn.
UNUSUAL_VALUES = (
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
