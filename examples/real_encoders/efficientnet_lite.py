"""EfficientNet-Lite0 (Tan & Le 2019; without squeeze-and-excitation, with ReLU6, as Google released it for phones).

Parameters have the names of the package efficientnet_pytorch; pictures are RGB, (x - 127) / 128 of 0 to 255.
"""

from typing import Mapping, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE, WIDTH, CLASSES = 224, 1280, 1000
MEAN, SCALE = 127.0, 128.0
EPS = 1e-3  # of batch normalisation
STEM = 32
# Stages: blocks, kernel, stride of the first block, expansion of its channels inside, channels.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip


class SameConv(nn.Conv2d):
    """TensorFlow's padding: ``ceil(n / stride)`` columns come out; an odd one is added at the right and the bottom."""

    def forward(self, x: Tensor) -> Tensor:
        (left, right), (top, bottom) = (self._padding_of(x.shape[axis], axis - 2) for axis in (3, 2))
        return super().forward(F.pad(x, (left, right, top, bottom)))

    def _padding_of(self, size: int, axis: int) -> Tuple[int, int]:
        stride, kernel = self.stride[axis], self.kernel_size[axis]
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS)


class Block(nn.Module):
    """Inverted bottleneck: widen (unless `expansion` is 1), filter each channel, narrow; added to its input where the
    shapes are equal."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = channels * expansion
        if expansion > 1:
            self._expand_conv = SameConv(channels, inner, 1, bias=False)
            self._bn0 = _norm(inner)
        self._depthwise_conv = SameConv(inner, inner, kernel, stride, groups=inner, bias=False)
        self._bn1 = _norm(inner)
        self._project_conv = SameConv(inner, out, 1, bias=False)
        self._bn2 = _norm(out)
        self.expands, self.adds = expansion > 1, stride == 1 and channels == out

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu6(self._bn0(self._expand_conv(x)), inplace=True) if self.expands else x
        inner = F.relu6(self._bn1(self._depthwise_conv(inner)), inplace=True)
        narrow = self._bn2(self._project_conv(inner))
        return x + narrow if self.adds else narrow


class EfficientNetLite0(nn.Module):
    def __init__(self):
        super().__init__()
        self._conv_stem = SameConv(3, STEM, 3, 2, bias=False)
        self._bn0 = _norm(STEM)
        blocks, channels = [], STEM
        for count, kernel, stride, expansion, out in STAGES:
            for index in range(count):
                blocks.append(Block(channels, out, kernel, stride if index == 0 else 1, expansion))
                channels = out
        self._blocks = nn.ModuleList(blocks)
        self._conv_head = SameConv(channels, WIDTH, 1, bias=False)
        self._bn1 = _norm(WIDTH)
        self._fc = nn.Linear(WIDTH, CLASSES)

    def grid(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] to states [B, H/32 * W/32, 1280], rows from above: 7 x 7 of them for 224 pixels."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)  # a fifth faster on a CPU
        x = F.relu6(self._bn0(self._conv_stem(pictures)), inplace=True)
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x)), inplace=True).flatten(2).transpose(1, 2)

    def forward(self, pictures: Tensor) -> Tensor:
        """Pictures [B, 3, H, W] to features [B, 1280], the mean of :meth:`grid`."""
        return self.grid(pictures).mean(dim=1)

    def classify(self, pictures: Tensor) -> Tensor:
        """Scores [B, 1000] of ImageNet's classes in their usual order."""
        return self._fc(self(pictures))


def efficientnet_lite0(weights: Mapping[str, Tensor]) -> EfficientNetLite0:
    """The network with these weights, for inference."""
    network = EfficientNetLite0().eval().requires_grad_(False)
    network.load_state_dict(weights)
    return network.to(memory_format=torch.channels_last)


class Preprocessing:
    """A Pillow picture to what the network takes, float32 [3, 224, 224]: the shorter side is resized to 224 pixels with
    bicubic interpolation, the centre cut out."""

    name = f"efficientnet-lite@{SIZE}"

    def __init__(self):
        from torchvision import transforms

        resize = transforms.Resize(SIZE, transforms.InterpolationMode.BICUBIC)
        self._transform = transforms.Compose([resize, transforms.CenterCrop(SIZE), transforms.PILToTensor()])

    def __call__(self, image) -> Tensor:
        return (self._transform(image.convert("RGB")).float() - MEAN) / SCALE
