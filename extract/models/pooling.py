"""How an input becomes one vector, as the model's own files say it: pooling, layers behind it, prompt, longest text.

Sentence-transformers models say it in `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json` and
`config_sentence_transformers.json`; for other models the architecture decides (`structure.py`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...data.runtime.disk import sha256_of
from ...data.runtime.errors import BadInput, UsageError

if TYPE_CHECKING:
    import torch

MODULES = "modules.json"
PROMPTS = "config_sentence_transformers.json"
SENTENCE_FILES = (MODULES, PROMPTS, "sentence_*_config.json", "*/config.json", "*/sentence_*_config.json")
SENTENCE_WEIGHTS = ("*_Dense/model.safetensors", "*_LayerNorm/model.safetensors")
MODES = (
    "cls", "mean", "max", "last", "pooler", "projection", "mean_sqrt_len_tokens", "weightedmean",
)  # fmt: skip
OF_POSITIONS = {"cls", "mean", "max", "last", "mean_sqrt_len_tokens", "weightedmean"}
_OLD_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")  # as SentenceTransformer.encode_document looks for them


@dataclass(frozen=True)
class Pooling:
    """How hidden states become the vector of an input.

    ``mode`` is one of MODES or several joined by ``+``, None where the architecture decides. ``layers`` are the modules
    behind it, each ("dense" | "layernorm" | "normalize", its folder). ``prompt`` goes in front of every text; without
    ``pools_prompt`` its positions do not count in the pooling. ``max_length`` is the longest text in tokens.
    """

    mode: str | None = None
    layers: tuple[tuple[str, Path], ...] = field(default=())
    prompt: str = ""
    pools_prompt: bool = True
    max_length: int | None = None
    lower_case: bool = False

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes whose vectors are put one behind the other."""
        return tuple((self.mode or "cls").split("+"))

    @property
    def is_cls(self) -> bool:
        """Whether the vector is the CLS position as the encoder gives it."""
        return self.mode == "cls" and not self.layers

    def with_mode(self, mode: str, option: str) -> Pooling:
        """This pooling with another ``mode`` and nothing behind it. Raises UsageError for one that there is not."""
        words = ["last" if word == "lasttoken" else word for word in mode.split("+")]
        if not set(words) <= set(MODES):
            raise UsageError(f"--{option}: expected {', '.join(MODES)}, or several joined by +, found {mode}")
        return replace(self, mode="+".join(words), layers=())

    def fingerprint(self) -> dict[str, Any]:
        """What of it decides embeddings, for the header; nothing where it is the CLS position of a text as it is."""
        fields: dict[str, Any] = {} if self.is_cls else {"pooling": self.mode}
        dense = [sha256_of(folder / "model.safetensors") for kind, folder in self.layers if kind != "normalize"]
        if dense:
            fields["dense"] = dense
        if any(kind == "normalize" for kind, _ in self.layers):
            fields["normalized"] = True
        if self.prompt:
            fields |= {"prompt": self.prompt} | ({} if self.pools_prompt else {"prompt_pooled": False})
        if self.lower_case:
            fields["lower_case"] = True
        return fields


@dataclass(frozen=True)
class SentenceFiles:
    """What sentence-transformers' files in a model's folder say; ``folder`` is that of the Transformer itself."""

    folder: Path
    pooling: Pooling

    @classmethod
    def read(cls, root: Path, name: str) -> SentenceFiles | None:
        """None where there is no `modules.json`. Raises BadInput for modules of another kind than are known here."""
        if not (root / MODULES).is_file():
            return None
        modules = _json(root / MODULES, name)
        if not isinstance(modules, list) or not all(isinstance(module, dict) for module in modules):
            raise BadInput(f"{name}: {MODULES}: expected a list of modules; fetch the model again")
        folder, pooling, layers = root, Pooling(), []
        for number, module in enumerate(modules):
            kind, path = str(module.get("type", "")).rpartition(".")[2], root / str(module.get("path", ""))
            if root.resolve() not in (path.resolve(), *path.resolve().parents):
                raise BadInput(
                    f"{name}: {MODULES}: module {number} lies outside the model's folder; choose another model"
                )
            if number == 0 and kind in ("Transformer", "CLIPModel"):
                folder = path
                pooling = replace(pooling, mode="projection" if kind == "CLIPModel" else None)
            elif kind == "Pooling":
                pooling = _pooling_of(_json(path / "config.json", name), pooling, name)
            elif kind in ("Dense", "LayerNorm"):
                if not (path / "config.json").is_file():
                    raise BadInput(f"{name}: {path.name}/config.json is missing; fetch the model again")
                layers.append((kind.lower(), path))
            elif kind == "Normalize":
                layers.append(("normalize", path))
            elif kind != "Dropout":
                raise BadInput(
                    f"{name}: {MODULES}: module {kind or number} is not supported, only Transformer, Pooling, Dense, "
                    "LayerNorm and Normalize are; choose a model of these"
                )
        length, lower = _length_and_case(folder, name)
        return cls(folder, replace(pooling, layers=tuple(layers), max_length=length, lower_case=lower))


def document_prompt(root: Path, name: str) -> str:
    """The prompt of documents, as `SentenceTransformer.encode_document` takes it; empty where the model has none."""
    if not (root / PROMPTS).is_file():
        return ""
    config = _json(root / PROMPTS, name)
    prompts = config.get("prompts") if isinstance(config, dict) else None
    if not isinstance(prompts, dict):
        return ""
    key = next((key for key in _DOCUMENT_PROMPTS if key in prompts), config.get("default_prompt_name"))
    return str(prompts.get(key) or "")


def _pooling_of(config: Any, pooling: Pooling, name: str) -> Pooling:
    modes = config.get("pooling_mode") if isinstance(config, dict) else None
    if modes is None and isinstance(config, dict):
        modes = [mode for key, mode in _OLD_KEYS.items() if config.get(key)]
    modes = [modes] if isinstance(modes, str) else modes
    modes = ["last" if mode == "lasttoken" else mode for mode in modes or ()]
    if not modes or not set(modes) <= set(OF_POSITIONS):
        raise BadInput(f"{name}: 1_Pooling/config.json: expected a pooling among {', '.join(MODES)}, found {modes}")
    return replace(pooling, mode="+".join(modes), pools_prompt=bool(config.get("include_prompt", True)))


def _length_and_case(folder: Path, name: str) -> tuple[int | None, bool]:
    for path in sorted(folder.glob("sentence_*_config.json")):
        config = _json(path, name)
        if isinstance(config, dict):
            length = config.get("max_seq_length")
            return (length if isinstance(length, int) and length > 0 else None), bool(config.get("do_lower_case"))
    return None, False


def _json(path: Path, name: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{name}: {path.name} cannot be read: {error}; fetch the model again") from error


def pooled(
    pooling: Pooling,
    hidden: torch.Tensor,
    mask: torch.Tensor,
    given: torch.Tensor | None = None,
    prompt_length: int = 0,
) -> torch.Tensor:
    """(B, V) float32 vectors of hidden states (B, T, D), of which ``mask`` (B, T) says where an input has a position.

    ``given`` (B, V) is what the model itself pooled or projected. Sums are taken in float32.
    """
    import torch

    values, counted = hidden.float(), mask
    if prompt_length and not pooling.pools_prompt:
        counted = mask.clone()
        counted[:, :prompt_length] = False
    weights = counted[..., None].float()  # (B, T, 1)
    found = []
    for mode in pooling.modes:
        if mode in ("pooler", "projection"):
            if given is None:
                raise ValueError(f"{mode}: the model gives none")
            found.append(given.float())
        elif mode == "cls":
            found.append(values[:, prompt_length if not pooling.pools_prompt else 0])
        elif mode == "last":
            last = mask.shape[1] - 1 - mask.flip(1).int().argmax(1)
            found.append(values[torch.arange(len(values), device=values.device), last])
        elif mode == "max":
            found.append(values.masked_fill(~counted[..., None], float("-inf")).amax(1))
        elif mode == "weightedmean":
            rising = weights * torch.arange(1, mask.shape[1] + 1, device=values.device)[:, None]
            found.append((values * rising).sum(1) / rising.sum(1).clamp(min=1e-9))
        else:
            count = weights.sum(1).clamp(min=1e-9)
            found.append((values * weights).sum(1) / (count if mode == "mean" else count.sqrt()))
    return torch.cat(found, dim=-1)


class Layers:
    """The modules behind the pooling, loaded: (B, V) -> (B, V') in float32."""

    def __init__(self, pooling: Pooling, name: str, device: torch.device) -> None:
        self._steps = [_loaded(kind, folder, name, device) for kind, folder in pooling.layers]

    def __call__(self, vectors: torch.Tensor) -> torch.Tensor:
        for step in self._steps:
            vectors = step(vectors)
        return vectors


def width_behind(pooling: Pooling, width: int, name: str) -> int:
    """How wide vectors are behind the modules that follow the pooling, from their configurations alone."""
    for kind, folder in pooling.layers:
        if kind == "dense":
            out = _json(folder / "config.json", name).get("out_features")
            if not isinstance(out, int) or out < 1:
                raise BadInput(f"{name}: {folder.name}/config.json gives no out_features; fetch the model again")
            width = out
    return width


def _loaded(kind: str, folder: Path, name: str, device: torch.device) -> Any:
    from torch import nn

    if kind == "normalize":
        return lambda vectors: nn.functional.normalize(vectors, p=2, dim=-1)
    config, weights = _json(folder / "config.json", name), _safetensors(folder, name)
    if kind == "layernorm":
        norm = nn.LayerNorm(int(config["dimension"]))
        norm.load_state_dict({key.removeprefix("norm."): value.float() for key, value in weights.items()})
        return norm.to(device).eval().requires_grad_(requires_grad=False)
    wide, out = int(config["in_features"]), int(config["out_features"])
    linear = nn.Linear(wide, out, bias=bool(config.get("bias", True)))
    linear.load_state_dict(
        {k.removeprefix("linear."): v.float() for k, v in weights.items() if k.startswith("linear.")}
    )
    linear.to(device).requires_grad_(requires_grad=False)
    word = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    activation = getattr(nn, word.rpartition(".")[2], None) if word.startswith("torch.nn.") else None
    if not (isinstance(activation, type) and issubclass(activation, nn.Module)):
        raise BadInput(
            f"{name}: {folder.name}/config.json: activation {word} is none of torch.nn; choose another model"
        )
    act = activation()
    residual = weights.get("residual.weight")

    def dense(vectors: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = act(linear(vectors))
        if config.get("use_residual"):
            out = out + (vectors if residual is None else vectors @ residual.float().to(vectors.device).T)
        return out

    return dense


def _safetensors(folder: Path, name: str) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    file = folder / "model.safetensors"
    if not file.is_file():
        raise BadInput(
            f"{name}: no {folder.name}/model.safetensors (pickle checkpoints such as pytorch_model.bin are never "
            "read); choose a revision that has one"
        )
    try:
        return load_file(file)
    except Exception as error:
        raise BadInput(f"{name}: {folder.name}/model.safetensors cannot be read: {error}; fetch it again") from error
