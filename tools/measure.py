"""What probes read from the finished encoders on the held-out films: run once, at the end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from transformers import AutoTokenizer, BertModel, ViTModel

from . import mini_image, mini_text, minilm
from .films import Films
from .probe import probe, probes

Matrix = npt.NDArray[np.floating]


def measure(films: Films, minilm_folder: Path, folder: Path) -> None:
    """Prints validation and held-out macro mAP of the encoders in ``folder``, and of what they rival."""
    if (folder / "text").is_dir():
        ids = AutoTokenizer.from_pretrained(folder / "text")([plot or "." for plot in films.plots], truncation=True)
        bert = mini_text.Student(
            BertModel.from_pretrained(folder / "text", add_pooling_layer=False, dtype=torch.float32)
        )
        bert.train(mode=False)
        cls, mean = mini_text.features(bert, [np.array(one, np.int32) for one in ids["input_ids"]])
        _tell(films, films.has_plot, {"mini-text": (cls, mean)})
        reads = minilm.read(minilm_folder, [plot or "." for plot in films.plots])
        theirs = np.stack([one.vectors[0].astype(np.float32) for one in reads])
        _tell(films, films.has_plot, {"MiniLM": (theirs, minilm.means(reads))})
    if (folder / "image").is_dir():
        pixels, there = films.posters(mini_image.HEIGHT, mini_image.WIDTH)
        trained = ViTModel.from_pretrained(folder / "image", add_pooling_layer=False, dtype=torch.float32)
        for name, vit in (("mini-image", trained), ("untrained ViT of its shape", mini_image.new_vit())):
            cls, mean = mini_image.features(mini_image.Student(vit, 1, 1, 1, 1), pixels)
            _tell(films, there, {name: (cls, mean)})
        masks = [films.among(part) & there for part in ("train", "validation", "held-out")]
        print("colour histogram and thumbnail:", probe(_histogram(pixels), films.genres, *masks), flush=True)


def _tell(films: Films, there: npt.NDArray[np.bool_], features: dict[str, tuple[Matrix, Matrix]]) -> None:
    masks = [films.among(part) & there for part in ("train", "validation", "held-out")]
    for name, (cls, mean) in features.items():
        for kind, _, found in probes(cls, mean, films.genres, *masks):
            print(f"{name}, {kind}: {found}", flush=True)


def _histogram(pixels: npt.NDArray[np.uint8]) -> Matrix:
    """6 x 6 x 6 bins of hue, saturation and value (square roots of shares), and the poster in 4 x 4 pixels."""
    rows = []
    for poster in pixels:
        image = Image.fromarray(poster)
        bins = np.asarray(image.convert("HSV")).reshape(-1, 3) // 43
        shares = np.bincount(bins @ (36, 6, 1), minlength=216) / len(bins)
        small = np.asarray(image.resize((4, 4), Image.Resampling.BOX)).ravel() / 255
        rows.append(np.concatenate([np.sqrt(shares), small]))
    return np.stack(rows)
