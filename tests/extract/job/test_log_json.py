"""Laws of `--log-json` and SIGTERM: what a scheduler and whoever watches many jobs can rely on. Real processes."""

from __future__ import annotations

import json
import os
import signal
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from cinefuse.data.runtime import termination
from cinefuse.data.runtime.errors import BadInput, Terminated
from cinefuse.data.runtime.event_log import EventLog
from cinefuse.data.runtime.progress import NoProgress
from cinefuse.data.runtime.termination import ending_on_sigterm, finished_first, stop_requested
from cinefuse.tests.support.commands import Ended
from cinefuse.tests.support.forked import ForkedCommands

pytestmark = pytest.mark.slow  # processes of their own that import PyTorch and transformers


def command(sample: Path, encoders: Any, out: Path, *more: Any) -> list[Any]:
    models = ["--text-model", encoders.text, "--image-model", encoders.image]
    how = ["--device", "cpu", "--precision", "fp32", "--batch-tokens", "128", "--batch-posters", "2"]
    return ["extract", sample, out, *models, *how, *more]


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def told(
    forked: ForkedCommands, sample: Path, encoders: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[list[dict[str, Any]], Ended]:
    """The events of a whole job on standard output, one of its posters broken; and how it ended."""
    import shutil

    from cinefuse.data.dataset.catalog import Catalog

    folder = tmp_path_factory.mktemp("told")
    dataset = Path(shutil.copytree(sample, folder / "dataset"))
    catalog = Catalog.open(dataset)
    broken = next(poster for poster in catalog.posters() if poster)
    (catalog.poster_root / broken).write_bytes(b"no poster")
    job = forked.run(*command(dataset, encoders, folder / "out.h5", "--log-json", "-"))
    return events(job.out), job


def test_standard_output_holds_nothing_but_events_and_people_still_read_the_rest(told: Any) -> None:
    found, job = told
    assert job.code == 0
    assert found[0]["event"] == "start"
    assert found[-1] | {"seconds": 0, "time": ""} == {"event": "end", "exit_code": 0, "seconds": 0, "time": ""}
    assert "embeddings" in job.err
    for event in found:
        assert datetime.fromisoformat(event["time"]).tzinfo is not None


def test_progress_says_how_far_how_fast_and_how_long_still(told: Any) -> None:
    progress = [event for event in told[0] if event["event"] == "progress" and event["phase"] == "encoding text"]
    last = progress[-1]
    assert last["items_done"] == last["items"] > 0
    assert last["rows_per_second"] > 0
    assert last["megabytes_per_second"] > 0
    assert last["seconds_left"] == 0


def test_every_failure_names_item_modality_and_reason(told: Any) -> None:
    failures = [event for event in told[0] if event["event"] == "failure"]
    assert [(event["modality"], event["reason"]) for event in failures] == [("image", "not an image")]
    assert isinstance(failures[0]["item"], int)


def test_the_plan_and_the_totals_are_told(told: Any) -> None:
    plans = {event["modality"]: event for event in told[0] if event["event"] == "plan"}
    done = {event["modality"]: event for event in told[0] if event["event"] == "done"}
    assert plans["text"]["items"] == 40
    assert plans["text"]["to_embed"] == done["text"]["encoded"]
    assert done["image"]["status"]["failed"] == 1
    assert sum(done["image"]["status"].values()) == 40


def test_a_refused_job_ends_its_log_with_the_exit_code_and_the_line(
    forked: ForkedCommands, sample: Path, encoders: Any, tmp_path: Path
) -> None:
    log = tmp_path / "events.jsonl"
    job = forked.run(*command(sample, encoders, tmp_path / "none" / "out.h5", "--log-json", log))
    assert job.code == 3
    last = events(log.read_text())[-1]
    assert (last["event"], last["exit_code"]) == ("end", 3)
    assert "its folder does not exist" in last["error"]


def test_sigterm_finishes_the_batch_in_flight_and_the_same_command_goes_on(
    forked: ForkedCommands, sample: Path, encoders: Any, tmp_path: Path
) -> None:
    out, log = tmp_path / "out.h5", tmp_path / "events.jsonl"
    words = command(sample, encoders, out, "--log-json", log)
    assert forked.run(*command(sample, encoders, tmp_path / "whole.h5")).code == 0
    process = forked.start(*words)
    deadline = time.monotonic() + 120
    while not out.with_name("out.h5.partial").exists():
        assert time.monotonic() < deadline
        time.sleep(0.002)
    asked = time.monotonic()
    os.kill(process, signal.SIGTERM)
    ended = forked.ended()
    assert ended.code == 143
    assert time.monotonic() - asked < 30, "a scheduler would have killed it by now"
    assert "stopped by SIGTERM" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert events(log.read_text())[-1]["exit_code"] == 143
    assert sorted(path.name for path in tmp_path.iterdir()) == ["events.jsonl", "out.h5.partial", "whole.h5"]
    again = forked.run(*words)
    assert again.code == 0, again.err
    assert out.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert [event["event"] for event in events(log.read_text())].count("start") == 2


def test_a_block_that_is_to_be_finished_is_finished_first() -> None:
    finished: list[bool] = []

    def in_two_blocks() -> None:
        with ending_on_sigterm(lambda: "go on so"), finished_first():
            with finished_first():
                os.kill(os.getpid(), signal.SIGTERM)
            finished.append(stop_requested())

    with pytest.raises(Terminated, match="go on so") as stopped:
        in_two_blocks()
    assert finished == [True]
    assert stopped.value.exit_code == 143
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_job_that_was_stopped_does_not_stop_the_next_one_of_the_same_process() -> None:
    with pytest.raises(Terminated), ending_on_sigterm(str):
        ask_and_sleep()
    with finished_first():
        assert not stop_requested()


def ask_and_sleep() -> None:
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(60)


def test_what_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(termination, "PATIENCE", 0.05)
    with pytest.raises(Terminated), ending_on_sigterm(str), finished_first():
        ask_and_sleep()


def test_outside_of_such_a_block_sigterm_stops_at_once() -> None:
    with pytest.raises(Terminated), ending_on_sigterm(str):
        ask_and_sleep()


def test_no_password_and_no_token_is_ever_told(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "log"), NoProgress())
    log.event("start", out="s3://user:hunter2@store/f.h5", words=["hf_abcdefghijkl", "x?token=abc123&y=1"])
    log.message("https://name:pass@host/x AKIAABCDEFGHIJKLMNOP")
    text = (tmp_path / "log").read_text()
    for secret in ("hunter2", "hf_abc", "abc123", "pass@", "AKIA"):
        assert secret not in text
    assert "store/f.h5" in text


def test_a_log_is_appended_and_each_line_is_there_as_soon_as_it_is_written(tmp_path: Path) -> None:
    for _ in range(2):
        log = EventLog(str(tmp_path / "log"), NoProgress())
        with log.phase("encoding", 3) as phase:
            phase.advance(3)
            phase.record()  # type: ignore[attr-defined]
            assert events((tmp_path / "log").read_text())[-1]["items_done"] == 3
    assert [event["event"] for event in events((tmp_path / "log").read_text())].count("phase") == 2


def test_a_log_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="cannot be written"):
        EventLog(str(tmp_path / "none" / "log"), NoProgress())


def test_a_defect_is_logged_as_one(tmp_path: Path) -> None:
    log = EventLog(str(tmp_path / "log"), NoProgress())
    with pytest.raises(ZeroDivisionError), log.job("extract"):
        _ = 1 // 0
    assert events((tmp_path / "log").read_text())[-1]["exit_code"] == 1
