"""Weights from safetensors into a model, none of them left random, and those without a place reported."""

from __future__ import annotations

import inspect
from copy import deepcopy
from typing import TYPE_CHECKING, Any, cast

from torch import nn

from ...data.runtime.errors import BadInput
from . import packed
from .failures import first_line, is_out_of_memory, quiet_transformers
from .towers import whole_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    import torch

    from .source import ModelSource
    from .structure import Structure


_MOST_PREFIXES = 8  # each is tried by loading


def load_model(
    source: ModelSource, model_class: Any, settings: Any, dtype: torch.dtype, structure: Structure
) -> nn.Module:
    """The model with its weights, frozen; the other tower of two, or a decoder, is left out.

    A tower whose weights lie within those of a larger model is read from there. Raises BadInput where the checkpoint
    lacks weights that are used.
    """
    options: dict[str, Any] = {}
    if "add_pooling_layer" in inspect.signature(model_class.__init__).parameters and structure.has_cls:
        options["add_pooling_layer"] = "pooler" in structure.pooling.modes
    files = source.weight_files()
    model, report = _loaded(source, model_class, settings, dtype, structure, options)
    if structure.tower == "alone" and _broken(report, structure):
        for weights in _inside(source, files, report["missing_keys"], model):
            other, inner = _loaded(source, model_class, settings, dtype, structure, options, weights)
            if not _broken(inner, structure):
                model, report = other, inner
                break
    _refuse_gaps(source, report, structure)
    model.eval().requires_grad_(requires_grad=False)
    _drop_other_tower(model, source, structure)
    model.unused_weights = _unused(report, structure)
    return cast("nn.Module", model)


def _loaded(
    source: ModelSource, model_class: Any, settings: Any, dtype: torch.dtype, structure: Structure,
    options: dict[str, Any], weights: dict[str, torch.Tensor] | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """The model and transformers' report on its weights: those of its files, or the ``weights`` that are given."""
    # models that know no attention functions but their own
    attentions = [packed.ATTENTION, "sdpa"] if model_class._supports_sdpa else []
    if structure.tower not in ("alone", "projected"):
        attentions = attentions[1:]
    where: dict[str, Any] = {"use_safetensors": True, "local_files_only": True} if weights is None else {}
    for attention in [*attentions, "eager"]:
        try:
            with quiet_transformers():
                found: tuple[Any, Any] = model_class.from_pretrained(
                    source.folder if weights is None else None,
                    config=deepcopy(settings),
                    dtype=dtype,
                    output_loading_info=True,
                    attn_implementation=attention,
                    state_dict=weights,
                    **where,
                    **options,
                )
                return found
        except Exception as error:
            if is_out_of_memory(error):
                raise
            if attention == "eager" or not _is_about_attention(error):
                source.refuse_remote_code()
                why = first_line(error)
                raise BadInput(f"{source.name}: its weights cannot be loaded: {why}; fetch it again") from error
    raise AssertionError("one attention is the last")


def _inside(
    source: ModelSource, files: list[Path], missing: Iterable[str], model: nn.Module
) -> Iterator[dict[str, torch.Tensor]]:
    """The weights that may be those of ``model`` within a larger one: all that stand under one prefix in the files."""
    from safetensors import safe_open

    where: dict[str, Path] = {}
    for file in files:
        with safe_open(file, framework="pt") as stored:
            where |= dict.fromkeys(stored.keys(), file)
    for prefix in _prefixes(source, list(where), sorted(missing, key=len), model):
        weights: dict[str, torch.Tensor] = {}
        for file in files:
            with safe_open(file, framework="pt") as stored:
                names = [name for name in where if where[name] == file and name.startswith(prefix)]
                weights |= {name.removeprefix(prefix): stored.get_tensor(name) for name in names}
        yield weights


def _prefixes(source: ModelSource, names: list[str], missing: list[str], model: nn.Module) -> list[str]:
    """Prefixes of ``names`` that may be a tower's: all that it lacks is there, or the whole or the name says so."""
    there, found = set(names), []
    if missing:
        starts = [name.removesuffix(missing[-1]) for name in names if name.endswith(f".{missing[-1]}")]
        found = [start for start in starts if all(f"{start}{key}" in there for key in missing)]
    whole = whole_model(source)
    places = [] if whole is None else [path for path, module in whole.named_modules() if type(module) is type(model)]
    wanted = {path.rpartition(".")[2] for path in places}
    words = ("vision", "visual", "image") if source.modality == "image" else ("text", "language")
    folders = {
        ".".join(parts[:depth]) for parts in (name.split(".") for name in names) for depth in range(1, len(parts))
    }
    for folder in sorted(folders, key=len):
        last = folder.rpartition(".")[2]
        if last in wanted or (folder.count(".") < 3 and any(word in last for word in words)):
            found += [f"{folder}."] + [f"{folder}.model."] * (f"{folder}.model" in folders)
    return list(dict.fromkeys(found))[:_MOST_PREFIXES]


def _is_about_attention(error: Exception) -> bool:
    words = str(error).lower()
    return packed.ATTENTION in words or "attn_implementation" in words or "sdpa" in words


def _drop_other_tower(model: nn.Module, source: ModelSource, structure: Structure) -> None:
    """Give back the memory of the tower, or the decoder, that is never run."""
    others = []
    if structure.tower == "features":
        others = ["vision_model"] if source.modality == "text" else ["text_model"]
    if structure.tower == "encoder":
        others = ["decoder"]
    for name in others:
        if isinstance(getattr(model, name, None), nn.Module):
            setattr(model, name, None)


def _broken(report: Any, structure: Structure) -> list[str]:
    """Weights that would be random, or do not fit. A mask token is never used here, a pooler seldom."""
    asks_pooler = {"pooler", "projection"} & set(structure.pooling.modes)
    missing = [
        key for key in report["missing_keys"]
        if (asks_pooler or "pooler" not in key) and not key.endswith(("mask_token", "position_ids", "logit_scale"))
    ]  # fmt: skip
    if structure.tower == "encoder":
        missing = [key for key in missing if not key.startswith("decoder.")]
    mismatched = [key[0] for key in report.get("mismatched_keys", ())]
    return sorted(missing) + sorted(mismatched) + list(report.get("error_msgs", ()))


def _refuse_gaps(source: ModelSource, report: Any, structure: Structure) -> None:
    broken = _broken(report, structure)
    if not broken:
        return
    source.refuse_remote_code()
    if source.settings is not source.whole_settings and structure.tower == "alone":
        raise BadInput(
            f"{source.name}: a model of several parts whose {source.modality} tower cannot be run by itself "
            f"({len(broken)} of its weights, such as {broken[0]}, are not found); give that tower's own model"
        )
    raise BadInput(
        f"{source.name}: its weights do not fit its config.json: {len(broken)} are missing or misshapen, "
        f"such as {broken[0]}; fetch the model again or choose another"
    )


_HEADS = (
    "cls.", "classifier", "lm_head", "head.", "qa_outputs", "vocab_", "generator", "discriminator", "decoder.",
    "pooler",     "text_model", "vision_model", "text_projection", "visual_projection", "logit_", "mlm", "fc.",
)  # fmt: skip


def _unused(report: Any, structure: Structure) -> list[str]:
    """Weights of the checkpoint that the model has no place for, heads of its training not among them."""
    unused = [str(key) for key in report.get("unexpected_keys", ())]
    return sorted(key for key in unused if not any(head in key for head in _HEADS) and "position_ids" not in key)
