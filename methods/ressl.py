"""ReSSL: Relational Self-Supervised Learning with Weak Augmentation.

Zheng et al. 2021, arXiv 2107.09282. The similarities of a strongly augmented view to older images
must match those of the weakly augmented view. The student gets the first, strongly augmented view;
the teacher gets the second, weakly augmented view.

From the official code (mingkai-zheng/ReSSL):
  - The head has no BatchNorm.
  - The teacher starts as a copy of the student, follows the student with a constant decay and is
    normalised with shuffled BatchNorm, as in MoCo (methods/moco.py).
"""

import copy
from collections import OrderedDict
from typing import Any

from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.distributed.batchnorm import shuffle_bn, split_batchnorm
from ssl_zoo.layers import EMA, Queue, mlp
from ssl_zoo.losses import feature_std, l2_normalize, similarity, soft_cross_entropy
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive, check_unit_interval


@METHODS.register_module()
class ReSSL(Method):
    """The student's similarities to a queue of images must match the teacher's, which are sharper.

    Args:
        backbone: keys of build_backbone, at least ``name``.
        hidden_dim: hidden width of the projector (code: 4096).
        proj_dim: width of the projection (code: 512).
        queue_size: K, number of older images (131072).
        student_temperature: tau_s (0.1).
        teacher_temperature: tau_t (0.04).
        decay: decay of the teacher (0.999, constant).
        bn_splits: number of parts of the global batch. BatchNorm normalises each part separately,
            as each of ``bn_splits`` GPUs would. With more processes than parts, the images of each
            process are a part.
    """

    n_views = 2
    sync_batchnorm = False  # it would undo shuffled BatchNorm, as in MoCo
    updated_after_step = ('teacher', 'queue')
    networks = dict(
        online=('student.backbone', 'student.projector'),
        target=('teacher.network.backbone', 'teacher.network.projector'),
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 4096,
        proj_dim: int = 512,
        queue_size: int = 131072,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        decay: float = 0.999,
        bn_splits: int = 1,
    ):
        super().__init__()
        check_positive(
            student_temperature=student_temperature, teacher_temperature=teacher_temperature
        )
        check_unit_interval(decay=decay)
        self.student_temperature = student_temperature
        self.teacher_temperature = teacher_temperature
        self.decay = decay
        f = build_backbone(**backbone)
        g = mlp(f.embed_dim, hidden_dim, proj_dim, norm=False)
        student = nn.Sequential(OrderedDict(backbone=f, projector=g))
        self.student = split_batchnorm(student, bn_splits)
        self.teacher = EMA(copy.deepcopy(self.student))
        self.queue = Queue(queue_size, proj_dim)
        self.microbatch_multiple = bn_splits
        self.microbatch_minimum = 2 * bn_splits  # BatchNorm needs two images in each part

    @property
    def backbone(self) -> nn.Module:
        return self.student.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        strong, weak = views  # each (B, 3, H, W)
        q = l2_normalize(self.student(strong))  # (B, proj_dim)
        k = l2_normalize(shuffle_bn(self.teacher, weak))  # (B, proj_dim), no gradient
        target = (similarity(k, self.queue.keys) / self.teacher_temperature).softmax(1)  # (B, K)
        logits = similarity(q, self.queue.keys) / self.student_temperature  # (B, K)
        self.queue.add(all_gather(k))  # in the queue from the next step on
        return dict(loss=soft_cross_entropy(target, logits), feature_std=feature_std(q))

    def after_step(self) -> None:
        self.queue.update()
        self.teacher.update(self.student, self.decay)
