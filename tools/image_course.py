"""The course of cinefuse-mini-image: what it learns from, how long, and what it is worth along the way."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

from . import minilm
from .course import Course, name_of
from .films import GENRES, Films
from .mini_image import (
    HEIGHT,
    MEAN,
    STD,
    STORED,
    WIDTH,
    Lessons,
    Student,
    Views,
    Weights,
    features,
    loss_of_step,
    new_vit,
    prepare,
)
from .probe import Probed, probe
from .teacher import Teacher, feature_maps

SEEN_BY_TEACHER = (264, 176)
BATCH = 64
EVERY = 1000  # steps from one look at the validation films to the next
PLOT_DIMENSIONS = 64
LABELLED = 0.7  # share of the steps with genres and plots: by then they are being learned by heart


def train_image(
    films: Films, minilm_folder: Path, checkpoint: Path, work: Path, out: Path, steps: int, seed: int
) -> None:
    """Trains on the training films' posters, keeps the mean weights that probe best on the validation films."""
    weights, views = Weights(), Views()
    unlabelled = replace(weights, genre=0.0, plot=0.0)
    lessons = _lessons(films, minilm_folder, checkpoint, work)
    vit = new_vit()
    prepare(vit, lessons.pixels)
    student = Student(vit, lessons.fine.shape[1], lessons.coarse.shape[1], len(GENRES), lessons.plots.shape[1])
    settings = {"seed": seed, "batch": BATCH, **asdict(weights), **asdict(views)}
    name = name_of(settings)
    course = Course(
        student,
        work / f"image-{name}.safetensors",
        settings,
        steps=steps,
        rate=1.5e-3,
        decay=0.05,
        warm_up=200,
        keep=0.998,
        seed=seed,
    )
    print(f"{len(lessons.pixels)} posters, course {name}: {settings}", flush=True)
    eyes = _Eyes(films)
    sums: dict[str, float] = {}
    best = 0.0
    began, first = time.monotonic(), course.step
    while course.step < steps:
        chance = course.chance()
        learned = weights if course.step < LABELLED * steps else unlabelled
        rows = torch.randint(len(lessons.pixels), (BATCH,), generator=chance)
        parts = loss_of_step(student, lessons, rows, learned, views, chance)
        course.advance(torch.stack(list(parts.values())).sum())
        for part, value in parts.items():
            sums[part] = sums.get(part, 0.0) + float(value.detach())
        if course.step % 100 == 0:
            found = ", ".join(f"{part} {value / 100:.4f}" for part, value in sums.items())
            print(
                f"step {course.step}: {found}; {(time.monotonic() - began) / (course.step - first):.2f} s", flush=True
            )
            sums.clear()
        if course.step % 500 == 0:
            course.save()
        if course.step % EVERY == 0 or course.step == steps:
            with course.averaged():
                figure, found = eyes.look(student)
                if figure > best:
                    best = figure
                    save_model(student, out)
            print(f"step {course.step}: {found}", flush=True)
    course.save()


class _Eyes:
    """What a probe reads from the student on the validation films, by their first and their other posters."""

    def __init__(self, films: Films) -> None:
        self._films = films
        self._first, self._has_first = films.posters(HEIGHT, WIDTH)
        self._other, self._has_other = films.other_posters(HEIGHT, WIDTH)

    def look(self, student: Student) -> tuple[float, str]:
        """Macro mAP of CLS and mean token on average, and both in words."""
        train = self._films.among("train") & self._has_first
        seen = self._films.among("validation")
        first, other = seen & self._has_first, seen & self._has_other
        labels = np.concatenate([self._films.genres[mask] for mask in (train, first, other)])
        parts = [features(student, pixels) for pixels in (self._first[train], self._first[first], self._other[other])]
        train_rows, all_rows = int(train.sum()), len(labels)
        fitted = np.arange(all_rows) < train_rows
        shown, figures = [], []
        for name, index in (("CLS", 0), ("mean", 1)):
            values = np.concatenate([part[index] for part in parts])
            found: Probed = probe(values, labels, fitted, ~fitted)
            shown.append(f"{name} {found}")
            figures.append(found.validation)
        return float(np.mean(figures)), "; ".join(shown)


def save_model(student: Student, out: Path) -> None:
    """The ViT as an ordinary Hugging Face folder, float16."""
    vit = new_vit()
    vit.load_state_dict(student.vit.state_dict())
    nn.Module.to(vit, torch.float16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    ViTImageProcessorPil(
        size={"height": HEIGHT, "width": WIDTH}, image_mean=[MEAN] * 3, image_std=[STD] * 3, resample=3
    ).save_pretrained(out)


def _lessons(films: Films, minilm_folder: Path, checkpoint: Path, work: Path) -> Lessons:
    """Computed once and kept in the work folder: the teacher's maps are most of the cost."""
    kept = work / "image-lessons.safetensors"
    if not kept.is_file():
        train = films.among("train")
        rows, pixels, seen = [], [], []
        for posters in (films.posters, films.other_posters):
            small, there = posters(*STORED)
            large, _ = posters(*SEEN_BY_TEACHER)
            chosen = np.flatnonzero(there & train)
            rows.append(chosen)
            pixels.append(small[chosen])
            seen.append(large[chosen])
        row = np.concatenate(rows)
        fine, coarse = feature_maps(Teacher(checkpoint), np.concatenate(seen))
        plots = _plot_targets(films, minilm_folder, train)
        work.mkdir(parents=True, exist_ok=True)
        tensors = {
            "pixels": torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).contiguous(),
            "fine": _standard(fine),
            "coarse": _standard(coarse),
            "genres": torch.from_numpy(films.genres[row].astype(np.float32)),
            "plots": torch.from_numpy(plots[row]),
            "has_plot": torch.from_numpy(films.has_plot[row].astype(np.float32)),
        }
        save_file(tensors, kept)
    return Lessons(**load_file(kept))


def _standard(maps: torch.Tensor) -> torch.Tensor:
    """Each channel with mean 0 and deviation 1 over all places, outliers cut at 6."""
    out = torch.empty_like(maps)
    for channel in range(maps.shape[1]):
        values = maps[:, channel].float()
        out[:, channel] = ((values - values.mean()) / values.std().clamp_min(1e-6)).clamp(-6, 6).half()
    return out


def _plot_targets(films: Films, folder: Path, train: npt.NDArray[np.bool_]) -> npt.NDArray[np.float32]:
    """(films, 64): the training plots' mean embeddings in their main directions, each with deviation 1; else zeros."""
    chosen = np.flatnonzero(train & films.has_plot)
    means = minilm.means(minilm.read(folder, [films.plots[film] for film in chosen]))
    means -= means.mean(0)
    left, _, _ = np.linalg.svd(means, full_matrices=False)
    targets = np.zeros((len(films.ids), PLOT_DIMENSIONS), np.float32)
    targets[chosen] = left[:, :PLOT_DIMENSIONS] * np.sqrt(len(chosen))
    return targets
