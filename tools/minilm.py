"""all-MiniLM-L6-v2 as it teaches: the vectors of a text's tokens, and where in the text they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tokenizers import Tokenizer
from transformers import BertModel

WIDTH = 384


@dataclass(frozen=True)
class Read:
    """One text: its tokens' vectors (T, 384) float16, CLS and SEP included, and where each token begins (T,)."""

    vectors: npt.NDArray[np.float16]
    begins: npt.NDArray[np.int32]


def tokenizer_of(folder: Path, longest: int = 512) -> Tokenizer:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


@torch.inference_mode()
def read(folder: Path, texts: Sequence[str], budget: int = 4096) -> list[Read]:
    """Texts through MiniLM, sorted by length into batches of at most ``budget`` tokens."""
    model = BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation="eager")
    model.train(mode=False)
    encodings = tokenizer_of(folder).encode_batch(list(texts))
    order = sorted(range(len(texts)), key=lambda index: len(encodings[index].ids))
    found: dict[int, Read] = {}
    while order:
        longest = len(encodings[order[-1]].ids)
        batch = [order.pop() for _ in range(min(len(order), max(1, budget // longest)))]
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        mask = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, index in enumerate(batch):
            own = encodings[index].ids
            ids[row, : len(own)], mask[row, : len(own)] = torch.tensor(own), 1
        with torch.autocast("cpu", torch.bfloat16):
            hidden = model(input_ids=ids, attention_mask=mask).last_hidden_state.half().numpy()
        for row, index in enumerate(batch):
            begins = np.array([begin for begin, _ in encodings[index].offsets], np.int32)
            found[index] = Read(hidden[row, : len(begins)].copy(), begins)
    return [found[index] for index in range(len(texts))]


def means(reads: Sequence[Read]) -> npt.NDArray[np.float32]:
    """(texts, 384): the mean over a text's tokens, which is the sentence embedding before it is normalised."""
    return np.stack([one.vectors.astype(np.float32).mean(0) for one in reads])
