"""The course of cinefuse-mini-text: which texts it learns from, how long, and what it is worth along the way."""

from __future__ import annotations

import hashlib
import random
import re
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.numpy import load_file, save_file
from torch import nn
from transformers import BertTokenizer

from . import minilm
from .course import Course, name_of
from .films import Films
from .mini_text import LONGEST, Lessons, Student, aligned, features, loss_of_step, new_bert, vocabulary
from .minilm import Read
from .probe import probe

BATCH = 48
MIXED = 8  # batches drawn together and sorted by length, so that little is padding
EVERY = 150
SIZE = {"width": 256, "layers": 2}
WORDS = {"films": 4, "common": 4000}
VARIED = 2  # varied texts for every plot


def train_text(films: Films, minilm_folder: Path, work: Path, out: Path, steps: int, seed: int) -> None:
    """Trains on the training films' plots and on texts made of their sentences."""
    plots = [films.plots[row] for row in np.flatnonzero(films.among("train") & films.has_plot)] + list(films.more_plots)
    words = vocabulary(minilm.tokenizer_of(minilm_folder), plots, **WORDS)
    tokenizer = BertTokenizer(vocab=words, model_max_length=LONGEST)
    texts = plots + _varied(plots, seed)
    lessons = aligned(tokenizer, texts, _read_once(minilm_folder, texts, work))
    student = Student(new_bert(len(words), **SIZE))
    student.begin_as(minilm_folder, words)
    settings = {"seed": seed, "batch": BATCH, "varied": VARIED, **SIZE, **WORDS}
    name = name_of(settings)
    course = Course(
        student,
        work / f"text-{name}.safetensors",
        settings,
        steps=steps,
        rate=2e-3,
        decay=0.02,
        warm_up=50,
        keep=0.99,
        seed=seed,
    )
    print(f"{len(words)} tokens, {len(texts)} texts, course {name}: {settings}", flush=True)
    known = tokenizer([plot or "." for plot in films.plots], truncation=True, max_length=LONGEST)["input_ids"]
    films_ids = [np.array(ids, np.int32) for ids in known]
    sums: dict[str, list[float]] = {}
    best = 0.0
    began, first = time.monotonic(), course.step
    student.train()
    while course.step < steps:
        rows = _batch(lessons, course)
        chance = course.chance()
        masked = 0.15 if float(torch.rand((), generator=chance)) < 0.5 else 0.0
        parts = loss_of_step(student, lessons, rows, masked, chance)
        course.advance(torch.stack(list(parts.values())).sum())
        for part, value in parts.items():
            sums.setdefault(part, []).append(float(value.detach()))
        if course.step % 50 == 0:
            found = ", ".join(f"{part} {np.mean(values):.4f}" for part, values in sums.items())
            print(
                f"step {course.step}: {found}; {(time.monotonic() - began) / (course.step - first):.2f} s", flush=True
            )
            sums.clear()
            course.save()
        if course.step % EVERY == 0 or course.step == steps:
            with course.averaged():
                figure, found = _look(films, student, films_ids)
                print(f"step {course.step}: {found}", flush=True)
                if figure > best:
                    best = figure
                    save_model(student, tokenizer, out)
    course.save()


def save_model(student: Student, tokenizer: BertTokenizer, out: Path) -> None:
    """The BERT as an ordinary Hugging Face folder, float16."""
    bert = new_bert(len(tokenizer), **SIZE)
    bert.load_state_dict(student.bert.state_dict())
    nn.Module.to(bert, torch.float16).save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    tokenizer.save_pretrained(out)


def _look(films: Films, student: Student, ids: list[npt.NDArray[np.int32]]) -> tuple[float, str]:
    """Macro mAP of CLS and mean token on average, and both in words."""
    masks = [films.among(part) & films.has_plot for part in ("train", "validation")]
    shown, figures = [], []
    for name, values in zip(("CLS", "mean"), features(student, ids), strict=True):
        found = probe(values, films.genres, *masks)
        shown.append(f"{name} {found}")
        figures.append(found.validation)
    return float(np.mean(figures)), "; ".join(shown)


def _batch(lessons: Lessons, course: Course) -> list[int]:
    drawn = np.random.default_rng([course.seed, course.step // MIXED])
    rows = drawn.choice(len(lessons.ids), MIXED * BATCH, replace=False)
    rows = rows[np.argsort([len(lessons.ids[row]) for row in rows], kind="stable")]
    chunk = drawn.permutation(MIXED)[course.step % MIXED]
    return [int(row) for row in rows[chunk * BATCH : (chunk + 1) * BATCH]]


def _varied(plots: list[str], seed: int) -> list[str]:
    """For every plot: some of its sentences in another order; and its sentences among another plot's."""
    chance = random.Random(seed)
    sentences = [re.split(r"(?<=[.!?])\s+", plot) for plot in plots]
    varied = []
    for own in sentences:
        some = chance.sample(own, max(1, round(len(own) * chance.uniform(0.3, 0.8))))
        varied.append(" ".join(some))
        other = chance.choice(sentences)
        both = chance.sample(own, -(-len(own) // 2)) + chance.sample(other, len(other) // 2)
        chance.shuffle(both)
        varied.append(" ".join(both))
    return varied


def _read_once(folder: Path, texts: list[str], work: Path) -> list[Read]:
    """MiniLM's reading of the texts, kept in the work folder under their digest: it is most of the cost."""
    digest = hashlib.sha256("\0".join(texts).encode()).hexdigest()[:8]
    kept = work / f"text-lessons-{digest}.safetensors"
    if not kept.is_file():
        reads = minilm.read(folder, texts)
        work.mkdir(parents=True, exist_ok=True)
        lengths = np.array([len(one.begins) for one in reads], np.int32)
        save_file(
            {
                "vectors": np.concatenate([one.vectors for one in reads]),
                "begins": np.concatenate([one.begins for one in reads]),
                "lengths": lengths,
            },
            kept,
        )
    stored = load_file(kept)
    ends = np.cumsum(stored["lengths"])
    spans = zip(ends - stored["lengths"], ends, strict=True)
    return [Read(stored["vectors"][begin:end], stored["begins"][begin:end]) for begin, end in spans]
