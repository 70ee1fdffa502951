"""Lists of several runs side by side are those of each alone, and differ by the same draws of users."""

from __future__ import annotations

from pathlib import Path

import pytest

from cinefuse.data.runtime.errors import BadInput, UsageError
from cinefuse.fuse.evaluation.evaluate import evaluate
from cinefuse.fuse.evaluation.list_comparison import compare_lists
from cinefuse.fuse.runs.run import Run
from cinefuse.tests.support.runs import train_factors


@pytest.fixture(scope="module")
def runs(crowd: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    folder = tmp_path_factory.mktemp("runs")
    return [
        train_factors(crowd, folder / kind, f"objective={kind}", steps=20) for kind in ("rating", "both", "ranking")
    ]


@pytest.mark.slow
def test_each_run_has_the_figures_that_it_has_alone(runs: list[Run]) -> None:
    found = compare_lists(runs, draws=20)
    assert found.table["name"].to_list() == ["rating", "both", "ranking", "most popular", "EASE"]
    assert found.table["kind"].to_list() == ["run"] * 3 + ["baseline"] * 2
    for row, run in zip(found.table.to_dicts(), runs, strict=False):
        alone = evaluate(run, draws=20)
        assert (row["ndcg"], row["recall"], row["users"]) == (alone.ndcg, alone.recall, alone.ranked_users)
    alone = evaluate(runs[0], draws=20)
    for method in ("most popular", "EASE"):
        against = alone.differences.filter(method=method, k=10, metric="ndcg").row(0, named=True)
        row = found.table.filter(name=method).row(0, named=True)
        assert row["ndcg_difference"] == -against["difference"]
        assert (row["ndcg_difference_low"], row["ndcg_difference_high"]) == (-against["high"], -against["low"])
    assert found.table["ndcg_difference"][0] is None


def test_a_run_beside_itself_differs_by_nothing(runs: list[Run]) -> None:
    table = compare_lists([runs[1], runs[1]], draws=20).table
    assert table["name"].to_list()[:2] == ["both", "both (2)"]
    assert table.row(1, named=True)["ndcg_difference"] == 0


def test_runs_of_other_rows_are_refused_by_name(runs: list[Run], crowd: Path, tmp_path: Path) -> None:
    other = train_factors(crowd, tmp_path / "other", "objective=ranking", split="random:0.3", steps=20)
    with pytest.raises(BadInput, match="not trained and tested on the same rows") as refusal:
        compare_lists([runs[0], other])
    assert str(other.folder) in str(refusal.value)
    with pytest.raises(UsageError, match="nothing to compare"):
        compare_lists([])
