"""EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation and with ReLU6, as Google released it for
phones): a convolutional image tower that a CPU runs in some 45 ms a picture."""

from dataclasses import dataclass
from typing import Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mlvl_fairseq.errors import UserError
from mlvl_fairseq.modules.towers.base import ImageTower, Parts, TowerOutput, register_image_tower

WIDTH, STEM, STRIDE = 1280, 32, 32
EPS = 1e-3  # of batch normalisation
# Stages: blocks, kernel, stride of the first block, expansion of its channels inside, channels.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip


@register_image_tower({"efficientnet_lite0": {}})
@dataclass(frozen=True)
class EfficientNetLiteConfig:
    """Dimensions that can differ. Attributes: image_size: height and width of pictures in pixels."""

    image_size: int = 224

    def build(self) -> "EfficientNetLiteTower":
        return EfficientNetLiteTower(self)


class SameConv(nn.Conv2d):
    """TensorFlow's padding: ``ceil(n / stride)`` columns come out; an odd one is added at the right and the bottom."""

    def reset_parameters(self) -> None:
        nn.init.kaiming_normal_(self.weight, nonlinearity="relu")  # or pictures would vanish, as nothing renormalises

    def forward(self, x: Tensor) -> Tensor:
        (left, right), (top, bottom) = (self._padding_of(x.shape[axis], axis - 2) for axis in (3, 2))
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def _padding_of(self, size: int, axis: int) -> Tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


class StoredNorm(nn.Module):
    """Batch normalisation by the stored statistics, in training, too: what becomes of a picture does not depend on the
    others of its batch, and a frozen tower stays as it is."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=EPS)


class Block(nn.Module):
    """Inverted bottleneck: widen (unless `expansion` is 1), filter each channel, narrow; added to its input where the
    shapes are equal."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = channels * expansion
        if expansion > 1:
            self._expand_conv = SameConv(channels, inner, 1, bias=False)
            self._bn0 = StoredNorm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = StoredNorm(inner)
        self._project_conv = SameConv(inner, out, 1, bias=False)
        self._bn2 = StoredNorm(out)
        self.expands, self.adds = expansion > 1, stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)), inplace=True)
        narrow = self._bn2(self._project_conv(inner))
        return x + narrow if self.adds else narrow


class EfficientNetLiteTower(ImageTower):
    """Convolutions down to a grid of states [B, (image_size / 32)^2, 1280], rows from above; the vector is their mean.

    Parameters are named as in the files of the package efficientnet_pytorch. Pictures are those of transform
    ``efficientnet_lite``.
    """

    width = WIDTH

    def __init__(self, config: EfficientNetLiteConfig):
        super().__init__()
        if config.image_size < STRIDE or config.image_size % STRIDE:
            raise UserError(f"image size {config.image_size} is not a multiple of {STRIDE} pixels")
        self.config, self.image_size = config, config.image_size
        self._conv_stem = SameConv(3, STEM, 3, 2, bias=False)
        self._bn0 = StoredNorm(STEM)
        blocks, channels = [], STEM
        for count, kernel, stride, expansion, out in STAGES:
            for index in range(count):
                blocks.append(Block(channels, out, kernel, stride if index == 0 else 1, expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, WIDTH, 1, bias=False)
        self._bn1 = StoredNorm(WIDTH)

    @property
    def parts(self) -> Parts:
        last = rf"^_blocks\.{len(self._blocks) - 1}\.|^_conv_head\.|^_bn1\."
        return Parts(norm=r"_bn\d\.", dense=None, attention=None, last=last, block=r"^_blocks\.{}\.")

    def forward(self, images: Tensor) -> TowerOutput:
        self.require_shape(images)
        x = images.to(self._bn0.weight.dtype).contiguous(memory_format=torch.channels_last)  # a fifth faster on a CPU
        x = F.relu6(self._bn0(self._conv_stem(x)), inplace=True)
        for block in self._blocks:
            x = block(x)
        states = F.relu6(self._bn1(self._conv_head(x)), inplace=True).flatten(2).transpose(1, 2)
        return TowerOutput(states.mean(dim=1), states if self.keeps_states else None)
