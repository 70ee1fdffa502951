"""Which model: a Hugging Face id or a local folder, its revision, configuration and hashes. Loads no weights."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from ...data.mini import MINI, mini_encoder
from ...data.remote.hub_models import fetch_model
from ...data.runtime.disk import sha256_of
from ...data.runtime.errors import BadInput
from .failures import first_line
from .pooling import SENTENCE_FILES, SENTENCE_WEIGHTS, Pooling, SentenceFiles, document_prompt

Modality = Literal["text", "image"]

CONFIG = "config.json"
PROCESSOR = "preprocessor_config.json"
NESTED_PROCESSOR = "processor_config.json"  # transformers 5 saves the image processor in it
WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
_SHARDS = "model-*-of-*.safetensors"
_TOKENIZER = (
    "tokenizer*",
    "vocab*",
    "merges*",
    "special_tokens*",
    "added_tokens*",
    "sentencepiece*",
    "spiece*",
    "*.spm",
    "*.model",
    "*.codes",
    "*.tiktoken",
    "*.tokenizer",
    "entity_vocab*",
    "word_*.json",
    "emoji.json",
    "dict.txt",
    "byte_maps.json",
)
_SETTINGS_OF_NO_EFFECT = {"_valid_processor_keys", "_processor_class", "processor_class", "auto_map", "return_tensors"}
# Models whose code lies in their own repository, which is never run, and near ones that transformers itself has.
_NEAR = {
    "jina": "jinaai/jina-embeddings-v3-hf",
    "nomic": "nomic-ai/modernbert-embed-base",
    "new": "Alibaba-NLP/gte-modernbert-base",
    "gte": "Alibaba-NLP/gte-modernbert-base",
    "eva": "openai/clip-vit-base-patch32",
}
_NEAR_ANY = {"text": "sentence-transformers/all-mpnet-base-v2", "image": "facebook/dinov2-small"}


@dataclass(frozen=True)
class ModelSource:
    """A pretrained model's files on this machine, and the name under which others find the same model.

    ``name`` is the hub id, or for a local folder the folder's own name (never its path: the name travels in shared
    files). ``folder`` is where the files lie. ``revision`` is the hub's commit hash, None for a local folder. A folder
    of the hub's cache is what it is a copy of. ``sentence`` is what sentence-transformers' files in it say, where it
    has them; ``modality`` decides which tower of a model with two is meant.
    """

    name: str
    folder: Path
    revision: str | None
    modality: Modality | None = None
    sentence: SentenceFiles | None = None
    root: Path | None = None

    @classmethod
    def resolve(cls, model: str, revision: str | None, weights: bool, modality: Modality | None = None) -> ModelSource:
        """Finds ``model`` as a local folder, else on the hub or in its cache (``HF_HUB_OFFLINE=1`` is honoured).

        ``mini`` names the encoder of ``modality`` that ships with cinefuse, whatever lies in the working directory
        (``./mini`` is a folder of that name). With ``weights`` false only the configuration, tokenizer and
        image-processor files are needed, and fetched. Raises BadInput in one line where the model, its ``config.json``
        or its safetensors weights cannot be had.
        """
        folder = Path(model).expanduser()
        if model == MINI and modality is not None:
            source = cls._embedded(modality, revision)
        elif folder.is_dir():
            if revision is not None:
                raise BadInput(
                    f"{model}: a local folder has no revisions, but {revision!r} was asked for; leave it out"
                )
            folder = folder.resolve()
            name, revision = _copied_from(folder) or (folder.name, None)
            source = cls(name=name, folder=folder, revision=revision)
        else:
            snapshot = _snapshot(model, revision, weights)
            source = cls(name=model, folder=snapshot, revision=snapshot.name)
        source = source._with_sentence_files(modality)
        source._require_config()
        if weights:
            source.weight_files()
        return source

    def _with_sentence_files(self, modality: Modality | None) -> ModelSource:
        sentence = SentenceFiles.read(self.folder, self.name) if modality != "image" else None
        folder = self.folder
        if not (folder / CONFIG).is_file():
            # the folders of sentence-transformers before version 2
            inner = [folder / name for name in ("0_Transformer", "0_CLIPModel") if (folder / name / CONFIG).is_file()]
            folder = sentence.folder if sentence is not None else inner[0] if inner else folder
        return replace(self, folder=folder, modality=modality, sentence=sentence, root=self.folder)

    @classmethod
    def _embedded(cls, modality: Modality, revision: str | None) -> ModelSource:
        folder = mini_encoder(modality)
        if revision is not None:
            raise BadInput(
                f"{MINI}: ships with cinefuse and has no revisions, but {revision!r} was asked for; leave it out"
            )
        if not folder.is_dir():
            raise BadInput(
                f"{MINI}: this installation of cinefuse lacks {folder}; "
                "install it again, or give a model's folder or hub id"
            )
        return cls(name=f"cinefuse-mini-{modality}", folder=folder, revision=None)

    @cached_property
    def config(self) -> dict[str, Any]:
        """config.json as written."""
        return self._json(CONFIG)

    @cached_property
    def whole_settings(self) -> Any:
        """The transformers configuration of the whole model, with its defaults filled in.

        Raises BadInput where transformers does not know the model type, or where the model needs code of its own.
        """
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self.folder, local_files_only=True, trust_remote_code=False)
        except Exception as error:  # a configuration's own checks raise anything
            self.refuse_remote_code()
            kind = self.config.get("model_type", "none")
            raise BadInput(
                f"{self.name}: transformers cannot read its {CONFIG} (model type {kind!r}): {first_line(error)}; "
                "`cinefuse encoders` lists families that can be read"
            ) from error

    @cached_property
    def settings(self) -> Any:
        """The configuration of what is run: of a model of several towers, that of the tower of this modality."""
        name = "text_config" if self.modality == "text" else "vision_config"
        return getattr(self.whole_settings, name, None) or self.whole_settings

    @property
    def has_two_towers(self) -> bool:
        """Whether it is one model of texts and images, such as CLIP."""
        whole = self.whole_settings
        return getattr(whole, "vision_config", None) is not None and getattr(whole, "text_config", None) is not None

    @property
    def needs_its_own_code(self) -> bool:
        """Whether its configuration names model code that lies in its own repository."""
        return "AutoModel" in dict(self.config.get("auto_map") or {})

    def refuse_remote_code(self) -> None:
        """Raises BadInput, naming a near model that needs none, where `config.json` names code of its own."""
        if self.needs_its_own_code:
            words = f"{self.name} {self.config.get('model_type', '')}".lower()
            near = next((near for word, near in _NEAR.items() if word in words), None)
            near = near or _NEAR_ANY[self.modality or "text"]
            raise BadInput(
                f"{self.name}: needs code of its own repository (trust_remote_code), which cinefuse never runs; "
                f"take a model that transformers has itself, such as {near}"
            )

    @cached_property
    def pooling(self) -> Pooling:
        """The pooling that the model's files name; its mode is None where they leave it to the architecture."""
        pooling = self.sentence.pooling if self.sentence is not None else Pooling()
        prompt = document_prompt(self.root or self.folder, self.name) if self.modality == "text" else ""
        return replace(pooling, prompt=prompt)

    @property
    def model_type(self) -> str:
        """The family name in config.json, such as ``bert``; for CLIP, that of its vision tower."""
        return str(self.settings.model_type)

    @property
    def num_layers(self) -> int:
        """How many encoder layers the model has."""
        depth = getattr(self.settings, "num_hidden_layers", None)
        if not isinstance(depth, int) or depth < 1:
            raise BadInput(f"{self.name}: {CONFIG} gives no number of layers; leave out --{self.modality}-layer")
        return depth

    @property
    def width(self) -> int:
        """Length of one token's vector."""
        return self._size("hidden_size")

    def weight_files(self) -> list[Path]:
        """The safetensors file, or the shards its index names. Raises BadInput where any is missing."""
        index = self.folder / WEIGHTS_INDEX
        if (self.folder / WEIGHTS).is_file():
            return [self.folder / WEIGHTS]
        if not index.is_file():
            raise BadInput(
                f"{self.name}: no {WEIGHTS} (pickle checkpoints such as pytorch_model.bin are never read); "
                "convert it: AutoModel.from_pretrained(...).save_pretrained(...), or choose a revision that has one"
            )
        shards = self._json(WEIGHTS_INDEX).get("weight_map")
        if not isinstance(shards, dict) or not shards:
            raise BadInput(f"{self.name}: {WEIGHTS_INDEX} has no weight_map; fetch the model again")
        names = sorted({str(shard) for shard in shards.values()})
        for name in names:
            if Path(name).name != name or not (self.folder / name).is_file():
                raise BadInput(f"{self.name}: {WEIGHTS_INDEX} names {name!r}, which is missing; fetch the model again")
        return [self.folder / name for name in names]

    def weights_sha256(self) -> str:
        """SHA-256 of the weights file; of several, SHA-256 over ``"name sha\\n"`` lines sorted by name."""
        files = self.weight_files()
        if len(files) == 1 and files[0].name == WEIGHTS:
            return sha256_of(files[0])
        return _listing_sha256(files)

    def processor_config(self) -> dict[str, Any]:
        """The image processor's settings as written: nested in processor_config.json, or preprocessor_config.json.

        Those of timm's models lie in config.json. Raises BadInput where the folder has none of them.
        """
        if (self.folder / NESTED_PROCESSOR).is_file():
            nested = self._json(NESTED_PROCESSOR).get("image_processor")
            if isinstance(nested, dict):
                return nested
        if not (self.folder / PROCESSOR).is_file():
            if isinstance(self.config.get("pretrained_cfg"), dict):
                return dict(self.config["pretrained_cfg"])
            raise BadInput(f"{self.name}: no {PROCESSOR}, which says how it wants its pixels; add one")
        return self._json(PROCESSOR)

    def preprocessing_sha256(self, modality: Modality) -> str:
        """SHA-256 over the tokenizer's files (text) or the image processor's settings as canonical JSON (image)."""
        if modality == "text":
            return _listing_sha256(self.tokenizer_files())
        settings = {k: v for k, v in self.processor_config().items() if k not in _SETTINGS_OF_NO_EFFECT}
        canonical = json.dumps(settings, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    def tokenizer(self) -> Any:
        """The model's tokenizer. Raises BadInput where there is none, or none that can be read."""
        from transformers import AutoTokenizer

        self.tokenizer_files()
        try:
            tokenizer = AutoTokenizer.from_pretrained(
                self.folder, local_files_only=True, use_fast=True, trust_remote_code=False
            )
            tokenizer("a")
        except Exception as error:  # each family's tokenizer raises its own
            raise BadInput(f"{self.name}: its tokenizer cannot be read: {first_line(error)}") from error
        tokenizer.padding_side = tokenizer.truncation_side = "right"
        if self.pooling.lower_case and tokenizer.is_fast:
            from tokenizers.normalizers import Lowercase, Normalizer, Sequence

            own: list[Normalizer] = [tokenizer.backend_tokenizer.normalizer or Lowercase()]
            tokenizer.backend_tokenizer.normalizer = Sequence([Lowercase(), *own])
        return tokenizer

    def tokenizer_files(self) -> list[Path]:
        """The files of its tokenizer. Raises BadInput where it has none."""
        files = {path for pattern in _TOKENIZER for path in self.folder.glob(pattern) if path.is_file()}
        if not files:
            raise BadInput(f"{self.name}: no tokenizer files (tokenizer.json); choose a text model that ships them")
        return sorted(files)

    def _require_config(self) -> None:
        if not (self.folder / CONFIG).is_file():
            raise BadInput(f"{self.name}: no {CONFIG} in the model's folder; point at a folder made by save_pretrained")
        if not isinstance(self.config, dict):
            raise BadInput(f"{self.name}: {CONFIG} is not a JSON object; fetch the model again")

    def _json(self, file: str) -> dict[str, Any]:
        try:
            content: dict[str, Any] = json.loads((self.folder / file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BadInput(f"{self.name}: {file} cannot be read: {first_line(error)}; fetch the model again") from error
        return content

    def _size(self, key: str) -> int:
        size = getattr(self.settings, key, None)
        if not isinstance(size, int) or size < 1:
            raise BadInput(f"{self.name}: {CONFIG} gives no {key}; choose a BERT-like or ViT-like model")
        return size


def _copied_from(folder: Path) -> tuple[str, str] | None:
    """The hub id and commit of a folder of the hub's cache, models--ORG--NAME/snapshots/COMMIT; None for another."""
    repository = folder.parent.parent.name
    if folder.parent.name != "snapshots" or not repository.startswith("models--"):
        return None
    return repository.removeprefix("models--").replace("--", "/"), folder.name


def _snapshot(model: str, revision: str | None, weights: bool) -> Path:
    """The folder of one revision in the hub's cache, fetched first where the network may be asked."""
    patterns = [CONFIG, PROCESSOR, NESTED_PROCESSOR, *_TOKENIZER]
    if weights:
        patterns += [WEIGHTS, WEIGHTS_INDEX, _SHARDS]
    patterns += [f"0_*/{pattern}" for pattern in patterns] + [*SENTENCE_FILES, *(SENTENCE_WEIGHTS if weights else ())]
    return fetch_model(model, revision, patterns, weights=weights)


def _listing_sha256(files: list[Path]) -> str:
    listing = "".join(f"{path.name} {sha256_of(path)}\n" for path in sorted(files, key=lambda path: path.name))
    return hashlib.sha256(listing.encode()).hexdigest()
