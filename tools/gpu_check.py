"""Checks both stages on a GPU in one command of at most 8 minutes, and says what holds there.

    python tools/gpu_check.py [--device cuda] [--quick] [--only NAME ...] [--json FILE]

Needs no network and no data: catalogues, posters, ratings and encoders with random weights are drawn here, in a
temporary folder. Every step runs in a process of its own with a deadline, so that one that hangs or crashes costs only
itself, and prints PASS, FAIL or SKIP and what it measured as JSON. The exit code is 1 where a step failed. With
``--device cpu`` what needs CUDA is skipped; ``--quick`` draws less and uses small encoders, to check the program.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WORDS = ("river", "night", "city", "war", "love", "ship", "stone", "train", "winter", "garden", "king", "island")
PACKAGES = ("cinefuse", "torch", "transformers", "numpy", "polars", "h5py", "pyarrow", "pillow", "safetensors")
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 256,
}
NOT_CHECKED = 3  # exit code of a step that does not apply here


class NotHere(Exception):
    """A step that does not apply to this machine; its message says why."""


class Failed(Exception):
    """A check that does not hold; its message says what was expected and found."""


@dataclass(frozen=True)
class Setting:
    """What every step gets: the device, whether little is to be drawn, and an empty folder of its own."""

    device: str
    quick: bool
    folder: Path

    @property
    def on_cuda(self) -> bool:
        """Whether the device is a CUDA device."""
        return self.device.startswith("cuda")

    def need_cuda(self) -> None:
        """NotHere unless the device is a CUDA device."""
        if not self.on_cuda:
            raise NotHere("needs a CUDA device")


def hold(found: float, most: float, what: str) -> float:
    """``found``; Failed where it is above ``most`` or no number."""
    if not found <= most:
        raise Failed(f"{what}: expected at most {most:g}, found {found:.3g}")
    return found


# ------------------------------------------------------------------------------------------------------ drawn inputs


def draw_catalogue(folder: Path, items: int, *, ratings: int = 0, users: int = 0, side: int = 176) -> Path:
    """A dataset folder with plots of 5 to 250 words, posters in JPEG, and ratings from drawn vectors."""
    import polars as pl
    from PIL import Image

    draw = np.random.default_rng(0)
    source = folder / "source"
    (source / "posters").mkdir(parents=True)
    rows = []
    for item in range(1, items + 1):
        coarse = draw.integers(0, 256, (12, 8, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((side, side * 3 // 2)).save(source / f"posters/{item}.jpg", quality=85)
        plot = " ".join(draw.choice(WORDS, int(draw.integers(5, 250))))
        rows.append({"item_id": item, "title": f"Item {item}", "text": plot, "poster": f"posters/{item}.jpg"})
    pl.DataFrame(rows).write_parquet(source / "items.parquet")
    words = ["--items", str(source / "items.parquet"), "--posters", str(source)]
    if ratings:
        pairs = draw.choice(users * items, ratings, replace=False)
        user, rated = pairs // items, pairs % items
        tastes, kinds = draw.normal(size=(users, 8)), draw.normal(size=(items, 8))
        score = 3.5 + 0.5 * np.einsum("nd,nd->n", tastes[user], kinds[rated]) / 2 + draw.normal(size=ratings) * 0.5
        table = {"user_id": user + 1, "item_id": rated + 1, "rating": np.clip(np.rint(score), 1, 5)}
        pl.DataFrame(table).write_parquet(source / "ratings.parquet")
        words += ["--ratings", str(source / "ratings.parquet")]
    command("data", "import", "table", str(folder / "dataset"), *words)
    return folder / "dataset"


def draw_encoders(folder: Path, *, small: bool) -> tuple[Path, Path]:
    """A BertModel and a ViTModel with random weights as hub folders: base size, or 2 layers of 64."""
    import torch
    from transformers import BertConfig, BertModel, BertTokenizer, ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    text, image = folder / "text", folder / "image"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]
    config = BertConfig(**(SMALL if small else {}))  # the vocabulary stays at its usual size
    BertModel(config, add_pooling_layer=False).save_pretrained(text)
    BertTokenizer(vocab={word: number for number, word in enumerate(words)}, model_max_length=512).save_pretrained(text)
    ViTModel(ViTConfig(**(SMALL if small else {})), add_pooling_layer=False).save_pretrained(image)
    ViTImageProcessor().save_pretrained(image)
    return text, image


def command(*words: str) -> None:
    """Run a cinefuse command in this process."""
    from cinefuse.cli import app

    app(list(words), standalone_mode=False)


def fill(setting: Setting, dataset: Path, out: str, models: tuple[Path, Path], **settings: Any) -> Path:
    """Extract ``dataset`` into a file of this step's folder."""
    import cinefuse

    file = setting.folder / out
    text, image = models
    settings = {"device": setting.device, "dtype": "float32"} | settings
    cinefuse.extract_embeddings(dataset, file, text_model=str(text), image_model=str(image), **settings)
    return file


def differences(first: Path, second: Path) -> dict[str, float]:
    """Largest difference of any two values over the largest value, and the least cosine of two vectors, by modality."""
    import cinefuse

    found: dict[str, float] = {}
    with cinefuse.EmbeddingFile.open(first) as one, cinefuse.EmbeddingFile.open(second) as other:
        for name in ("text", "image"):
            for part in ("cls", "tokens"):
                a, b = (np.asarray(getattr(file[name], part), np.float32) for file in (one, other))
                cosine = (a * b).sum(-1) / (np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1))
                found[f"{name}_{part}_difference"] = float(np.abs(a - b).max() / np.abs(a).max())
                found[f"{name}_{part}_cosine"] = float(cosine.min())
    return found


@contextmanager
def timed(device: str) -> Iterator[Callable[[], float]]:
    """Gives the seconds since entering, once the device is idle."""
    import torch

    began = time.perf_counter()

    def seconds() -> float:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)
        return time.perf_counter() - began

    yield seconds


def median_seconds(work: Callable[[], object], device: str, rounds: int) -> float:
    """Median seconds of ``work``, after two rounds that do not count."""
    found = []
    for number in range(rounds + 2):
        with timed(device) as seconds:
            work()
            if number >= 2:
                found.append(seconds())
    return statistics.median(found)


# -------------------------------------------------------------------------------------------------------------- steps


def environment(setting: Setting) -> dict[str, Any]:
    """Versions, the device, and what it does at most: matrix products and copies."""
    import torch

    found: dict[str, Any] = {"python": platform.python_version()}
    found |= {name: _version(name) for name in PACKAGES}
    found |= {"cores": os.cpu_count(), "threads": torch.get_num_threads()}
    if setting.on_cuda:
        properties = torch.cuda.get_device_properties(setting.device)
        free, total = torch.cuda.mem_get_info(setting.device)
        found |= {
            "gpu": properties.name,
            "capability": f"{properties.major}.{properties.minor}",
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "memory_gb": round(total / 1e9, 1),
            "free_gb": round(free / 1e9, 1),
            "tf32_cudnn": torch.backends.cudnn.allow_tf32,
            "float32_matmul_precision": torch.get_float32_matmul_precision(),
        }
    return found | ceilings(setting)


def ceilings(setting: Setting) -> dict[str, float]:
    """TFLOP/s of the best square product in bf16 and fp32, and GB/s of copies from and to page-locked memory."""
    import torch

    found: dict[str, float] = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        best = 0.0
        for size in (1024,) if setting.quick else (2048, 4096, 8192) if setting.on_cuda else (1024, 2048):
            a = torch.randn(size, size, device=setting.device, dtype=dtype)
            best = max(best, 2e-12 * size**3 / median_seconds(partial(torch.matmul, a, a), setting.device, 5))
        found[f"product_{name}_tflops"] = round(best, 2)
    if setting.on_cuda:
        host = torch.empty(2**28, dtype=torch.uint8, pin_memory=True)
        there = torch.empty_like(host, device=setting.device)
        copies = {
            "to_device": lambda: there.copy_(host, non_blocking=True),
            "from_device": lambda: host.copy_(there, non_blocking=True),
        }
        for name, copy in copies.items():
            found[f"copy_{name}_gb_s"] = round(host.nbytes / 1e9 / median_seconds(copy, setting.device, 5), 1)
    return found


def encoders_agree(setting: Setting) -> dict[str, Any]:
    """Embeddings of the device against the CPU's in float32: fp32 within 1e-4, bf16 within a cosine of .999."""
    dataset = draw_catalogue(setting.folder, 24 if setting.quick else 48)
    models = draw_encoders(setting.folder, small=setting.quick)
    reference = fill(setting, dataset, "cpu.h5", models, device="cpu", precision="fp32")
    fp32 = differences(reference, fill(setting, dataset, "fp32.h5", models, precision="fp32", batch_tokens=20_000))
    unpadded = fill(setting, dataset, "alone.h5", models, precision="fp32", batch_tokens=1, batch_posters=1)
    alone = differences(reference, unpadded)
    bf16 = differences(reference, fill(setting, dataset, "bf16.h5", models, precision="bf16"))
    for name in fp32:
        if name.endswith("difference"):
            hold(fp32[name], 1e-4, f"fp32 against the CPU, {name}")
            hold(alone[name], 1e-4, f"fp32 one by one against the CPU, {name}")
        else:
            hold(1 - bf16[name], 1e-3, f"1 - cosine of bf16, {name}")
    return {"fp32": fp32, "fp32_one_by_one": alone, "bf16": bf16}


def copies_wait(setting: Setting) -> dict[str, Any]:
    """Values are copied to the host only once they are computed, also behind a slow kernel."""
    setting.need_cuda()
    import torch

    from cinefuse.extract.models import embedded

    wrong = 0
    for number in range(20):
        poison = torch.full((2048, 768), -1.0, device=setting.device)
        torch.cuda.synchronize(setting.device)
        with torch.cuda.device(setting.device):
            torch.cuda._sleep(200_000_000)  # type: ignore[no-untyped-call]  # about 100 ms
        values = poison.fill_(float(number))
        stored = embedded._to_host(values, torch.isfinite(values).all(-1))
        del values
        stored.ready()
        wrong += int((stored.values != number).sum())
    if wrong:
        raise Failed(f"copies do not wait for what computes them: {wrong} values of 20 batches were old")
    return {"wrong_values": 0}


def killed_and_resumed(setting: Setting) -> dict[str, Any]:
    """An extraction killed and resumed gives the bytes of an uninterrupted one."""
    dataset = draw_catalogue(setting.folder, 60 if setting.quick else 300)
    models = draw_encoders(setting.folder, small=True)
    batches = {"batch_tokens": 2000, "batch_posters": 8}
    whole = fill(setting, dataset, "whole.h5", models, **batches)
    script = (
        "import cinefuse; cinefuse.extract_embeddings("
        f"{str(dataset)!r}, {str(setting.folder / 'killed.h5')!r}, text_model={str(models[0])!r}, "
        f"image_model={str(models[1])!r}, device={setting.device!r}, dtype='float32', **{batches!r})"
    )
    kills = 0
    for pause in (0.02, 0.1, 0.3):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        partial = setting.folder / "killed.h5.partial"
        while not partial.exists() and process.poll() is None:
            time.sleep(0.005)
        time.sleep(pause)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.wait()
    resumed = fill(setting, dataset, "killed.h5", models, **batches)
    digests = [hashlib.sha256(file.read_bytes()).hexdigest() for file in (whole, resumed)]
    if digests[0] != digests[1]:
        raise Failed(f"the bytes differ after {kills} kills: {differences(whole, resumed)}")
    return {"kills": kills, "same_bytes": True}


def out_of_memory(setting: Setting) -> dict[str, Any]:
    """A batch that does not fit the device's memory is halved until it does, and the rows come out the same."""
    setting.need_cuda()
    import torch

    dataset = draw_catalogue(setting.folder, 64 if setting.quick else 256)
    models = draw_encoders(setting.folder, small=False)
    roomy = fill(setting, dataset, "roomy.h5", models, precision="fp32", batch_posters=8, batch_tokens=4000)
    torch.cuda.empty_cache()
    used = torch.cuda.memory_allocated(setting.device)
    total = torch.cuda.get_device_properties(setting.device).total_memory
    torch.cuda.set_per_process_memory_fraction(min(1.0, (used + 1.6e9) / total), setting.device)
    tight = fill(setting, dataset, "tight.h5", models, precision="fp32", batch_posters=256, batch_tokens=100_000)
    found = differences(roomy, tight)
    for name, value in found.items():
        if name.endswith("difference"):
            hold(value, 1e-4, f"with little memory, {name}")
    return found


def stage_two_agrees(setting: Setting) -> dict[str, Any]:
    """A few steps of each preset on the device give the predictions that they give on the CPU."""

    import cinefuse

    dataset = draw_catalogue(setting.folder, 60, ratings=2500, users=120)
    models = draw_encoders(setting.folder, small=True)
    file = fill(setting, dataset, "cpu.h5", models, device="cpu", precision="fp32")
    found: dict[str, Any] = {}
    for preset in ("bias", "mf", "best", "paper", "text"):
        small = _config(preset).with_settings(
            [
                "epochs=2",
                "factor_steps=8",
                "precision=fp32",
                "dropout=0",
                "token_drop=0",
                "item_dropout=0",
                "objective=rating",
            ]
        )
        predictions: list[np.ndarray[Any, Any]] = []
        for place in ("cpu", setting.device):
            out = setting.folder / f"{preset}-{place.replace(':', '-')}-{len(predictions)}"
            run = cinefuse.train(dataset, file, out, small, device=place)
            predictions.append(run.predictions()["prediction"].to_numpy())
        found[preset] = hold(
            float(np.abs(predictions[0] - predictions[1]).max()), 5e-3, f"{preset}: stars of difference"
        )
    return found


def _config(name: str) -> Any:
    from cinefuse.fuse.settings.presets import preset

    return preset(name)


def encoder_speed(setting: Setting) -> dict[str, Any]:
    """TFLOP/s of ViT-B/16 and BERT-base in bf16 by batch and attention kernel; the best as a share of the product."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from transformers import BertConfig, BertModel, ViTConfig, ViTModel

    best_product = ceilings(setting)["product_bf16_tflops"]
    small: dict[str, Any] = SMALL if setting.quick else {}
    found: dict[str, Any] = {"product_tflops": best_product}
    kernels = [SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.FLASH_ATTENTION]
    kernels = kernels if setting.on_cuda else kernels[:1]
    encoders: list[tuple[str, Any, int, str]] = [
        ("vit", ViTModel(ViTConfig(**small), add_pooling_layer=False), 197, "pixel_values"),
        ("bert", BertModel(BertConfig(**small), add_pooling_layer=False), 128, "input_ids"),
    ]
    for name, model, positions, key in encoders:
        model = model.eval().to(setting.device, torch.bfloat16)
        weights = sum(p.numel() for module, p in model.named_parameters() if "embeddings" not in module)
        best = 0.0
        for batch in (4,) if setting.quick else (32, 128, 512) if setting.on_cuda else (8,):
            if name == "vit":
                given = torch.randn(batch, 3, 224, 224, device=setting.device, dtype=torch.bfloat16)
            else:
                given = torch.randint(0, 1000, (batch, positions), device=setting.device)
            attention = 4 * model.config.num_hidden_layers * positions**2 * model.config.hidden_size
            flops = batch * (2 * weights * positions + attention)
            for kernel in kernels:
                with torch.inference_mode(), sdpa_kernel(kernel):
                    try:
                        seconds = median_seconds(partial(model, **{key: given}), setting.device, 3)
                    except RuntimeError as fault:
                        found[f"{name}_{batch}_{kernel.name.lower()}"] = str(fault).splitlines()[0][:80]
                        continue
                speed = flops / seconds / 1e12
                found[f"{name}_{batch}_{kernel.name.lower()}_tflops"] = round(speed, 2)
                best = max(best, speed)
        found[f"{name}_share_of_product"] = round(best / best_product, 3)
    return found


def whole_extraction(setting: Setting) -> dict[str, Any]:
    """Items a second of the whole first stage: plan, decoding, both encoders, checksums and file."""
    items = 40 if setting.quick else 10_000 if setting.on_cuda else 400
    with timed("cpu") as seconds:
        dataset = draw_catalogue(setting.folder, items)
        drawn = seconds()
    models = draw_encoders(setting.folder, small=setting.quick)
    with timed(setting.device) as seconds:
        fill(setting, dataset, "all.h5", models, dtype="float16", precision="auto")
        spent = seconds()
    return {
        "items": items,
        "seconds_to_draw": round(drawn, 1),
        "seconds": round(spent, 1),
        "items_a_second": round(items / spent, 1),
    }


def decoding(setting: Setting) -> dict[str, Any]:
    """Posters a second that are read, checked, hashed, decoded and batched, by threads and by 1 to 16 processes."""
    from concurrent.futures import ThreadPoolExecutor

    from cinefuse.data.dataset.catalog import Catalog
    from cinefuse.extract.inputs.decoders import Decoders, Poster, planned_poster, side_by_side
    from cinefuse.extract.inputs.pixel_recipe import PixelRecipe
    from cinefuse.extract.inputs.poster_files import PosterLimits

    items, batch = (64, 16) if setting.quick else (3000, 128)
    catalog, recipe, limits = Catalog.open(draw_catalogue(setting.folder, items)), PixelRecipe(), PosterLimits()
    root = catalog.poster_root
    posters = [Poster(path, hashlib.sha256((root / path).read_bytes()).digest()) for path in catalog.posters() if path]
    batches = [posters[start : start + batch] for start in range(0, len(posters), batch)]
    found: dict[str, Any] = {"kilobytes_a_poster": round((root / posters[0].path).stat().st_size / 1000, 1)}
    cores = os.cpu_count() or 1
    for count in [count for count in (1, 2, 4, 8, 16) if count <= cores]:
        with ThreadPoolExecutor(count) as pool, timed("cpu") as spent:
            for some in batches:
                jobs = [pool.submit(planned_poster, one.path, one.digest, root, recipe, limits) for one in some]
                np.stack([job.result() for job in jobs])
            found[f"threads_{count}_posters_a_second"] = round(len(posters) / spent())
        ended: list[str] = []
        with Decoders(count, root, recipe, limits, largest=batch, batches=3, say=ended.append) as decoders:
            [one.result() for one in decoders.begin(posters[:batch])]  # by then most have started
            with timed("cpu") as spent:
                ahead = [decoders.begin(some) for some in batches[:2]]
                for number in range(len(batches)):
                    if number + 2 < len(batches):
                        ahead.append(decoders.begin(batches[number + 2]))
                    side_by_side([one.result() for one in ahead.pop(0)])
                found[f"processes_{count}_posters_a_second"] = round(len(posters) / spent())
        if ended:
            raise Failed(ended[0])
    return found


def ratings_memory(setting: Setting) -> dict[str, Any]:
    """A step of 128 factors with histories over 22.5 million drawn ratings takes at most 12 GB of the device."""
    setting.need_cuda()
    import torch

    from cinefuse.fuse.inputs.interactions import TrainingPairs
    from cinefuse.fuse.inputs.side_information import SideInformation
    from cinefuse.fuse.models.heads import Scale
    from cinefuse.fuse.training.member import Member

    ratings, users, items = (1_000_000, 6000, 3700) if setting.quick else (22_500_000, 162_541, 59_047)
    draw = np.random.default_rng(0)
    # gaps between places of the matrix of users and items, so that none is drawn twice
    places = np.cumsum(draw.integers(1, 2 * users * items // ratings - 1, ratings))
    user, item = (torch.from_numpy(part[places < users * items]) for part in np.divmod(places, items))
    rating = torch.from_numpy(draw.integers(1, 11, len(user)).astype(np.float32) / 2)
    scale = Scale.of(rating)
    pairs = TrainingPairs.sorted(user, item, scale.standardise(rating), users=users, items=items)
    pairs = pairs.to(torch.device(setting.device))
    of_users, of_items = (torch.zeros(count, 0, device=setting.device) for count in (users, items))
    config = _config("best").with_settings(["dim=128", "precision=fp32"])
    member = Member(config, pairs, scale, SideInformation(of_users, of_items, of_items), {}, seed=0)
    torch.cuda.reset_peak_memory_stats(setting.device)
    with timed(setting.device) as seconds:
        for step in range(3):
            member.factor_step(step, torch.Generator().manual_seed(step))
        spent = seconds() / 3
    peak = torch.cuda.max_memory_allocated(setting.device) / 1e9
    return {"ratings": len(pairs), "seconds_a_step": round(spent, 3), "peak_gb": hold(peak, 12, "GB of the device")}


def ratings_speed(setting: Setting) -> dict[str, Any]:
    """Seconds of a factor step over drawn ratings (a million, on a GPU), and of the ranking model's whole training."""
    import cinefuse

    ratings, users, items = (20_000, 600, 300) if setting.quick else (1_000_000, 6000, 3700)
    dataset = draw_catalogue(setting.folder, items, ratings=ratings, users=users, side=16)
    found: dict[str, Any] = {"ratings": ratings}
    steps = 20
    for objective in ("rating", "ranking"):
        config = _config("best").with_settings(
            [f"objective={objective}", "members=1", "refit=false", f"factor_steps={steps}", "epochs=1"]
        )
        with timed(setting.device) as seconds:
            run = cinefuse.train(dataset, None, setting.folder / objective, config, device=setting.device)
            found[f"{objective}_seconds"] = round(seconds(), 2)
        figures = run.files.metrics
        if objective == "rating" and figures.exists():
            last = json.loads(figures.read_text().splitlines()[-1])
            found["million_ratings_a_second"] = round(ratings * steps / last["seconds"] / 1e6, 2)
    return found


def compiled(setting: Setting) -> dict[str, Any]:
    """``--compile`` gives the embeddings of the uncompiled encoders."""
    setting.need_cuda()
    dataset = draw_catalogue(setting.folder, 16)
    models = draw_encoders(setting.folder, small=True)
    plain = fill(setting, dataset, "plain.h5", models, precision="fp32")
    found = differences(plain, fill(setting, dataset, "compiled.h5", models, precision="fp32", compile=True))
    for name, value in found.items():
        if name.endswith("difference"):
            hold(value, 1e-4, f"compiled, {name}")
    return found


# name, step, seconds it may take on a GPU
STEPS: dict[str, tuple[Callable[[Setting], dict[str, Any]], int]] = {
    "environment": (environment, 40),
    "encoders agree": (encoders_agree, 60),
    "copies wait": (copies_wait, 30),
    "killed and resumed": (killed_and_resumed, 60),
    "out of memory": (out_of_memory, 60),
    "stage two agrees": (stage_two_agrees, 90),
    "encoder speed": (encoder_speed, 60),
    "decoding": (decoding, 60),
    "whole extraction": (whole_extraction, 120),
    "ratings memory": (ratings_memory, 60),
    "ratings speed": (ratings_speed, 60),
    "compiled": (compiled, 90),
}
MOST_SECONDS = 480


def run_step(name: str, setting: Setting) -> int:
    """Run one step in this process and print its result as a line of JSON."""
    missing = [package for package in ("polars", "h5py", "transformers") if _version(package) is None]
    try:
        if missing and name not in ("environment", "encoder speed"):
            raise NotHere(f"{', '.join(missing)} is not installed")
        found = STEPS[name][0](setting)
    except NotHere as reason:
        print(json.dumps({"why": str(reason)}), flush=True)
        return NOT_CHECKED
    except Failed as fault:
        print(json.dumps({"why": str(fault)}), flush=True)
        return 1
    print(json.dumps(found), flush=True)
    return 0


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def check(name: str, device: str, quick: bool, seconds: float) -> dict[str, Any]:
    """Run one step in a process of its own; its verdict, what it printed, and its seconds."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as folder:
        words = [sys.executable, __file__, "--device", device, "--step", name, "--folder", folder]
        paths = os.pathsep.join([str(ROOT / ".typing"), os.environ.get("PYTHONPATH", "")])
        process = subprocess.Popen(
            words + (["--quick"] if quick else []),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"},
            start_new_session=True,
        )
        try:
            out, errors = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return {
                "step": name,
                "verdict": "FAIL",
                "why": f"not done after {seconds:.0f} s",
                "seconds": round(seconds, 1),
            }
    verdict = {0: "PASS", NOT_CHECKED: "SKIP"}.get(process.returncode, "FAIL")
    lines = [line for line in out.splitlines() if line.startswith("{")]
    if lines:
        found = json.loads(lines[-1])
    else:
        last = errors.strip().splitlines()[-1:] or [f"exit code {process.returncode}"]
        found = {"why": last[0]}
    return {"step": name, "verdict": verdict, **found, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    """Run the steps and print each verdict; 1 where one failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", help="cuda, cuda:1 or cpu")
    parser.add_argument("--quick", action="store_true", help="draw little, with small encoders")
    parser.add_argument("--only", nargs="*", metavar="NAME", help=f"some of the steps: {', '.join(STEPS)}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all results to a file")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.step:
        return run_step(options.step, Setting(options.device, options.quick, options.folder))
    if unknown := set(options.only or ()) - set(STEPS):
        parser.error(f"no step {sorted(unknown)[0]!r}; there are {', '.join(STEPS)}")
    results, began = [], time.monotonic()
    for name, (_, seconds) in STEPS.items():
        if options.only and name not in options.only:
            continue
        left = MOST_SECONDS - (time.monotonic() - began)
        if left < 5:
            result = {"step": name, "verdict": "SKIP", "why": f"{MOST_SECONDS} s are over"}
        else:
            result = check(name, options.device, options.quick, min(seconds, left))
        results.append(result)
        shown = {key: value for key, value in result.items() if key not in ("step", "verdict")}
        print(f"{result['verdict']}  {name}  {json.dumps(shown)}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(results, indent=2))
    failed = [result["step"] for result in results if result["verdict"] == "FAIL"]
    print(
        f"{len(results) - len(failed)} of {len(results)} steps without a failure"
        + (f"; failed: {', '.join(failed)}" if failed else "")
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
