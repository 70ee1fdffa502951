"""Why a film is rated as it is: where the model looks, what its prediction becomes without it, and if the two agree."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from ...data.dataset.posters import poster_bytes
from ...data.pages.page import signed
from ...data.pages.pictures import poster_picture
from ...data.runtime.errors import BadInput, UsageError
from ...data.runtime.untrusted_text import shown
from ..runs.run import Run
from ..serving.known_ids import known_user
from ..serving.run_tables import run_items
from .ablation import Ablation, Agreement, Hiding, Parts, ablate, agreement, occlude
from .attention import FilmAttention, film_attention, plot_of
from .heatmap import Box, covered_box, span_of, strength
from .plot_words import Plot
from .reading import Reading

Floats = npt.NDArray[np.float32]

_KINDS = {"text": "plot", "image": "poster"}
_MOST_NAMED = 12


@dataclass(frozen=True)
class Marked:
    """A piece of a plot, and how strongly to mark it, from 0 (an even share or less) to 1; ``read``: not cut off.

    lift: how many times an even share it gets; None between words.
    """

    text: str
    mark: float = 0.0
    lift: float | None = None
    read: bool = True


@dataclass(frozen=True, eq=False)
class Explanation:
    """One film explained.

    attention: None where the run has no Transformer. parts and agreement: what hiding parts of "text" and "image" does,
    where the model is told such parts, and whether attention tells it. box: the part of the poster that the patches
    cover. notes: what could not be had or is not as one would think, a sentence each.
    """

    item_id: int | str
    title: str
    train_ratings: int
    user_id: int | str | None
    ablation: Ablation
    attention: FilmAttention | None
    parts: Mapping[str, Parts]
    agreement: Mapping[str, Agreement]
    plot: Plot | None
    poster: Image.Image | None
    box: Box | None
    notes: tuple[str, ...]

    @property
    def shown(self) -> str:
        """What the pictures show: "attention", or "hiding" where there is none; "nothing" without either."""
        if self.attention is not None and (self.attention.patches is not None or self.attention.words):
            return "attention"
        return "hiding" if self.parts else "nothing"

    @cached_property
    def patch_lift(self) -> Floats | None:
        """(gh, gw): how many times an even share each patch gets of what is shown; None where nothing is."""
        if self.shown == "attention" and self.attention is not None:
            return self.attention.patch_lift
        return self.hiding_lift

    @cached_property
    def hiding_lift(self) -> Floats | None:
        """(rows, columns): the change from hiding each square of patches, over the mean of all squares."""
        parts = self.parts.get("image")
        if parts is None or parts.grid is None or not parts.change.mean():
            return None
        lift: Floats = (parts.change / parts.change.mean()).reshape(parts.grid)
        return lift

    @cached_property
    def word_lift(self) -> Floats:
        """(W,): how many times an even share each word of the plot gets of what is shown."""
        if self.shown == "attention" and self.attention is not None:
            return self.attention.word_lift
        return self.word_hiding_lift

    @cached_property
    def word_hiding_lift(self) -> Floats:
        """(W,): the change from hiding each word (or the stretch it stands in), over the mean of all."""
        parts = self.parts.get("text")
        lift = np.zeros(0 if self.plot is None else len(self.plot.words), np.float32)
        if parts is not None and parts.change.mean():
            for part, change in zip(parts.members, parts.change / parts.change.mean(), strict=True):
                lift[part] = change
        return lift

    @property
    def in_short(self) -> str:
        """What all users are predicted on average, and what hiding poster or plot, where there is one, changes."""
        whole = self.ablation.everything.average
        changes = [f"without {kind} {signed(rated.average - whole, 3)}" for kind, rated in self.ablation.hidden]
        return "; ".join([f"predicted {whole:.2f}", *([", ".join(changes)] if changes else [])])

    @property
    def agreements(self) -> list[tuple[str, Agreement]]:
        """Those of "plot" and "poster" that there are."""
        return [(kind, self.agreement[name]) for name, kind in _KINDS.items() if name in self.agreement]

    @property
    def span(self) -> float:
        """What the lightest colour stands for, in even shares, on pictures of what is `shown`."""
        return span_of(self.patch_lift)

    @property
    def hiding_span(self) -> float:
        """The same of pictures of what hiding changes."""
        return span_of(self.hiding_lift)

    def words_by_lift(self, most: int = _MOST_NAMED) -> list[tuple[str, float]]:
        """The words of most weight with their lifts, each once as it is first met; without punctuation."""
        if self.plot is None:
            return []
        found: dict[str, tuple[str, float]] = {}
        for place in np.argsort(-self.word_lift, kind="stable").tolist():
            word = self.plot.words[place].text
            if any(c.isalnum() for c in word) and self.word_lift[place] > 0:
                found.setdefault(word.casefold(), (word, float(self.word_lift[place])))
                if len(found) == most:
                    break
        return list(found.values())

    def marked_plot(self) -> list[Marked]:
        """The plot in pieces, words and what stands between them; joined they are the plot again."""
        if self.plot is None:
            return []
        marks = np.maximum(2 * strength(self.word_lift, span_of(self.word_lift)) - 1, 0).tolist()
        words = zip(self.plot.words, marks, self.word_lift.tolist(), strict=True)
        if self.plot.note:
            return [piece for word, mark, lift in words for piece in (Marked(word.text, mark, lift), Marked(" "))]
        pieces, at = [], 0
        for word, mark, lift in words:
            between = [Marked(self.plot.text[at : word.start])] if word.start > at else []
            pieces += [*between, Marked(self.plot.text[word.start : word.end], mark, lift)]
            at = word.end
        rest = self.plot.text[at:]
        return [*pieces, Marked(rest, read=not rest.strip())] if rest else pieces

    def as_dict(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        a = self.attention
        return {
            "item_id": self.item_id,
            "title": self.title,
            "train_ratings": self.train_ratings,
            "user_id": self.user_id,
            "prediction": {
                name: asdict(getattr(self.ablation, name))
                for name in ("everything", "without_image", "without_text", "without_both")
            },
            "has": list(self.ablation.has),
            "shares_of_change": self.ablation.shares,
            "attention": None
            if a is None
            else {
                "rollout": a.rollout,
                "shares": a.shares,
                "even_shares": a.even_shares,
                "mass": dict(a.mass),
                "absent": list(a.absent),
                "by_head": a.by_head.tolist(),
                "patches": None if a.patches is None else a.patches.tolist(),
                "words": [
                    {"word": w.text, "start": w.start, "end": w.end, "weight": float(weight)}
                    for w, weight in zip(a.words, a.word_weights, strict=True)
                ],
            },
            "hiding": {
                name: {
                    "grid": parts.grid,
                    "members": [part.tolist() for part in parts.members],
                    "change": parts.change.tolist(),
                    "shift": parts.shift.tolist(),
                }
                for name, parts in self.parts.items()
            },
            "agreement": {
                name: asdict(found) | {"predicts": found.predicts, "verdict": found.verdict}
                for name, found in self.agreement.items()
            },
            "notes": list(self.notes),
        }


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
    """Explain films, given by id, to everybody, and to ``user`` besides.

    ``dataset`` and ``cache`` say where the run's dataset and embedding file are now, ``text_model`` which folder has
    the tokenizer of the plots. BadInput for an item or user that the run doesn't know, with the nearest, and where
    dataset or embedding file are gone; FingerprintMismatch where they are others than the run's.
    """
    if not items:
        raise UsageError("explain: expected at least one --item ID")
    numbers = [known_item(run, item) for item in items]
    of_user = None if user is None else known_user(run.recommender, user)
    reading = Reading.open(run, dataset=dataset, cache=cache)
    explainer = _Explainer(reading, of_user, text_model, rollout)
    return [explainer.film(number) for number in dict.fromkeys(numbers)]


def known_item(run: Run, given: int | str) -> int:
    """The number of a film given by id, or by its digits where ids are whole numbers; BadInput where it is unknown."""
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
    """Up to three films: by number where an id was given, by spelling of id or title where anything else was."""
    films = run_items(run)
    ids, titles = films["item_id"].to_list(), [str(title) for title in films["title"].to_list()]
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
    """Explains one film after another; what they share is read once."""

    def __init__(self, reading: Reading, user: int | None, text_model: str | None, rollout: bool) -> None:
        self._reading, self._user, self._text_model, self._rollout = reading, user, text_model, rollout
        self._films = run_items(reading.run)
        self._components = reading.components

    def film(self, number: int) -> Explanation:
        reading = self._reading
        item = reading.run.recommender.item_ids.tolist()[number]
        hiding = Hiding(reading, number, self._components)
        attention = film_attention(reading, item, rollout=self._rollout, text_model=self._text_model)
        plot = attention.plot if attention is not None else None
        plot = plot or plot_of(reading, number, self._text_model)
        parts = {name: occlude(reading, hiding, number, name, plot) for name in ("text", "image")}
        told = {name: found for name, found in parts.items() if found is not None}
        poster = poster_picture(reading.catalog.poster_root, reading.catalog.items["poster"][number])
        box = self._box(number, poster)
        return Explanation(
            item_id=item,
            title=str(self._films["title"][number] or f"film {item}"),
            train_ratings=int(self._films["train_ratings"][number]),
            user_id=None if self._user is None else reading.run.recommender.user_ids.tolist()[self._user],
            ablation=ablate(reading, hiding, self._user),
            attention=attention,
            parts=told,
            agreement=self._agreement(hiding, attention, told),
            plot=plot,
            poster=poster,
            box=box,
            notes=tuple(self._notes(number, hiding, attention, told, plot, poster, box)),
        )

    def _agreement(
        self, hiding: Hiding, attention: FilmAttention | None, parts: Mapping[str, Parts]
    ) -> dict[str, Agreement]:
        found = {}
        if attention is not None and "text" in parts and attention.words:
            positions = [np.array(word.positions) for word in attention.words]
            weights = attention.word_weights
            found["text"] = agreement(self._reading, hiding, "text", parts["text"], weights, positions)
        if attention is not None and "image" in parts and attention.patches is not None:
            weights = attention.patches.ravel()
            positions = [np.array([patch]) for patch in range(weights.size)]
            found["image"] = agreement(self._reading, hiding, "image", parts["image"], weights, positions)
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
        hiding: Hiding,
        attention: FilmAttention | None,
        parts: Mapping[str, Parts],
        plot: Plot | None,
        poster: Image.Image | None,
        box: Box | None,
    ) -> list[str]:
        reading, config = self._reading, self._reading.config
        notes = []
        if not reading.modalities:
            notes.append(
                f"the run (preset {config.preset}) reads neither plots nor posters: hiding them changes nothing"
            )
            return notes
        if attention is None:
            how = "as their principal components alone" if self._components else "not at all"
            notes.append(
                f"the run (preset {config.preset}) has no Transformer, so there is no attention: plots and posters are "
                f"read {how}" + ("; the pictures show what hiding each part changes" if parts else "")
            )
        elif config.level == "cls":
            notes.append("the run reads plot and poster as one token each (level=cls): words and patches it cannot see")
        for name in ("text", "image"):
            if name not in reading.modalities:
                notes.append(f"the run does not read {_KINDS[name]}s")
            elif name not in hiding.has:
                absent = "" if attention is None else ": what attention it gets lies on the learned absent token"
                notes.append(f"the embedding file has no {_KINDS[name]} of this film{absent}")
        if plot is not None and plot.note:
            notes.append(plot.note)
        if plot is not None and plot.read_to < len(plot.text):
            notes.append("the end of the plot was cut off when it was embedded; the model has not read it")
        if "image" in hiding.has:
            notes += self._poster_notes(number, poster, box)
        return notes

    def _poster_notes(self, number: int, poster: Image.Image | None, box: Box | None) -> list[str]:
        reading = self._reading
        if poster is None:
            return ["the poster itself is not at hand: its embedding is, so the grid is shown alone"]
        notes = []
        if box is None:
            notes.append(
                "the embedding file does not tell which part of a poster its patches cover: the grid is shown alone"
            )
        raw = poster_bytes(reading.catalog.poster_root, reading.catalog.items["poster"][number])
        if reading.embeddings is not None and raw is not None:
            digest = reading.embeddings["image"].digest[int(reading.rows[number])]
            if hashlib.sha256(raw).digest() != digest.tobytes():
                notes.append("the poster has changed since it was embedded: the picture shows the new one")
        return notes
