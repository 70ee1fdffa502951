"""Trains the encoders that ship inside the package: `python -m tools.train_mini_encoders {text,image,measure}`.

Needs ML-1M's films with plots and posters (--data), all-MiniLM-L6-v2 as a folder (--minilm), and for images the
checkpoint of an EfficientNet-Lite (--teacher). Everything is seeded; a killed run goes on from its checkpoint.
docs/mini-encoders.md tells what came out.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch

from .films import Films


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", choices=["text", "image", "measure"])
    parser.add_argument("--data", type=Path, required=True, help="folder of items-ml-1m.parquet and posters")
    parser.add_argument("--minilm", type=Path, required=True, help="folder of all-MiniLM-L6-v2")
    parser.add_argument("--teacher", type=Path, help="efficientnet-lite0-*.pth")
    parser.add_argument("--work", type=Path, required=True, help="folder for checkpoints and what is computed once")
    parser.add_argument("--out", type=Path, required=True, help="model folder to write, or for measure to read")
    parser.add_argument("--steps", type=int, help="length of the course")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.manual_seed(given.seed)
    films = Films.read(given.data)
    started = time.monotonic()
    if given.what == "image":
        from .image_course import train_image

        train_image(films, given.minilm, given.teacher, given.work, given.out, given.steps or 4000, given.seed)
    elif given.what == "text":
        from .text_course import train_text

        train_text(films, given.minilm, given.work, given.out, given.steps or 400, given.seed)
    else:
        from .measure import measure

        measure(films, given.minilm, given.out)
    print(f"{time.monotonic() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
