"""Laws of the config: what is written is what is meant, and what cannot be meant is refused by name."""

from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from cinefuse.data.runtime.errors import UsageError
from cinefuse.fuse.settings.config import SETTINGS, Config
from cinefuse.fuse.settings.presets import PRESETS, preset
from cinefuse.fuse.settings.regularization import Regularization

EVERY_PRESET = pytest.mark.parametrize("name", list(PRESETS))


@EVERY_PRESET
def test_a_preset_survives_json(name: str) -> None:
    config = preset(name)
    assert config.preset == name
    assert config.checked() == config
    assert Config.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@EVERY_PRESET
def test_every_setting_of_a_preset_can_be_set_to_what_it_is(name: str) -> None:
    config = preset(name)
    settings = [
        f"{key}={json.dumps(value).strip(chr(34))}" for key, value in config.values().items() if key != "preset"
    ]
    assert config.with_settings(settings) == config


@pytest.mark.parametrize(
    ("setting", "name", "value"),
    [
        ("epochs=20", "epochs", 20),
        (" epochs = 20 ", "epochs", 20),
        ("factor_learning_rate=1e-3", "factor_learning_rate", 0.001),
        ("factor_learning_rate=1", "factor_learning_rate", 1.0),
        ("histories=True", "histories", True),
        ("histories=false", "histories", False),
        ("head=ordinal", "head", "ordinal"),
        ("modalities=none", "modalities", "none"),
    ],
)
def test_a_setting_is_taken_as_its_type(setting: str, name: str, value: Any) -> None:
    found = getattr(preset("paper").with_settings([setting]), name)
    assert (found, type(found)) == (value, type(value))


def test_a_later_setting_wins_and_the_preset_itself_stays_as_it_is() -> None:
    before = preset("paper").as_dict()
    assert preset("paper").with_settings(["epochs=3", "dim=7", "epochs=5"]).epochs == 5
    assert preset("paper").as_dict() == before


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epoch=3", "epoch: no such setting.*did you mean 'epochs'"),
        ("foo=1", "foo: no such setting; `cinefuse fuse --list-settings` shows all"),
        ("l2.usr=3", "did you mean 'l2.user'"),
        ("l2_user=3", "l2_user: no such setting.*did you mean 'l2.user'"),
        ("l2=3", "l2: no such setting"),
        ("preset=best", "preset: no such setting"),
        ("checked=1", "checked: no such setting"),
        ("=3", "no such setting"),
        ("epochs", "expected name=value"),
        ("epochs=", "epochs: expected a whole number, found ''"),
        ("epochs=2.5", "epochs: expected a whole number, found '2.5'"),
        ("epochs=true", "epochs: expected a whole number, found 'true'"),
        ("epochs=many", "epochs: expected a whole number, found 'many'"),
        ("epochs=[3]", "epochs: expected a whole number"),
        ("factor_learning_rate=fast", "factor_learning_rate: expected a number, found 'fast'"),
        ("factor_learning_rate=nan", "factor_learning_rate: expected a number, found 'nan'"),
        ("factor_learning_rate=Infinity", "factor_learning_rate: expected a number, found 'Infinity'"),
        ("l2.user=1e999", "l2.user: expected a number, found '1e999'"),
        ("factor_learning_rate=false", "factor_learning_rate: expected a number"),
        ("histories=1", "histories: expected true or false, found '1'"),
        ("histories=yes", "histories: expected true or false"),
        ("head=linear", "head: expected squared or ordinal or auto, found 'linear'"),
        ("modalities=null", "modalities: expected auto or none or text or image or both"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused_by_name(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset("paper").with_settings([setting])


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("epochs=0", "epochs must lie from 1 to 100000, found 0"),
        ("dim=-1", "dim must lie from 0"),
        ("item_dropout=1", "item_dropout must lie from 0 to 0.9"),
        ("validation=1", "validation must lie"),
        ("factor_learning_rate=0", "factor_learning_rate must lie"),
        ("factor_learning_rate=11", "factor_learning_rate must lie from 1e-09 to 10, found 11"),
        ("members=0", "members must lie"),
        ("seed=-1", "seed must lie"),
        ("l2.user=-1", "l2.user must not be negative"),
        ("l2.scale=-0.5", "l2.scale must not be negative"),
        ("width=100 attention_heads=3", "width must be a multiple of attention_heads"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset("paper").with_settings(setting.split())


def test_every_number_has_a_range() -> None:
    for name, declared in SETTINGS.items():
        if declared.kind in (int, float):
            for value in (-1e18, math.inf if declared.high != math.inf else math.nan):
                with pytest.raises(UsageError, match=re.escape(name)):
                    Config().with_values({name: value}).checked()
            declared.refuse_outside_range(Config().value(name))


@pytest.mark.parametrize(("name", "nearest"), [("bset", "'best'"), ("papers", "'paper'"), ("zzzzzz", "there are")])
def test_an_unknown_preset_names_the_nearest_and_all(name: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"no preset '{name}'.*{nearest}"):
        preset(name)


def test_a_config_of_another_version_is_refused_by_the_field_it_holds() -> None:
    with pytest.raises(UsageError, match="'tomorrow', which this version doesn't know"):
        Config.from_dict(preset("best").as_dict() | {"tomorrow": 1})


def test_every_group_of_weights_has_a_strength_for_factors_and_biases() -> None:
    strengths = Regularization(scale=2.0, user=3.0, explicit_items_bias=5.0).strengths()
    assert (strengths["user"], strengths["explicit_items.bias"]) == (6.0, 10.0)
    groups = {
        "user",
        "item",
        "user_features",
        "item_features",
        "item_tags",
        "implicit_items",
        "explicit_items",
        "implicit_users",
        "explicit_users",
    }
    assert set(strengths) == groups | {f"{group}.bias" for group in groups}


def test_only_a_model_with_modalities_reads_embeddings_and_only_layers_fuse() -> None:
    assert not preset("mf").reads_embeddings
    assert not preset("mf").fuses
    linear = preset("best").with_settings(["layers=0"])
    assert linear.reads_embeddings
    assert not linear.fuses
    assert preset("paper").fuses


def test_every_setting_is_declared_once_with_its_meaning_and_has_a_value() -> None:
    assert list(SETTINGS) == list(Config().values())
    assert all(len(declared.meaning.split()) >= 3 for declared in SETTINGS.values())
    assert len({declared.meaning for declared in SETTINGS.values()}) == len(SETTINGS)


def test_strengths_are_set_and_compared_by_dotted_names_and_saved_nested() -> None:
    config = preset("best").with_settings(["l2.user=3", "dim=7"])
    assert (config.l2.user, config.value("l2.user")) == (3.0, 3.0)
    assert config.changes_from(preset("best")) == {"dim": 7, "l2.user": 3.0}
    assert config.as_dict()["l2"]["user"] == 3.0
    assert preset("best").with_values({"dim": 7, "l2.user": 3.0}) == config
    with pytest.raises(UsageError, match=r"no setting 'l2\.usr' \(did you mean 'l2\.user'\?\)"):
        config.with_values({"l2.usr": 1.0})


@pytest.mark.parametrize(
    "content",
    [{"dim": "8"}, {"dim": 8.5}, {"dim": True}, {"head": "round"}, {"tags": 1}, {"l2": 3.0}, {"l2": {"user": "3"}}],
    ids=str,
)
def test_a_saved_value_of_another_type_is_refused_by_name(content: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(content))):
        Config.from_dict(preset("best").as_dict() | content)
