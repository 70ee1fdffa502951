"""Models come from an imitation of the Hub on loopback, with the faults that the real one and networks have."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cinefuse.data.remote.hub_models import fetch_model
from cinefuse.data.remote.retry import Retry
from cinefuse.data.runtime.errors import BadInput
from cinefuse.data.runtime.progress import NoProgress, Phase, Unit
from cinefuse.tests.support.model_hub import TOKEN, ModelHub, model_hub

FILES = ["config.json", "tokenizer*"]
ALL = [*FILES, "model.safetensors"]


class Recorder(NoProgress):
    """What a person would see."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.phases: list[Phase] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    @contextmanager
    def phase(self, name: str, total: int | None = None, unit: Unit = "items", *, work: int = 0) -> Iterator[Phase]:
        self.phases.append(Phase(name, total, unit, work))
        yield self.phases[-1]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelHub]:
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(bytes(300_000))
    (folder / "README.md").write_text("not wanted")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text("{}")
    (pickled / "pytorch_model.bin").write_bytes(b"pickle")
    with model_hub({"org/name": folder, "org/pickled": pickled}) as running:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", running.url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            running.url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DOWNLOAD_TIMEOUT", 1)
        monkeypatch.setattr("huggingface_hub.constants.DEFAULT_REQUEST_TIMEOUT", 1)
        monkeypatch.delenv("HF_TOKEN", raising=False)
        yield running


def fetched(
    model: str = "org/name", revision: str | None = None, patterns: list[str] = ALL, tries: int = 3
) -> tuple[Path, Recorder]:
    seen = Recorder()
    weights = "model.safetensors" in patterns
    folder = fetch_model(model, revision, patterns, weights=weights, progress=seen, retry=Retry(tries, 0.01))
    return folder, seen


def refused(model: str = "org/name", revision: str | None = None, patterns: list[str] = ALL) -> str:
    with pytest.raises(BadInput) as refusal:
        fetched(model, revision, patterns)
    assert "\n" not in str(refusal.value)
    return str(refusal.value)


def test_a_model_is_fetched_once_with_a_bar_over_its_bytes(hub: ModelHub) -> None:
    folder, seen = fetched()
    assert sorted(file.name for file in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    assert folder.name == hub.commit("org/name")
    assert seen.messages == []
    assert seen.phases[0].unit == "bytes"
    assert seen.phases[0].done == seen.phases[0].total == 300_000 + 22 + 2
    before = len(hub.requests)
    assert fetched()[0] == folder
    assert not any("resolve" in request for request in hub.requests[before:])


def test_a_gated_model_says_where_its_terms_are_accepted_and_how_a_token_is_given(
    hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.gated.add("org/name")
    words = refused()
    assert f"org/name: it is gated: accept its terms at {hub.url}/org/name, then set HF_TOKEN" in words
    monkeypatch.setenv("HF_TOKEN", "hf_somebodyelses")
    assert "your token has no access yet" in refused()
    assert "hf_somebodyelses" not in refused()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert fetched()[0].name == hub.commit("org/name")


def test_a_revision_that_there_is_not_is_named(hub: ModelHub) -> None:
    assert refused(revision="v9").startswith("org/name: has no revision 'v9'")


def test_a_model_that_there_is_not_is_named(hub: ModelHub) -> None:
    words = refused("org/absent")
    assert "org/absent: no such folder, and the hub has no such model or does not show it to you" in words
    assert "no hub id" in refused("no/such/thing/at/all")


@pytest.mark.parametrize("fault", [429, 500, 502, 503, 504, ("limited", 1), "reset", "stall"])
@pytest.mark.parametrize("part", ["GET /api/models/org/name/revision", "HEAD /org/name", "GET /org/name"])
def test_what_passes_is_waited_for_and_shown(hub: ModelHub, part: str, fault: object) -> None:
    hub.stall = 1.5
    hub.meet(part, fault)  # type: ignore[arg-type]
    folder, seen = fetched()
    assert (folder / "model.safetensors").stat().st_size == 300_000
    # huggingface_hub repeats a HEAD once, at once
    assert seen.messages or (part.startswith("HEAD") and fault not in ("reset", "stall")), "the wait was not shown"
    assert all(message.startswith("org/name: ") and hub.url not in message for message in seen.messages)


def test_a_hub_that_is_busy_for_longer_shows_each_wait(hub: ModelHub) -> None:
    hub.meet("HEAD /org/name", *[503] * 8)
    _, seen = fetched()
    assert any("the hub is busy. Retrying in" in message for message in seen.messages)


def test_a_body_that_is_cut_is_completed(hub: ModelHub) -> None:
    hub.meet("GET /org/name/resolve", "cut")
    assert (fetched()[0] / "model.safetensors").read_bytes() == bytes(300_000)


def test_a_hub_that_stays_down_ends_in_one_true_line(hub: ModelHub) -> None:
    hub.meet("GET /api", *[503] * 99)
    words = refused()
    assert "org/name: the hub answers 503, 3 times in a row; try again later" in words
    assert "kept" not in words
    assert "in the hub cache" not in words
    assert len(hub.requests) == 3


def test_a_hub_that_asks_for_hours_is_not_waited_for(hub: ModelHub) -> None:
    hub.meet("GET /api", ("limited", 7200))
    assert "asks to wait 7,200 s; run the same command again then" in refused()
    assert len(hub.requests) == 1


def test_what_is_kept_of_a_failed_start_is_there(hub: ModelHub, tmp_path: Path) -> None:
    hub.meet(f"GET /org/name/resolve/{hub.commit('org/name')}/model.safetensors", *[503] * 99)
    words = refused()
    assert "files that are complete are in the hub cache, the same command continues" in words
    assert list((tmp_path / "cache" / "models--org--name" / "blobs").iterdir())


@pytest.mark.parametrize("part", ["/api", "/org/name/resolve"])
def test_a_login_page_of_the_network_is_not_taken_for_the_hub(hub: ModelHub, part: str) -> None:
    hub.meet(part, *["html"] * 99)
    assert "is not the hub (a web page came); log in to this network" in refused()


def test_pickle_alone_is_refused_by_name(hub: ModelHub) -> None:
    words = refused("org/pickled")
    assert words.startswith("org/pickled: has its weights as pickle alone (pytorch_model.bin), which is never read")
    assert not any("pytorch_model.bin" in request for request in hub.requests)


def test_what_was_fetched_without_weights_works_offline_and_weights_are_said_to_lack(
    hub: ModelHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = fetched(patterns=FILES)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    before = len(hub.requests)
    assert fetched(patterns=FILES)[0] == folder
    words = refused()
    assert "the hub cache lacks some of its files (`--plan` fetches no weights), and HF_HUB_OFFLINE forbids" in words
    assert "not in the hub cache" in refused("org/absent")
    assert len(hub.requests) == before


@pytest.mark.parametrize("fault", [503, "stall", "reset", "html"])
def test_a_hub_that_fails_gives_way_to_a_whole_copy_in_the_cache_at_once(hub: ModelHub, fault: object) -> None:
    hub.stall = 1.5
    folder, _ = fetched()
    hub.meet("GET /api", *[fault] * 99)  # type: ignore[list-item]
    before = len(hub.requests)
    again, seen = fetched()
    assert again == folder
    assert len(hub.requests) == before + 1
    # after a status or a timeout huggingface_hub takes the cache's copy without a word
    assert fault in (503, "stall") or seen.messages[0].endswith("the copy in the cache is taken")
