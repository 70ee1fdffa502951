"""Explain predictions of items: attention over text and image, predictions with them masked, and their agreement."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...data.dataset.posters.files import poster_bytes
from ...data.pages.pictures import poster_picture
from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.untrusted_text import shown
from ..runs.run import Run
from ..serving.known_ids import known_user
from ..serving.run_tables import run_items
from .ablation import Agreement, Parts, ablate, agreement, occlude
from .attention import ItemAttention, item_attention, plot_of
from .explanation import MODALITY_NAMES, Explanation
from .heatmap import Box, covered_box
from .masking import ItemMasking
from .plot_words import Plot
from .reading import Reading


def explain(
    run: Run,
    items: Sequence[int | str],
    user: int | str | None = None,
    *,
    dataset: Path | None = None,
    cache: Path | None = None,
    text_model: str | None = None,
    rollout: bool = False,
) -> list[Explanation]:
    """Explain the predictions of items, given by id, for all users on average and for ``user`` where one is given.

    ``dataset`` and ``cache`` say where the run's dataset and embedding file are now, ``text_model`` which folder has
    the tokenizer of the plots. BadInput for an item or user that is not in the run, with the nearest ones, where
    dataset or embedding file are missing, and for a run without a rating model; FingerprintMismatch where they are not
    the run's.
    """
    if not items:
        raise UsageError("explain: expected at least one --item ID")
    if not run.recommender.predicts:
        raise BadInput(
            f"{run.folder} has no rating model, whose predictions `explain` explains: it was trained for ranking "
            "alone; `cinefuse recommend` says because of which film each of a list is there"
        )
    numbers = [known_item(run, item) for item in items]
    of_user = None if user is None else known_user(run.recommender, user)
    reading = Reading.open(run, dataset=dataset, cache=cache)
    explainer = _Explainer(reading, of_user, text_model, rollout)
    return [explainer.explain(number) for number in dict.fromkeys(numbers)]


def known_item(run: Run, given: int | str) -> int:
    """The number of an item given by id, or by its digits where ids are integers; BadInput where it is unknown."""
    ids = run.recommender.item_ids
    wanted: Any = given
    if ids.dtype.kind == "i" and isinstance(given, str):
        try:
            wanted = int(given.strip())
        except ValueError:
            wanted = None
    number = int(run.recommender.item_numbers([wanted])[0])
    if number < 0:
        raise BadInput(f"item {shown(given)}: {run.folder} knows no such film; the nearest are {_nearest(run, given)}")
    return number


def _nearest(run: Run, given: int | str) -> str:
    """Up to three items: the nearest ids where ids are integers and one was given, else the nearest ids and titles."""
    items = run_items(run)
    ids, titles = items["item_id"].to_list(), [str(title) for title in items["title"].to_list()]
    text = str(given).strip()
    if run.recommender.item_ids.dtype.kind == "i" and text.lstrip("-").isdigit():
        near = sorted(range(len(ids)), key=lambda place: (abs(ids[place] - int(text)), ids[place]))[:3]
    else:
        names = {title.casefold(): place for place, title in enumerate(titles)}
        names |= {str(item).casefold(): place for place, item in enumerate(ids)}
        wanted = text.casefold()
        alike = [name for name in names if wanted and wanted in name][:3]
        alike += difflib.get_close_matches(wanted, list(names), n=3, cutoff=0.3)
        near = list(dict.fromkeys(names[name] for name in alike))[:3] or list(range(min(3, len(ids))))
    return ", ".join(f"{ids[place]} ({titles[place]})" for place in near)


class _Explainer:
    """Explains one item after another; what they share is read once."""

    def __init__(self, reading: Reading, user: int | None, text_model: str | None, rollout: bool) -> None:
        self._reading, self._user, self._text_model, self._rollout = reading, user, text_model, rollout
        self._items = run_items(reading.run)
        self._components = reading.components

    def explain(self, number: int) -> Explanation:
        reading = self._reading
        item = reading.run.recommender.item_ids.tolist()[number]
        masking = ItemMasking(reading, number, self._components)
        attention = item_attention(reading, item, rollout=self._rollout, text_model=self._text_model)
        plot = attention.plot if attention is not None else None
        plot = plot or plot_of(reading, number, self._text_model)
        occluded = {name: occlude(reading, masking, number, name, plot) for name in ("text", "image")}
        parts = {name: found for name, found in occluded.items() if found is not None}
        poster = poster_picture(reading.catalog.poster_root, reading.catalog.items["poster"][number])
        box = self._box(number, poster)
        return Explanation(
            item_id=item,
            title=str(self._items["title"][number] or f"film {item}"),
            train_ratings=int(self._items["train_ratings"][number]),
            user_id=None if self._user is None else reading.run.recommender.user_ids.tolist()[self._user],
            ablation=ablate(reading, masking, self._user),
            attention=attention,
            parts=parts,
            agreement=self._agreement(masking, attention, parts),
            plot=plot,
            poster=poster,
            box=box,
            notes=tuple(self._notes(number, masking, attention, parts, plot, poster, box)),
        )

    def _agreement(
        self, masking: ItemMasking, attention: ItemAttention | None, parts: Mapping[str, Parts]
    ) -> dict[str, Agreement]:
        found = {}
        if attention is not None and "text" in parts and attention.words:
            positions = [np.array(word.positions) for word in attention.words]
            weights = attention.word_weights
            found["text"] = agreement(self._reading, masking, "text", parts["text"], weights, positions)
        if attention is not None and "image" in parts and attention.patches is not None:
            weights = attention.patches.ravel()
            positions = [np.array([patch]) for patch in range(weights.size)]
            found["image"] = agreement(self._reading, masking, "image", parts["image"], weights, positions)
        return found

    def _box(self, number: int, poster: Image.Image | None) -> Box | None:
        reading = self._reading
        if poster is None or reading.embeddings is None or not reading.has(number, "image"):
            return None
        if "image" not in reading.modalities:
            return None
        return covered_box(reading.embeddings["image"].record, *poster.size)

    def _notes(
        self,
        number: int,
        masking: ItemMasking,
        attention: ItemAttention | None,
        parts: Mapping[str, Parts],
        plot: Plot | None,
        poster: Image.Image | None,
        box: Box | None,
    ) -> list[str]:
        reading, config = self._reading, self._reading.config
        notes = []
        if not reading.modalities:
            notes.append(
                f"the run (preset {config.preset}) reads neither plots nor posters: masking them changes nothing"
            )
            return notes
        if attention is None:
            how = "as their principal components alone" if self._components else "not at all"
            notes.append(
                f"the run (preset {config.preset}) has no Transformer, so there is no attention: plots and posters "
                f"are read {how}" + ("; pictures show the change when each part is masked" if parts else "")
            )
        elif config.level == "cls":
            notes.append("the run reads plot and poster as one token each (level=cls), not single words and patches")
        for name in ("text", "image"):
            if name not in reading.modalities:
                notes.append(f"the run does not read {MODALITY_NAMES[name]}s")
            elif name not in masking.has:
                absent = "" if attention is None else ": its attention goes to the learned absent token"
                notes.append(f"the embedding file has no {MODALITY_NAMES[name]} of this film{absent}")
        if plot is not None and plot.note:
            notes.append(plot.note)
        if plot is not None and plot.read_to < len(plot.text):
            notes.append("the end of the plot was cut off when it was embedded; the model has not read it")
        if "image" in masking.has:
            notes += self._poster_notes(number, poster, box)
        return notes

    def _poster_notes(self, number: int, poster: Image.Image | None, box: Box | None) -> list[str]:
        reading = self._reading
        if poster is None:
            return ["the poster file is missing: only its embedding is here, so the grid is shown alone"]
        notes = []
        if box is None:
            notes.append(
                "the embedding file does not say which part of a poster its patches cover: the grid is shown alone"
            )
        raw = poster_bytes(reading.catalog.poster_root, reading.catalog.items["poster"][number])
        if reading.embeddings is not None and raw is not None:
            digest = reading.embeddings["image"].digest[int(reading.rows[number])]
            if hashlib.sha256(raw).digest() != digest.tobytes():
                notes.append("the poster has changed since it was embedded: the picture shows the new one")
        return notes
