"""What was found becomes part of the dataset: its items, its posters, its terms, and tables of what is missing.

Posters come first, then `items.parquet`, then `dataset.json`, each whole or not at all: a run that is killed in between
leaves a dataset that can be read, and the next one completes it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl

from ..dataset.folder import ITEM_COLUMNS, Description, poster_root_as_written
from ..dataset.posters.files import poster_inside
from ..dataset.posters.members import Member
from ..runtime.disk import put_in_place, write_atomically, writing

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from ..dataset.catalog import Catalog
    from .services.facts import Facts, Found, Service
    from .wishes import Wish

_PLAIN = re.compile(r"[A-Za-z0-9_-]{1,40}")


@dataclass(frozen=True)
class Outcome:
    """What became of one wish. ``accepted``: the confidence suffices. ``problem`` says why nothing was found."""

    wish: Wish
    found: Found | None = None
    accepted: bool = False
    poster: Path | None = None
    poster_problem: str = ""
    problem: str = ""

    @property
    def facts(self) -> Facts | None:
        """What may be taken."""
        return self.found.facts if self.found is not None and self.accepted else None


@dataclass(frozen=True)
class Applied:
    """How many items got what, and what is missing: (item, title, what, why)."""

    taken: dict[str, int]
    missing: list[tuple[str, str, str, str]]


def apply(
    catalog: Catalog, dataset: Path, service: Service, outcomes: Sequence[Outcome], *, overwrite: bool
) -> Applied:
    """Write what was accepted into the dataset folder, and the tables in its folder ``enrichment``.

    What an item has is kept unless ``overwrite``. Raises NoSpace and BadInput where the disk refuses.
    """
    root, existing = _poster_root(catalog, dataset, outcomes)
    columns = {name: catalog.items[name].to_list() for name in ("text", "poster", "year", "genres", "tags")}
    columns["poster"] = existing
    rows = {str(item): row for row, item in enumerate(catalog.ids.tolist())}
    taken: dict[str, int] = dict.fromkeys(service.gives, 0)
    for outcome in outcomes:
        if outcome.facts is None:
            continue
        row = rows[outcome.wish.wanted.item_id]
        for name, value in _values(outcome, dataset, root, service).items():
            if name == "tags":
                value = _with_tags(columns["tags"][row] or [], value, overwrite=overwrite)
            columns[name][row] = value
            taken[name] += 1
    changed = [pl.Series(name, values, dtype=ITEM_COLUMNS[name]) for name, values in columns.items()]
    items = catalog.items.with_columns(changed)
    _write_items(items, dataset / "items.parquet")
    _describe(dataset, service, items, taken, poster_root_as_written(root, dataset))
    missing = [line for outcome in outcomes for line in _missing_of(outcome, service)]
    _write_tables(dataset / "enrichment", service, outcomes, missing)
    return Applied(taken, missing)


def _values(outcome: Outcome, dataset: Path, root: Path, service: Service) -> dict[str, object]:
    facts, lacks = outcome.facts, outcome.wish.lacks
    assert facts is not None
    found: dict[str, object] = {
        "text": facts.text,
        "year": facts.year,
        "genres": list(facts.genres),
        "tags": [f"{kind}: {word}" for kind, words in facts.tags.items() for word in words],
    }
    if outcome.poster is not None:
        found["poster"] = _place_poster(outcome.poster, facts, dataset, root, service)
    # an item that is looked up for anything gets the kinds of tags that it has none of
    return {name: value for name, value in found.items() if value and (name in lacks or name == "tags")}


def _with_tags(ours: list[str], theirs: object, *, overwrite: bool) -> list[str]:
    """Both, without kinds of theirs that we have; with ``overwrite`` theirs go before ours of the same kind."""
    assert isinstance(theirs, list)
    first, second = (theirs, ours) if overwrite else (ours, theirs)
    kinds = {tag.partition(": ")[0] for tag in first}
    return list(dict.fromkeys([*first, *(tag for tag in second if tag.partition(": ")[0] not in kinds)]))


def _poster_root(catalog: Catalog, dataset: Path, outcomes: Sequence[Outcome]) -> tuple[Path, list[str | None]]:
    """Where poster paths start from now on, and the paths that there are, as they start there.

    Fetched posters lie in the dataset. Where the user's lie elsewhere, they are linked (or copied) into it, since all
    paths start at one place; the originals stay as they are.
    """
    root, given = catalog.poster_root, catalog.posters()
    if not any(outcome.poster for outcome in outcomes) or root.resolve().is_relative_to(dataset.resolve()):
        return root, given
    adopted: list[str | None] = []
    for poster in given:
        file = poster_inside(root, poster) if poster is not None else None
        if poster is None or file is None:
            # a run that was killed may have linked it and written items.parquet, but not dataset.json
            adopted.append(poster if poster and poster_inside(dataset, poster) else None)
            continue
        place = Path("posters", "own", os.path.relpath(file, root.resolve()))
        _link(file, dataset / place)
        member = Member.parse(poster)  # of one inside an archive, the archive is linked
        adopted.append(place.as_posix() if member is None else str(replace(member, file=place.as_posix())))
    return dataset, adopted


def _place_poster(file: Path, facts: Facts, dataset: Path, root: Path, service: Service) -> str:
    folder = (root if root.resolve() != dataset.resolve() else dataset / "posters") / service.name
    number = facts.service_id if _PLAIN.fullmatch(facts.service_id) else "film"
    mark = hashlib.sha256((facts.poster or "").encode()).hexdigest()[:8]
    place = folder / f"{number}-{mark}{file.suffix}"
    _link(file, place)
    return place.relative_to(root).as_posix()


def _link(source: Path, place: Path) -> None:
    with writing(place):
        place.parent.mkdir(parents=True, exist_ok=True)
        if place.exists():
            return
        try:
            os.link(source, place)
        except OSError:  # another disk, or one without links
            temporary = place.with_name(f".{place.name}.new")
            shutil.copyfile(source, temporary)
            put_in_place(temporary, place)


def _write_items(items: pl.DataFrame, file: Path) -> None:
    temporary = file.with_name(f".{file.name}.new")
    with writing(file):
        try:
            items.write_parquet(temporary, compression="zstd")
            put_in_place(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)


def _describe(dataset: Path, service: Service, items: pl.DataFrame, taken: dict[str, int], root: str) -> None:
    was = Description.read(dataset)
    counts = was.counts | {
        name: items.height - items[column].null_count() for name, column in (("texts", "text"), ("posters", "poster"))
    }
    if tags := items["tags"].explode().drop_nulls().n_unique():
        counts["tags"] = tags
    source = {
        "name": service.shown,
        "address": service.address,
        "terms": service.terms,
        "notice": service.notice,
        "retrieved": f"{datetime.now(UTC):%Y-%m-%d}",
    }
    others = [one for one in was.sources if one.get("name") != service.shown]
    used = any(taken.values()) or len(others) < len(was.sources)
    replace(was, posters=root, counts=counts, sources=[*others, source] if used else others).write(dataset)
    if used:
        notices = [one for one in (*others, source) if one.get("notice")]
        text = "".join(
            f"{one['name']}: {one['notice']}\nTerms: {one['terms']}\nRetrieved: {one['retrieved']}\n\n"
            for one in notices
        )
        write_atomically(dataset / "ATTRIBUTION.txt", text.encode())


def _missing_of(outcome: Outcome, service: Service) -> list[tuple[str, str, str, str]]:
    wanted, facts = outcome.wish.wanted, outcome.facts
    wants = [what for what in ("text", "poster") if what in outcome.wish.lacks]
    if facts is None:
        found = outcome.found
        why = outcome.problem or (found.reason if found else "")
        if found is not None and found.facts is not None:
            theirs = f"{found.facts.title!r}, {found.facts.year or 'no year'}"
            why = f"the match is doubtful ({found.confidence:.2f}): {theirs}"
        return [(wanted.item_id, wanted.title, what, why) for what in wants]
    lines = []
    if "text" in wants and not facts.text:
        lines.append((wanted.item_id, wanted.title, "text", f"{service.shown} has no text of it"))
    if "poster" in wants and outcome.poster is None:
        why = outcome.poster_problem or f"{service.shown} has no poster of it"
        lines.append((wanted.item_id, wanted.title, "poster", why))
    return lines


def _write_tables(
    folder: Path, service: Service, outcomes: Sequence[Outcome], missing: list[tuple[str, str, str, str]]
) -> None:
    with writing(folder):
        folder.mkdir(exist_ok=True)
    theirs = {"tmdb": "tmdb_id", "omdb": "imdb_id"}.get(service.name, "article")
    everything, doubtful = [], []
    for outcome in outcomes:
        wanted, found = outcome.wish.wanted, outcome.found
        facts = found.facts if found else None
        base = (wanted.item_id, wanted.title, wanted.year)
        if found is not None and facts is not None:
            line = (*base, found.by, found.confidence, facts.service_id, facts.title, facts.year, facts.page)
            everything.append((*line, outcome.accepted))
            if not outcome.accepted:
                doubtful.append(line)
                others = [guess for guess in found.guesses if guess.candidate.service_id != facts.service_id]
                doubtful += [
                    (
                        *base,
                        found.by,
                        guess.confidence,
                        guess.candidate.service_id,
                        guess.candidate.titles[0],
                        guess.candidate.year,
                        "",
                    )
                    for guess in others
                    if guess.candidate.titles
                ]
        else:
            everything.append((*base, found.by if found else "", 0.0, "", "", None, "", False))
    names = ["item_id", "title", "year", "matched_by", "confidence", theirs, "their_title", "their_year", "page"]
    kinds: dict[str, type[pl.DataType]] = dict.fromkeys(names, pl.String)
    kinds |= {"year": pl.Int32, "their_year": pl.Int32, "confidence": pl.Float64}
    _write_csv(folder / f"{service.name}.csv", everything, kinds | {"taken": pl.Boolean})
    _write_csv(folder / f"{service.name}-doubtful.csv", doubtful, kinds)
    _write_csv(
        folder / f"{service.name}-missing.csv", missing, dict.fromkeys(("item_id", "title", "what", "why"), pl.String)
    )


def _write_csv(file: Path, rows: Sequence[tuple[object, ...]], schema: Mapping[str, type[pl.DataType]]) -> None:
    table = pl.DataFrame(rows, schema=schema, orient="row")
    write_atomically(file, table.write_csv().encode())
