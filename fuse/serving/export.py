"""Vectors of users and items as a nearest-neighbour index takes them."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from ...data.runtime.disk import put_in_place, write_atomically, write_json, writing
from ...data.runtime.errors import BadInput, UsageError
from ..evaluation.item_lists import USERS_AT_ONCE, ItemLists, top_items, users_of_block
from ..models.factors import Vectors
from ..models.ranking_model import unrated_last
from ..models.recommender import Recommender
from ..runs.run import Run
from .known_ids import id_type
from .scoring import chosen_model, item_counts, list_scores, ranking_of, ranks_by_product

Format = Literal["parquet", "npy"]
_BEST = 10
_BLOCKS_COMPARED = 16
FORMAT = "cinefuse-vectors"
VERSION = 1


@dataclass(frozen=True)
class Exported:
    """What an export wrote: ``dim`` is the width of ``vector``; ``augmented`` is two wider.

    ``by`` is the model whose vectors they are, "ranking" or "rating".
    ``agreement`` is the share of a user's ten best items that a score ranks among its ten best too, on average.
    """

    folder: Path
    format: Format
    users: int
    items: int
    dim: int
    by: str
    ranks_exactly: bool
    rates_exactly: bool
    agreement: float

    def as_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        return asdict(self) | {"folder": str(self.folder)}


def export(
    run: Run,
    out: Path,
    *,
    format: Format = "parquet",  # noqa: A002
    approximate: bool = False,
    by: str = "auto",
) -> Exported:
    """Write the vectors of a run's users and items into the folder ``out``, all or nothing.

    They are the ranking model's, or with ``by`` "rating" the rating model's; "auto" is the first where the run has it.
    For both sides (users, items) of D numbers each, D being all factors together:

    - "parquet": users.parquet and films.parquet with user_id or item_id, vector (D Float32), bias (Float32) and
      augmented (D + 2 Float32); films have train_ratings (Int64) too;
    - "npy": {users,films}_ids.npy (int64, or fixed-length text), _vectors.npy (n, D), _biases.npy (n,),
      _augmented.npy (n, D + 2), float32; films_train_ratings.npy (int64).

    The score of a pair is user vector · item vector + both biases, which is also the inner product of the two augmented
    vectors: user [vector, 1, bias], item [vector, bias, 1]. export.json says what a score means: each user's
    items in order of score stand as `recommend` lists them, but for items without a training rating, which come last
    there and belong into an index of their own. With squared heads, mean + unit * score of the rating model is the
    expected rating before it is clamped; one ordinal head's score is no rating, nor is the ranking model's.

    BadInput where several ordinal heads are averaged, or Bayesian factors take part, whose ranking no inner product
    gives exactly, unless ``approximate``; and where ``out`` is anything but a new or an empty folder. UsageError for
    another format. NoSpace or BadInput where the disk refuses.
    """
    if format not in get_args(Format):
        raise UsageError(f"format {format!r}: expected {' or '.join(get_args(Format))}")
    recommender = run.recommender
    model = chosen_model(run, by)
    ranked = ranking_of(run).vectors if model == "ranking" else None
    exact = ranked is not None or ranks_by_product(recommender)
    vectors = recommender.joint_vectors() if ranked is None else ranked
    agreement = 1.0 if exact else _agreement(run, vectors)
    if not (exact or approximate):
        mean, other = f"the mean of {len(recommender.vectors)} ordinal heads", "--set members=1 or --set head=squared"
        if recommender.bayesian is not None:
            mean, other = "a mean with Bayesian factors", "--set bayesian=false"
        raise BadInput(
            f"{run.folder}: {mean} is no function of one inner product: an index would find {agreement:.1%} of each "
            f"user's {_BEST} best films; accept that with --approximate, train with {other}, or export the ranking "
            "model"
        )
    done = Exported(
        out,
        format,
        len(recommender.user_ids),
        len(recommender.item_ids),
        vectors.item.shape[1] - 1,
        by=model,
        ranks_exactly=exact,
        rates_exactly=ranked is None and recommender.is_one_product,
        agreement=agreement,
    )
    _refuse_to_replace(out)
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.new-", dir=out.parent) as place:
            folder = Path(place) / "export"
            folder.mkdir()
            for name, content in _files(recommender, vectors, format):
                write_atomically(folder / name, content)
            write_json(folder / "export.json", _about(run, done))
            put_in_place(folder, out)
    return done


def _agreement(run: Run, vectors: Vectors) -> float:
    """The share of a user's `_BEST` best unseen items that the score of ``vectors`` ranks among its own best too.

    The mean over all users, or over those of evenly chosen blocks where there are many.
    """
    recommender = run.recommender
    users, run_scores = len(recommender.user_ids), list_scores(run, "rating")
    unrated = torch.from_numpy(item_counts(recommender) == 0)
    seen = ItemLists(recommender.rated_offsets, recommender.rated_items)
    blocks = -(-users // USERS_AT_ONCE)
    shares: list[float] = []
    for block in np.unique(np.linspace(0, blocks - 1, _BLOCKS_COMPARED).astype(int)).tolist():
        some = users_of_block(block, users)
        lists = seen.of_users(some.start, some.stop)
        by_run = top_items(run_scores(block), lists, _BEST)
        product = unrated_last(vectors.scores(torch.arange(some.start, some.stop)), unrated)
        by_score = top_items(product.numpy(), lists, _BEST)
        for best, found in zip(by_run, by_score, strict=True):
            if len(best := best[best >= 0]):
                shares.append(float(np.isin(best, found).mean()))
    return float(np.mean(shares)) if shares else 1.0


def _refuse_to_replace(out: Path) -> None:
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise BadInput(f"{out} exists and is not an empty folder: choose another name, or remove it")


def _files(recommender: Recommender, vectors: Vectors, format: Format) -> Iterator[tuple[str, bytes]]:  # noqa: A002
    one = torch.ones_like(vectors.user[:, :1]), torch.ones_like(vectors.item[:, :1])
    sides = (
        ("users", "user_id", recommender.user_ids, vectors.user, [vectors.user[:, :-1], one[0], vectors.user[:, -1:]]),
        ("films", "item_id", recommender.item_ids, vectors.item, [vectors.item, one[1]]),
    )
    for side, id_name, ids, vector, parts in sides:
        columns = vector[:, :-1].numpy(), vector[:, -1].numpy(), torch.cat(parts, 1).numpy()
        counts = item_counts(recommender) if side == "films" else None
        if format == "parquet":
            yield f"{side}.parquet", _parquet(id_name, ids, *columns, counts)
        else:
            if counts is not None:
                yield f"{side}_train_ratings.npy", _npy(counts)
            yield f"{side}_ids.npy", _npy(ids if ids.dtype.kind == "i" else np.array(ids.tolist(), np.str_))
            for name, values in zip(("vectors", "biases", "augmented"), columns, strict=True):
                yield f"{side}_{name}.npy", _npy(values)


def _parquet(
    id_name: str,
    ids: npt.NDArray[Any],
    vector: npt.NDArray[np.float32],
    bias: npt.NDArray[np.float32],
    augmented: npt.NDArray[np.float32],
    counts: npt.NDArray[np.int64] | None,
) -> bytes:
    table = pl.DataFrame(
        {
            id_name: pl.Series(ids.tolist(), dtype=id_type(ids)),
            "vector": _arrays(vector),
            "bias": pl.Series(bias),
            "augmented": _arrays(augmented),
        }
    )
    if counts is not None:
        table = table.with_columns(train_ratings=pl.Series(counts))
    content = io.BytesIO()
    table.write_parquet(content, compression="zstd")
    return content.getvalue()


def _arrays(values: npt.NDArray[np.float32]) -> pl.Series:
    return pl.Series(np.ascontiguousarray(values), dtype=pl.Array(pl.Float32, values.shape[1]))


def _npy(values: npt.NDArray[Any]) -> bytes:
    content = io.BytesIO()
    np.save(content, np.ascontiguousarray(values), allow_pickle=False)
    return content.getvalue()


def _about(run: Run, done: Exported) -> dict[str, Any]:
    scale = run.recommender.scale
    return {
        "format": FORMAT,
        "version": VERSION,
        "files": done.format,
        "run": run.folder.resolve().name,
        "preset": run.config.preset,
        "users": done.users,
        "films": done.items,
        "dim": done.dim,
        "by": done.by,
        "members": len(run.recommender.vectors) if done.by == "rating" else 1,
        "score": "user vector . film vector + user bias + film bias = user augmented . film augmented",
        "augmented": {"user": "[vector, 1, bias]", "film": "[vector, bias, 1]"},
        "ranks_exactly": done.ranks_exactly,
        "rates_exactly": done.rates_exactly,
        "exactness": _exactness(done, run.recommender),
        "agreement": {"best": _BEST, "share": done.agreement},
        "rating": {"mean": scale.mean, "unit": scale.unit, "lowest": scale.levels[0], "highest": scale.levels[-1]}
        if done.rates_exactly
        else None,
    }


def _exactness(done: Exported, recommender: Recommender) -> str:
    if done.by == "ranking":
        return (
            "a user's films with training ratings in descending order of score are in the order in which the run "
            "recommends them; films without any (train_ratings 0) come after these in its lists, in their own order; "
            "the score is no rating, and scores of different users cannot be compared"
        )
    if done.rates_exactly:
        return (
            "mean + unit * score is the expected rating before clamping to lowest and highest (the run clamps every "
            "member before it averages them); a user's films in descending order of score are in the order in which "
            "the run recommends them"
        )
    if done.ranks_exactly:
        return (
            "a user's films in descending order of score are in the order in which the run recommends them; the score "
            "is no rating, and scores of different users cannot be compared (an ordinal head has logits for each user)"
        )
    mean = (
        "expected ratings (ordinal heads)" if recommender.bayesian is None else "ratings and those of Bayesian factors"
    )
    return (
        "approximate: the score is the mean of the members' scores, while the run ranks by the mean of their "
        f"{mean}, which no inner product gives; it is no rating"
    )
