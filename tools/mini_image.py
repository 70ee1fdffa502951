"""cinefuse-mini-image: a small ViT that learns from posters what an ImageNet network sees in them.

Each step shows the student a random crop of a poster, mirrored half of the time, its colours shifted. Its patch tokens
regress the teacher's feature maps at their own places in the poster, its CLS and its mean token the mean of those maps
over the crop; CLS also predicts the film's genres and lies near its plot's embedding. Half of the patches are left out
of most steps, which is cheaper and harder. The teacher sees every poster once, whole: a crop's targets are read from
its maps by bilinear interpolation, as a crop's pixels are from the poster.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn
from transformers import ViTConfig, ViTModel

PATCH = 16
HEIGHT, WIDTH = 144, 96  # 9 x 6 patches; posters are 2:3
STORED = (180, 120)
MEAN = STD = 0.5

Floats = npt.NDArray[np.floating]


@dataclass
class Lessons:
    """What there is to learn from: one row a poster of a training film (two posters of a film share its labels)."""

    pixels: torch.Tensor  # (N, 3, 180, 120) uint8
    fine: torch.Tensor  # (N, C, h, w) float16: the teacher's maps, standardised by channel
    coarse: torch.Tensor  # (N, C', h', w') float16
    genres: torch.Tensor  # (N, 18) float
    plots: torch.Tensor  # (N, P) float: the plot's embedding, standardised; zeros where the film has none
    has_plot: torch.Tensor  # (N,) float


def new_vit(width: int = 192, layers: int = 6, heads: int = 3) -> ViTModel:
    config = ViTConfig(
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
        image_size=(HEIGHT, WIDTH),
        patch_size=PATCH,
    )
    vit = ViTModel(config, add_pooling_layer=False)
    vit.set_attn_implementation("eager")  # at 55 tokens faster on a CPU than the fused kernel, by a quarter
    return vit


@torch.no_grad()
def prepare(vit: ViTModel, pixels: torch.Tensor) -> None:
    """Starts a new ViT where it learns faster than from noise: patches whitened, places told as waves.

    Patch vectors of posters vary a thousand times more in their main directions than in fine detail; the patch
    embedding begins as the 192 main directions of ``pixels`` (N, 3, h, w) uint8, brought to nearly one scale.
    """
    width = vit.config.hidden_size
    shown = (F.interpolate(pixels[::12].float() / 255, (HEIGHT, WIDTH), mode="bilinear") - MEAN) / STD
    patches = F.unfold(shown, PATCH, stride=PATCH).transpose(1, 2).flatten(0, 1)  # (n, 768)
    centre = patches.mean(0)
    values, directions = torch.linalg.eigh(torch.cov(patches.T))
    values, directions = values.flip(0)[:width], directions.flip(1)[:, :width]
    weight = 0.5 * (directions * values.clamp_min(1e-6) ** -0.4).T  # (width, 768)
    projection = vit.embeddings.patch_embeddings.projection
    projection.weight.copy_(weight.view_as(projection.weight))
    projection.bias = nn.Parameter(-(weight @ centre))
    rows, columns = HEIGHT // PATCH, WIDTH // PATCH
    place = torch.stack(torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij"), -1).view(-1, 2, 1)
    speeds = 60.0 ** -torch.linspace(0, 1, width // 4)
    waves = (place * speeds).flatten(1)  # (patches, width / 2)
    vit.embeddings.position_embeddings[0, 1:] = 0.3 * torch.cat([waves.sin(), waves.cos()], 1)
    for layer in vit.layers:
        for linear in layer.modules():
            if isinstance(linear, nn.Linear):
                nn.init.xavier_uniform_(linear.weight)


class Student(nn.Module):
    """The ViT with the heads it needs while it learns."""

    def __init__(self, vit: ViTModel, fine: int, coarse: int, genres: int, plots: int) -> None:
        super().__init__()
        self.vit = vit
        width = vit.config.hidden_size
        self.patch_head = nn.Linear(width, fine + coarse)
        self.cls_head = nn.Linear(width, fine + coarse)
        self.mean_head = nn.Linear(width, fine + coarse)
        self.genre_head = nn.Linear(width, genres)
        self.plot_head = nn.Linear(width, plots)

    def forward(self, pixels: torch.Tensor, kept: torch.Tensor | None = None) -> torch.Tensor:
        """Normalised pixels (B, 3, H, W), and which patches are kept (B, K), to (B, 1 + K, D), CLS first."""
        x = self.vit.embeddings(pixels)
        if kept is not None:
            rows = torch.arange(len(x)).unsqueeze(1)
            x = torch.cat([x[:, :1], x[rows, kept + 1]], 1)
        for layer in self.vit.layers:
            x = layer(x)
        out: torch.Tensor = self.vit.layernorm(x)
        return out


@dataclass(frozen=True)
class Weights:
    """How much each part of the loss counts."""

    patch: float = 1.0
    whole: float = 1.0
    genre: float = 0.2
    plot: float = 0.2


@dataclass(frozen=True)
class Views:
    """How posters are varied: the least share of a side a crop keeps, the patches kept, how far colours go."""

    least_side: float = 0.6
    kept: float = 0.5
    colour: float = 0.25
    cutmix: float = 0.0


def loss_of_step(
    student: Student, lessons: Lessons, rows: torch.Tensor, weights: Weights, views: Views, chance: torch.Generator
) -> dict[str, torch.Tensor]:
    """The parts of the loss on one batch; ``rows`` are rows of ``lessons``."""
    count, patches = len(rows), (HEIGHT // PATCH) * (WIDTH // PATCH)
    frame = _frames(count, views.least_side, chance)
    pixels = _coloured(lessons.pixels[rows].float() / 255, views.colour, chance)
    pixels = F.grid_sample(pixels, _grid(frame, HEIGHT, WIDTH), padding_mode="border", align_corners=False)
    places = _grid(frame, HEIGHT // PATCH, WIDTH // PATCH)
    targets = torch.cat(
        [
            F.grid_sample(maps[rows].float(), places, padding_mode="border", align_corners=False)
            for maps in (lessons.fine, lessons.coarse)
        ],
        1,
    )
    targets = targets.flatten(2).transpose(1, 2)  # (B, patches, C)
    genres, plots, has_plot = lessons.genres[rows], lessons.plots[rows], lessons.has_plot[rows]
    if views.cutmix > 0 and torch.rand((), generator=chance) < views.cutmix:
        # A rectangle of whole patches comes from the next poster of the batch, pixels and targets alike.
        other, inside = torch.roll(torch.arange(count), 1), _rectangle(chance)
        big = inside.repeat_interleave(PATCH, 0).repeat_interleave(PATCH, 1)
        pixels = torch.where(big, pixels[other], pixels)
        flat = inside.flatten()
        targets = torch.where(flat[:, None], targets[other], targets)
        share = float(flat.float().mean())
        genres = (1 - share) * genres + share * genres[other]
        plots = (1 - share) * plots + share * plots[other]
    whole = targets.mean(1)
    kept = None
    if views.kept < 1:
        order = torch.rand(count, patches, generator=chance).argsort(1)
        kept = order[:, : round(views.kept * patches)]
        targets = targets[torch.arange(count).unsqueeze(1), kept]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = student((pixels - MEAN) / STD, kept)
        cls, mean = hidden[:, 0], hidden[:, 1:].mean(1)
        outputs = {
            "patch": student.patch_head(hidden[:, 1:]),
            "cls": student.cls_head(cls),
            "mean": student.mean_head(mean),
            "genre": student.genre_head(cls),
            "plot": student.plot_head(cls),
        }
    out = {name: value.float() for name, value in outputs.items()}
    # Means over a crop vary less than single places do: they are told apart on their own scale.
    scale = whole.std(0).clamp_min(0.05)
    plot = (1 - F.cosine_similarity(out["plot"], plots)) * has_plot
    return {
        "patch": weights.patch * F.mse_loss(out["patch"], targets),
        "whole": weights.whole
        * (((out["cls"] - whole) / scale).square().mean() + ((out["mean"] - whole) / scale).square().mean())
        / 2,
        "genre": weights.genre * F.binary_cross_entropy_with_logits(out["genre"], genres, reduction="sum") / count,
        "plot": weights.plot * plot.mean(),
    }


@torch.inference_mode()
def features(student: Student, pixels: npt.NDArray[np.uint8], batch: int = 128) -> tuple[Floats, Floats]:
    """Posters (N, 144, 96, 3) to CLS and mean token, (N, D) each."""
    cls, mean = [], []
    for start in range(0, len(pixels), batch):
        x = torch.from_numpy(pixels[start : start + batch]).permute(0, 3, 1, 2).float() / 255
        with torch.autocast("cpu", torch.bfloat16):
            hidden = student((x - MEAN) / STD).float()
        cls.append(hidden[:, 0])
        mean.append(hidden[:, 1:].mean(1))
    return torch.cat(cls).numpy(), torch.cat(mean).numpy()


def _frames(count: int, least: float, chance: torch.Generator) -> torch.Tensor:
    """Random crops as affine maps (B, 2, 3) from the student's image to the poster, both in -1..1."""
    random = torch.rand(count, 5, generator=chance)
    size = least + (1 - least) * random[:, 0]
    aspect = torch.exp((random[:, 1] - 0.5) * 0.3)
    high, wide = (size * aspect).clamp(max=1), (size / aspect).clamp(max=1)
    mirror = torch.where(random[:, 2] < 0.5, -1.0, 1.0)
    frame = torch.zeros(count, 2, 3)
    frame[:, 0, 0] = wide * mirror
    frame[:, 0, 2] = (2 * random[:, 3] - 1) * (1 - wide)
    frame[:, 1, 1] = high
    frame[:, 1, 2] = (2 * random[:, 4] - 1) * (1 - high)
    return frame


def _grid(frame: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return F.affine_grid(frame, [len(frame), 1, height, width], align_corners=False)


def _coloured(pixels: torch.Tensor, strength: float, chance: torch.Generator) -> torch.Tensor:
    """Brightness, contrast and each channel's gain, all within ``strength``; a few posters lose their colour."""
    random = 1 + strength * (2 * torch.rand(len(pixels), 5, 1, 1, generator=chance) - 1)
    grey = pixels.mean(1, keepdim=True)
    saturation = torch.where(torch.rand(len(pixels), 1, 1, 1, generator=chance) < 0.1, 0.0, random[:, :1])
    pixels = grey + saturation * (pixels - grey)
    gain = random[:, 1:2] * (1 + (random[:, 2:5] - 1) / 3)
    middle = pixels.mean((1, 2, 3), keepdim=True)
    return ((pixels - middle) * random[:, 1:2] + middle * gain).clamp(0, 1)


def _rectangle(chance: torch.Generator) -> torch.Tensor:
    rows, columns = HEIGHT // PATCH, WIDTH // PATCH
    random = torch.rand(4, generator=chance)
    high, wide = 2 + int(random[0] * (rows - 3)), 2 + int(random[1] * (columns - 3))
    top, left = int(random[2] * (rows - high + 1)), int(random[3] * (columns - wide + 1))
    inside = torch.zeros(rows, columns, dtype=torch.bool)
    inside[top : top + high, left : left + wide] = True
    return inside
