"""DINO: Emerging Properties in Self-Supervised Vision Transformers.

Caron et al. 2021, arXiv 2104.14294.

From the official code (facebookresearch/dino):
  - The teacher sees the first two (global) views, the student all views.
  - Views of one size go through the backbone as one batch.
  - The teacher starts as a copy of the student, has no stochastic depth and runs in train mode.
  - The teacher's output is centred by a moving average and sharpened by a temperature that rises
    from epoch to epoch.
  - The student's last layer is frozen in the first epoch.
  - The last layer is weight-normalised: its rows are scaled to unit length, and with
    ``norm_last_layer=False`` each row is multiplied by a gain of its own.

Evaluation uses the teacher's backbone. Shapes: B images, V views, K prototypes.
"""

from typing import Any

import torch
from torch import Tensor, nn

from ssl_zoo.backbones import build_backbone
from ssl_zoo.distributed import all_gather
from ssl_zoo.layers import EMA, MovingAverage, cosine_schedule, multi_crop
from ssl_zoo.losses import feature_std, l2_normalize, similarity, soft_cross_entropy
from ssl_zoo.method import Method
from ssl_zoo.registry import METHODS
from ssl_zoo.validation import check_positive, check_unit_interval


class DINONetwork(nn.Module):
    """Student or teacher: a backbone, a head of three layers, L2 normalisation, K prototypes.

    The head has GELU and no BatchNorm.

    Args:
        backbone: keys of build_backbone.
        hidden_dim: width of the head's two hidden layers.
        bottleneck_dim: width of the head's output.
        prototypes: K.
        norm_last_layer: whether prototypes keep unit length; otherwise each has a gain.
    """

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int,
        bottleneck_dim: int,
        prototypes: int,
        norm_last_layer: bool,
    ):
        super().__init__()
        self.backbone = build_backbone(**backbone)
        self.head = nn.Sequential(
            nn.Linear(self.backbone.embed_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, bottleneck_dim),
        )
        for layer in self.head[::2]:
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.last = nn.Linear(bottleneck_dim, prototypes, bias=False)
        self.last_gain = None
        if not norm_last_layer:
            self.last_gain = nn.Parameter(torch.ones(prototypes, 1))

    def forward(self, views: list[Tensor]) -> Tensor:
        """Compute the scores of V views, each (B, 3, H_v, W_v): (V * B, K), view after view."""
        z = l2_normalize(self.head(multi_crop(self.backbone, views)))  # (V * B, bottleneck_dim)
        prototypes = l2_normalize(self.last.weight)  # (K, bottleneck_dim)
        if self.last_gain is not None:
            prototypes = self.last_gain * prototypes
        return similarity(z, prototypes)


@METHODS.register_module()
class DINO(Method):
    """The student's distribution over prototypes must match the teacher's for another view.

    Args:
        backbone: keys of build_backbone, at least ``name``; the teacher ignores drop_path_rate.
        hidden_dim: width of the head's hidden layers (2048).
        bottleneck_dim: width of the head's output (256).
        prototypes: K (65536).
        base_ema: the teacher's decay at the first step (0.996); in a config also 'auto'.
        student_temperature: tau_s (0.1).
        teacher_temperature: tau_t after the warm-up (0.04; 0.07 in the long ViT runs).
        warmup_teacher_temperature: tau_t at the start (0.04).
        temperature_warmup_epochs: epochs until tau_t reaches teacher_temperature (0).
        center_decay: m, decay of the centre (0.9).
        frozen_epochs: epochs in which the last layer is frozen (1).
        norm_last_layer: whether prototypes keep unit length (code: yes; no in the long ViT-S runs).
    """

    min_views = 2
    updated_after_step = ('teacher', 'center')
    networks = dict(
        online=('student.backbone', 'student.head'),
        target=('teacher.network.backbone', 'teacher.network.head'),
    )

    def __init__(
        self,
        backbone: dict,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        prototypes: int = 65536,
        base_ema: float = 0.996,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        warmup_teacher_temperature: float = 0.04,
        temperature_warmup_epochs: int = 0,
        center_decay: float = 0.9,
        frozen_epochs: float = 1.0,
        norm_last_layer: bool = True,
    ):
        super().__init__()
        check_positive(
            prototypes=prototypes,
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            warmup_teacher_temperature=warmup_teacher_temperature,
        )
        check_unit_interval(base_ema=base_ema, center_decay=center_decay)
        self.base_ema = base_ema
        self.student_temperature = student_temperature
        self.frozen_epochs = frozen_epochs
        # tau_t of each epoch of the warm-up, then tau_t of all later epochs.
        self.teacher_temperatures = torch.linspace(
            warmup_teacher_temperature, teacher_temperature, temperature_warmup_epochs, device='cpu'
        ).tolist()
        self.teacher_temperatures.append(teacher_temperature)

        head = (hidden_dim, bottleneck_dim, prototypes, norm_last_layer)
        self.student = DINONetwork(backbone, *head)  # g_theta_s
        without_drop_path = {k: v for k, v in backbone.items() if k != 'drop_path_rate'}
        teacher = DINONetwork(without_drop_path, *head)
        teacher.load_state_dict(self.student.state_dict())
        self.teacher = EMA(teacher)  # g_theta_t
        self.center = MovingAverage(prototypes, decay=center_decay)  # C

    @property
    def backbone(self) -> nn.Module:
        return self.teacher.network.backbone

    @property
    def embed_dim(self) -> int:
        return self.backbone.embed_dim

    @property
    def decay(self) -> float:
        return cosine_schedule(self.base_ema, 1.0, self.progress)

    @property
    def teacher_temperature(self) -> float:
        last = len(self.teacher_temperatures) - 1
        return self.teacher_temperatures[min(int(self.epoch), last)]

    @property
    def frozen(self) -> tuple[str, ...]:
        if self.epoch < self.frozen_epochs:
            return ('student.last',)
        return ()

    def loss(self, views: list[Tensor], **batch: Any) -> dict[str, Tensor | float]:
        b = len(views[0])
        t = self.teacher(views[:2])  # (2B, K), no gradient
        s = self.student(views) / self.student_temperature  # (V * B, K)
        p_t = ((t - self.center.value) / self.teacher_temperature).softmax(1)  # (2B, K)
        self.center.add(all_gather(t).mean(0))  # moves the centre after the step
        terms = []  # algorithm 1: all pairs of a teacher's view and another view of the student
        for i, target in enumerate(p_t.split(b)):
            for v, logits in enumerate(s.split(b)):
                if v != i:
                    terms.append(soft_cross_entropy(target, logits))
        return dict(
            loss=sum(terms) / len(terms),
            feature_std=feature_std(t[:b] - self.center.value),
            decay=self.decay,
            teacher_temperature=self.teacher_temperature,
        )

    def after_step(self) -> None:
        self.center.update()
        self.teacher.update(self.student, self.decay)
