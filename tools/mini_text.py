"""cinefuse-mini-text: a small BERT that learns to read plots as MiniLM reads them.

Its vocabulary is the part of MiniLM's that plots need, its word vectors start as MiniLM's in their main directions.
Each token regresses MiniLM's vector of the token at the same place in the text, CLS and the mean token MiniLM's
sentence embedding; where words are masked, they are guessed as well.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer
from torch import nn
from transformers import BertConfig, BertModel, BertTokenizer

from . import minilm
from .minilm import Read

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD, UNK, CLS, SEP, MASK = range(5)
LONGEST = 512
READ = 192  # tokens of a text that are learned from: longer ones cost more than they teach
_SPREAD = 1e-3  # some of MiniLM's dimensions never vary

Floats = npt.NDArray[np.floating]


def vocabulary(tokenizer: Tokenizer, plots: Sequence[str], *, films: int, common: int) -> dict[str, int]:
    """MiniLM's tokens found in at least ``films`` plots, its ``common`` most common words, and every Latin character.

    Single characters stay with and without ``##``, so that a word outside falls into pieces and not into [UNK].
    """
    counts: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(plots)):
        counts.update(set(encoding.tokens))
    by_id = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [token for token, _ in by_id if re.fullmatch("[a-z]{2,}", token)]  # BERT numbers words by frequency
    wanted = set(words[:common]) | {token for token, count in counts.items() if count >= films}
    kept = [token for token, _ in by_id if token in wanted or _is_character(token.removeprefix("##"))]
    return {token: index for index, token in enumerate(dict.fromkeys([*SPECIAL, *kept]))}


def _is_character(token: str) -> bool:
    return len(token) == 1 and (ord(token) < 0x250 or 0x2000 <= ord(token) < 0x20D0)


def new_bert(size: int, width: int, layers: int) -> BertModel:
    config = BertConfig(
        vocab_size=size,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=width // 32,
        intermediate_size=4 * width,
        max_position_embeddings=LONGEST,
        hidden_dropout_prob=0.0,  # masked words and varied texts keep it from learning by heart, and cost nothing
        attention_probs_dropout_prob=0.0,
        pad_token_id=PAD,
    )
    bert = BertModel(config, add_pooling_layer=False)
    bert.set_attn_implementation("eager")
    return bert


class Student(nn.Module):
    """The BERT with the heads it needs while it learns."""

    def __init__(self, bert: BertModel) -> None:
        super().__init__()
        self.bert = bert
        width = bert.config.hidden_size
        self.token_head = nn.Linear(width, minilm.WIDTH)
        self.cls_head = nn.Linear(width, minilm.WIDTH)
        self.mean_head = nn.Linear(width, minilm.WIDTH)
        self.word_head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        self.word_bias = nn.Parameter(torch.zeros(bert.config.vocab_size))

    def begin_as(self, folder: Path, vocabulary: dict[str, int]) -> None:
        """Word, position and type vectors of MiniLM, turned into the main directions of its word vectors."""
        theirs = BertModel.from_pretrained(folder, add_pooling_layer=False).embeddings
        ids = minilm.tokenizer_of(folder).get_vocab()
        words = theirs.word_embeddings.weight.detach()[[ids[token] for token in vocabulary]]
        _, _, directions = torch.linalg.svd(words, full_matrices=False)
        turn = directions[: self.bert.config.hidden_size].T
        own = self.bert.embeddings
        with torch.no_grad():
            own.word_embeddings.weight.copy_(words @ turn)
            own.position_embeddings.weight.copy_(theirs.position_embeddings.weight[:LONGEST] @ turn)
            own.token_type_embeddings.weight.copy_(theirs.token_type_embeddings.weight @ turn)


@dataclass
class Lessons:
    """Texts as the student's token ids, and what MiniLM makes of each token and of the whole; all standardised."""

    ids: list[npt.NDArray[np.int32]]
    tokens: list[npt.NDArray[np.float16]]  # (T, 384) each
    wholes: torch.Tensor  # (texts, 384)


def aligned(tokenizer: BertTokenizer, texts: Sequence[str], reads: Sequence[Read]) -> Lessons:
    """MiniLM's vectors for the student's own tokens: of the token that holds the character where each begins."""
    ids, tokens = [], []
    wholes = minilm.means(reads)
    sample = np.concatenate([one.vectors for one in reads[:2000]]).astype(np.float32)
    mean, spread = sample.mean(0), sample.std(0).clip(_SPREAD)
    encoded = tokenizer(
        list(texts), truncation=True, max_length=READ, return_offsets_mapping=True, return_attention_mask=False
    )
    for own, offsets, one in zip(encoded["input_ids"], encoded["offset_mapping"], reads, strict=True):
        begins = np.array([begin for begin, _ in offsets])
        place = np.searchsorted(one.begins[1:-1], begins, side="right").clip(1)
        place[0], place[-1] = 0, len(one.begins) - 1
        ids.append(np.array(own, np.int32))
        tokens.append(((one.vectors[place].astype(np.float32) - mean) / spread).astype(np.float16))
    wholes = (wholes - wholes.mean(0)) / wholes.std(0).clip(_SPREAD)
    return Lessons(ids, tokens, torch.from_numpy(wholes))


def loss_of_step(
    student: Student, lessons: Lessons, rows: Sequence[int], masked: float, chance: torch.Generator
) -> dict[str, torch.Tensor]:
    """The parts of the loss on the texts ``rows``, with the share ``masked`` of the words hidden."""
    longest = max(len(lessons.ids[row]) for row in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.long)
    targets = torch.zeros(len(rows), longest, minilm.WIDTH)
    for index, row in enumerate(rows):
        own = lessons.ids[row]
        ids[index, : len(own)] = torch.from_numpy(own)
        targets[index, : len(own)] = torch.from_numpy(lessons.tokens[row]).float()
    there = ids != PAD
    shown, hidden_words = _masked(ids, masked, student.bert.config.vocab_size, chance)
    wholes = lessons.wholes[list(rows)]
    with torch.autocast("cpu", torch.bfloat16):
        hidden = student.bert(input_ids=shown, attention_mask=there.long()).last_hidden_state
        mean = (hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)
        tokens, cls, mean = student.token_head(hidden[there]), student.cls_head(hidden[:, 0]), student.mean_head(mean)
        words = student.word_head(hidden[hidden_words])
        logits = words @ student.bert.embeddings.word_embeddings.weight.T + student.word_bias
    parts = {
        "token": F.mse_loss(tokens.float(), targets[there]),
        "cls": F.mse_loss(cls.float(), wholes),
        "mean": F.mse_loss(mean.float(), wholes),
    }
    if hidden_words.any():
        parts["word"] = 0.1 * F.cross_entropy(logits.float(), ids[hidden_words])
    return parts


def _masked(ids: torch.Tensor, share: float, size: int, chance: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids with words hidden as BERT's authors do: of the chosen, 8 in 10 masked, 1 another word, 1 left as it is."""
    random = torch.rand(ids.shape, generator=chance)
    chosen = (random < share) & (ids > MASK)
    fate = torch.rand(ids.shape, generator=chance)
    other = torch.randint(MASK + 1, size, ids.shape, generator=chance)
    shown = torch.where(chosen & (fate < 0.8), MASK, ids)
    return torch.where(chosen & (fate >= 0.9), other, shown), chosen


@torch.inference_mode()
def features(student: Student, ids: Sequence[npt.NDArray[np.int32]], batch: int = 48) -> tuple[Floats, Floats]:
    """Texts to CLS and mean token, (texts, D) each; the mean takes CLS and SEP in, as MiniLM's own does."""
    width = student.bert.config.hidden_size
    cls, means = np.zeros((len(ids), width), np.float32), np.zeros((len(ids), width), np.float32)
    order = sorted(range(len(ids)), key=lambda row: len(ids[row]))
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        padded = torch.zeros(len(rows), len(ids[rows[-1]]), dtype=torch.long)
        for index, row in enumerate(rows):
            padded[index, : len(ids[row])] = torch.from_numpy(ids[row])
        there = padded != PAD
        with torch.autocast("cpu", torch.bfloat16):
            hidden = student.bert(input_ids=padded, attention_mask=there.long()).last_hidden_state.float()
        cls[rows] = hidden[:, 0].numpy()
        means[rows] = ((hidden * there[..., None]).sum(1) / there.sum(1, keepdim=True)).numpy()
    return cls, means
