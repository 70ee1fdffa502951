"""Laws of the config: what is written is what is meant, and what cannot be meant is refused by name."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest

from cinefuse.data.runtime.errors import UsageError
from cinefuse.fuse.settings.config import MEANINGS, PRESETS, Config, preset

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
        f"{key}={json.dumps(value).strip(chr(34))}" for key, value in config.as_dict().items() if key != "preset"
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
        ("l2_usr=3", "did you mean 'l2_user'"),
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
        ("l2_user=1e999", "l2_user: expected a number, found '1e999'"),
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
        ("l2_user=-1", "l2_user must not be negative"),
        ("l2=-0.5", "l2 must not be negative"),
        ("width=100 attention_heads=3", "width must be a multiple of attention_heads"),
    ],
)
def test_a_value_out_of_its_range_is_refused_with_the_range(setting: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        preset("paper").with_settings(setting.split())


def test_every_number_has_a_range_or_is_an_l2_strength() -> None:
    for field in fields(Config):
        default = getattr(Config(), field.name)
        if isinstance(default, bool) or not isinstance(default, int | float) or field.name.startswith("l2"):
            continue
        for value in (-1e18, 1e18):
            with pytest.raises(UsageError, match=field.name):
                replace(Config(), **{field.name: value}).checked()


@pytest.mark.parametrize(("name", "nearest"), [("bset", "'best'"), ("papers", "'paper'"), ("zzzzzz", "there are")])
def test_an_unknown_preset_names_the_nearest_and_all(name: str, nearest: str) -> None:
    with pytest.raises(UsageError, match=f"no preset '{name}'.*{nearest}"):
        preset(name)


def test_a_config_of_another_version_is_refused_by_the_field_it_holds() -> None:
    with pytest.raises(UsageError, match="'tomorrow', which this version doesn't know"):
        Config.from_dict(preset("best").as_dict() | {"tomorrow": 1})


def test_every_group_of_weights_has_a_strength_for_factors_and_biases() -> None:
    strengths = replace(Config(), l2=2.0, l2_user=3.0, l2_explicit_items_bias=5.0).strengths()
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


def test_every_setting_says_what_it_means() -> None:
    assert set(MEANINGS) == {field.name for field in fields(Config)}
