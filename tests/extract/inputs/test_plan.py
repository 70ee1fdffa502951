"""Laws of the plan: what is encoded, in which batches, decided from the catalogue alone."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cinefuse.data.dataset.catalog import Catalog
from cinefuse.data.embeddings.status import Reason, Status
from cinefuse.extract.inputs import posters as posters_module
from cinefuse.extract.inputs.batching import MOST_PADDING, cut_posters, cut_text, join_batches
from cinefuse.extract.inputs.plan import ModalityPlan
from cinefuse.extract.inputs.poster_files import PosterLimits
from cinefuse.extract.inputs.posters import plan_posters, probing
from cinefuse.extract.inputs.texts import plan_text
from cinefuse.extract.models.source import ModelSource


def text_plan(lengths: list[int], same_as: list[int | None] | None = None) -> ModalityPlan:
    """A plan whose row i has `lengths[i]` tokens (0: missing) and, where `same_as` says so, an earlier row's text."""
    origin = [i if not same_as or same_as[i] is None else same_as[i] for i in range(len(lengths))]
    lengths = [lengths[origin[i]] for i in range(len(lengths))]
    digests = [hashlib.sha256(str(origin[i]).encode()).digest() if n else bytes(32) for i, n in enumerate(lengths)]
    status = np.array([Status.OK if n else Status.MISSING for n in lengths], np.uint8)
    return ModalityPlan(
        name="text",
        width=4,
        status=status,
        reason=np.where(status == Status.OK, 0, 1).astype(np.uint8),
        lengths=np.array(lengths, np.int64),
        digest=np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 32),
        batch=np.full(len(lengths), -1, np.int32),
    )


@st.composite
def text_plans(draw: st.DrawFn) -> ModalityPlan:
    lengths = draw(st.lists(st.integers(0, 60), min_size=1, max_size=80))
    same_as = [draw(st.none() | st.integers(0, i - 1)) if i else None for i in range(len(lengths))]
    resolved: list[int | None] = []
    for earlier in same_as:
        while earlier is not None and resolved[earlier] is not None:
            earlier = resolved[earlier]
        resolved.append(earlier)
    return text_plan(lengths, resolved)


@given(text_plans(), st.integers(61, 500))
@settings(deadline=None)
def test_every_encodable_item_is_in_one_batch_and_no_other_is(plan: ModalityPlan, budget: int) -> None:
    cut = cut_text(plan, budget)
    assert ((cut.batch >= 0) == plan.encodable).all()
    used = np.unique(cut.batch[cut.batch >= 0])
    assert (used == np.arange(len(used))).all()


@given(text_plans(), st.integers(61, 500))
@settings(deadline=None)
def test_no_batch_exceeds_its_budget_or_its_share_of_padding(plan: ModalityPlan, budget: int) -> None:
    cut = cut_text(plan, budget)
    distinct = cut.distinct
    for number in np.unique(cut.batch[distinct]):
        lengths = cut.lengths[distinct[cut.batch[distinct] == number]] + 1
        padded = int(lengths.max()) * len(lengths)
        assert padded <= budget
        assert padded - lengths.sum() <= MOST_PADDING * padded
    assert cut.padding <= MOST_PADDING + 1e-12  # one part in twenty is no binary fraction


@given(text_plans())
@settings(deadline=None)
def test_items_with_the_same_input_share_a_batch_and_are_encoded_once(plan: ModalityPlan) -> None:
    cut = cut_text(plan, 200)
    for row in np.flatnonzero(plan.encodable):
        alike = np.flatnonzero((plan.digest == plan.digest[row]).all(1))
        assert (cut.batch[alike] == cut.batch[row]).all()
        assert np.isin(alike, cut.distinct).sum() == 1


@given(text_plans(), st.integers(1, 9))
@settings(deadline=None)
def test_poster_batches_follow_the_catalogue_and_are_full(plan: ModalityPlan, size: int) -> None:
    cut = cut_posters(plan, size)
    numbers = cut.batch[cut.distinct]
    assert (numbers == np.arange(len(numbers)) // size).all()


@given(text_plans(), st.randoms())
@settings(deadline=None)
def test_rows_copied_from_elsewhere_are_in_no_batch(plan: ModalityPlan, random: Any) -> None:
    copied = np.array([random.random() < 0.5 for _ in plan.status])
    cut = plan.without(copied, lambda fewer: cut_text(fewer, 200))
    assert ((cut.batch >= 0) == (plan.encodable & ~copied)).all()
    assert (cut.status == plan.status).all()


@given(text_plans(), st.integers(1, 120))
@settings(deadline=None)
def test_a_batch_with_enough_positions_takes_no_shorter_text(plan: ModalityPlan, enough: int) -> None:
    cut = cut_text(plan, 240, enough)
    for number in np.unique(cut.batch[cut.distinct]):
        lengths = np.sort(cut.lengths[cut.distinct[cut.batch[cut.distinct] == number]] + 1)[::-1]
        shortest_start = int(np.argmax(lengths == lengths[-1]))
        assert lengths[:shortest_start].sum() < enough


@given(text_plans(), st.integers(61, 500), st.integers(61, 500))
@settings(deadline=None)
def test_joined_batches_are_within_the_budget_and_none_is_split(plan: ModalityPlan, small: int, budget: int) -> None:
    small = min(small, budget)
    cut = cut_text(plan, small)
    joined = join_batches(cut, budget)
    assert ((joined.batch >= 0) == (cut.batch >= 0)).all()
    distinct = joined.distinct
    for number in np.unique(joined.batch[distinct]):
        lengths = joined.lengths[distinct[joined.batch[distinct] == number]] + 1
        padded = int(lengths.max()) * len(lengths)
        assert padded <= budget
        assert padded - lengths.sum() <= MOST_PADDING * padded + 1e-9
    for number in np.unique(cut.batch):
        assert len(np.unique(joined.batch[cut.batch == number])) == 1
    assert len(np.unique(joined.batch)) <= len(np.unique(cut.batch))


@given(text_plans(), st.integers(61, 500), st.integers(1, 9))
@settings(deadline=None)
def test_batches_cut_for_a_budget_are_not_joined_by_it(plan: ModalityPlan, budget: int, size: int) -> None:
    cut = cut_text(plan, budget)
    assert (join_batches(cut, budget).batch == cut.batch).all()
    posters = cut_posters(text_plan([9 if length else 0 for length in plan.lengths.tolist()]), size)
    assert (join_batches(posters, size * 10).batch == posters.batch).all()


def test_poster_batches_of_a_processor_are_joined_to_a_gpus() -> None:
    plan = cut_posters(text_plan([4] * 50), 2)
    sizes = np.bincount(join_batches(plan, 8 * 5).batch)
    assert sizes.tolist() == [8] * 6 + [2]


def test_a_row_behind_an_equal_one_without_a_batch_keeps_a_batch_when_batches_are_joined() -> None:
    cut = cut_text(text_plan([5, 7, 9, 7], [None, None, None, 1]), 10)
    cut = replace(cut, batch=np.where(np.arange(4) == 1, -1, cut.batch).astype(np.int32))
    joined = join_batches(cut, 100)
    assert (joined.batch >= 0).tolist() == [True, False, True, True]
    assert joined.batched.tolist() == [0, 2, 3]


def test_the_longest_texts_come_first() -> None:
    cut = cut_text(text_plan([5, 50, 20, 50, 1]), 102)
    longest = [cut.lengths[cut.batch == number].max() for number in range(cut.batch.max() + 1)]
    assert longest == sorted(longest, reverse=True)


@pytest.fixture(scope="module")
def tokenizer(encoders: Any) -> Any:
    return ModelSource.resolve(str(encoders.text), None, weights=False).tokenizer()


def plan_of(texts: list[str | None], tokenizer: Any, max_length: int = 16) -> ModalityPlan:
    return plan_text(texts, tokenizer, width=8, max_length=max_length, progress=lambda _: None)


def test_token_ids_are_the_tokenizers_own_behind_the_cls(tokenizer: Any) -> None:
    texts = ["a ferry at dawn", "two bakers, one oven"]
    plan = plan_of(texts, tokenizer, 64)
    ids = [tokenizer(text)["input_ids"] for text in texts]
    assert plan.input_ids is not None
    assert plan.input_ids.tolist() == ids[0][1:] + ids[1][1:]
    assert plan.lengths.tolist() == [len(ids[0]) - 1, len(ids[1]) - 1]
    assert plan.cls_id == ids[0][0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (None, Status.MISSING, Reason.NOT_GIVEN),
        ("", Status.MISSING, Reason.EMPTY),
        (" \t\n ", Status.MISSING, Reason.EMPTY),
        ("\0\0\0", Status.MISSING, Reason.EMPTY),
        ("­​", Status.MISSING, Reason.EMPTY),
        ("a plot", Status.OK, Reason.NONE),
        ("nul\0inside", Status.OK, Reason.NONE),
        ("lone \ud800 surrogate", Status.OK, Reason.NONE),
        ("שלום עולם مرحبا", Status.OK, Reason.NONE),
        ("🎬🍿👩‍👩‍👧‍👧 🏳️‍🌈", Status.OK, Reason.NONE),
        ("word " * 200_000, Status.TRUNCATED, Reason.TOO_LONG),
        ("x" * 1_000_000, Status.OK, Reason.NONE),
        ("ééé e\u0301\u0301\u0301", Status.OK, Reason.NONE),
    ],
)
def test_every_odd_text_has_its_defined_outcome(
    tokenizer: Any, text: str | None, status: Status, reason: Reason
) -> None:
    plan = plan_of([text, "a plot"], tokenizer)
    assert (Status(plan.status[0]), Reason(plan.reason[0])) == (status, reason)
    assert (plan.lengths[0] > 0) == status.has_embedding
    assert plan.lengths[0] <= 15
    assert bool(plan.digest[0].any()) == status.has_embedding
    assert plan.status[1] == Status.OK


def test_a_cut_text_keeps_its_closing_token(tokenizer: Any) -> None:
    plan = plan_of(["ferry " * 50], tokenizer)
    assert plan.input_ids is not None
    assert plan.input_ids[-1] == tokenizer.sep_token_id
    assert plan.lengths[0] == 15


def test_text_digests_are_sha256_of_the_utf8(tokenizer: Any) -> None:
    plan = plan_of(["Ünïcode plot"], tokenizer)
    assert plan.digest[0].tobytes() == hashlib.sha256("Ünïcode plot".encode()).digest()


def test_poster_digests_are_sha256_of_the_files_bytes(sample: Path) -> None:
    catalog = Catalog.open(sample)
    with probing(catalog.posters(), catalog.poster_root, PosterLimits()) as probed:
        plan = plan_posters(probed, width=8, patches=4, progress=lambda _: None)
    for row, poster in enumerate(catalog.posters()):
        if poster is None:
            assert (plan.status[row], plan.lengths[row]) == (Status.MISSING, 0)
        else:
            raw = (catalog.poster_root / poster).read_bytes()
            assert plan.digest[row].tobytes() == hashlib.sha256(raw).digest()
            assert (plan.status[row], plan.lengths[row]) == (Status.OK, 4)


def test_a_poster_that_cannot_be_read_has_a_reason_and_no_tokens(tmp_path: Path) -> None:
    (tmp_path / "page.jpg").write_text("<html>")
    posters = ["page.jpg", "nowhere.jpg", "../out.jpg", None]
    with probing(posters, tmp_path, PosterLimits()) as probed:
        plan = plan_posters(probed, width=8, patches=4, progress=lambda _: None)
    assert plan.reason.tolist() == [Reason.NOT_AN_IMAGE, Reason.NOT_FOUND, Reason.OUTSIDE_FOLDER, Reason.NOT_GIVEN]
    assert not plan.lengths.any()
    assert not plan.digest.any()


def test_posters_are_probed_while_the_caller_does_something_else(sample: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog.open(sample)
    posters = [poster for poster in catalog.posters() if poster]
    read, seen, all_seen = posters_module.read_poster, [], threading.Event()

    def noted(path: str, root: Path, limits: PosterLimits) -> bytes:
        seen.append(path)
        if len(seen) == len(posters):
            all_seen.set()
        return read(path, root, limits)

    monkeypatch.setattr(posters_module, "read_poster", noted)
    with probing(posters, catalog.poster_root, PosterLimits()) as probed:
        assert all_seen.wait(60), "posters wait until somebody asks for them"
        plan = plan_posters(probed, width=8, patches=4, progress=lambda _: None)
    assert len(plan.status) == len(posters) == len(seen)


def test_what_is_not_probed_yet_is_dropped_when_the_caller_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = [], threading.Event()

    def slow(path: str, root: Path, limits: PosterLimits) -> bytes:
        begun.append(path)
        go_on.wait(60)
        return b""

    monkeypatch.setattr(posters_module, "read_poster", slow)
    threading.Timer(0.2, go_on.set).start()
    with pytest.raises(KeyboardInterrupt), probing(["a.jpg"] * 100_000, tmp_path, PosterLimits()):
        raise KeyboardInterrupt
    assert len(begun) < 5_000
