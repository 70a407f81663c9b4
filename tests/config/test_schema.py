"""The typed keys: each documented, none ignored, all in the JSON Schema."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel

from sft_kit.config.schema import (
    EvalSection,
    IdentitySection,
    LaunchSection,
    OwnKeys,
    PerLanguage,
    RunConfig,
    json_schema,
)

SECTIONS: tuple[type[BaseModel], ...] = (RunConfig, IdentitySection, EvalSection, LaunchSection, PerLanguage)
# One accepted value for each kind of field; a new key of another kind fails below until it gets one here.
EXAMPLES: tuple[Any, ...] = ("epoch", "float32", "delete", 1, 0.5, True, ["a"], {"name": "a", "author": "b"}, {})


def example(key: str) -> RunConfig:
    """A config with `key` and nothing else, given a value that its type takes."""
    for value in EXAMPLES:
        try:
            return RunConfig.model_validate({key: value})
        except ValueError:
            continue
    raise AssertionError(f"no example fits {key}")


@pytest.mark.parametrize("key", [key for key in RunConfig.model_fields if key not in OwnKeys])
def test_a_typed_key_reaches_ms_swift(key: str) -> None:
    config = example(key)
    assert config.swift_values() == {key: getattr(config, key)}


@pytest.mark.parametrize("key", sorted(OwnKeys))
def test_sft_kits_own_keys_are_typed_and_stay_out_of_the_command(key: str) -> None:
    assert example(key).swift_values() == {}


def test_an_untyped_key_reaches_ms_swift_after_the_typed_ones() -> None:
    config = RunConfig.model_validate({"ddp_timeout": 60, "model": "a", "max_length": None})
    assert list(config.swift_values().items()) == [("model", "a"), ("ddp_timeout", 60)]


def test_nothing_that_was_left_out_reaches_ms_swift() -> None:
    assert RunConfig().swift_values() == {}


@pytest.mark.parametrize(("section", "key"), [(section, key) for section in SECTIONS for key in section.model_fields])
def test_every_key_is_described_in_a_sentence(section: type[BaseModel], key: str) -> None:
    description = section.model_fields[key].description or ""
    assert description.endswith((".", "...")) and len(description) > 5


def test_the_json_schema_is_json_and_lists_every_key_with_its_description() -> None:
    schema = json.loads(json.dumps(json_schema()))
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    described = {key: value.get("description") for key, value in schema["properties"].items()}
    assert described == {key: field.description for key, field in RunConfig.model_fields.items()}
    assert schema["additionalProperties"] is True


@pytest.mark.parametrize("key", ["dataset", "val_dataset", "target_modules", "model_name", "report_to"])
def test_the_json_schema_takes_one_text_where_the_config_does(key: str) -> None:
    kinds = [{"type": "string"}, {"type": "array", "items": {"type": "string"}}, {"type": "null"}]
    assert json_schema()["properties"][key]["anyOf"] == kinds


def test_one_text_serves_both_languages() -> None:
    section = IdentitySection(name="Ada", author=PerLanguage(zh="甲", en="B"))
    assert section.per_language("name") == {"zh": "Ada", "en": "Ada"}
    assert section.per_language("author") == {"zh": "甲", "en": "B"}


def test_only_the_languages_of_the_run_need_a_text() -> None:
    section = IdentitySection(name=PerLanguage(zh="精衡"), author="B", languages=["zh"])
    assert section.per_language("name") == {"zh": "精衡"}


@pytest.mark.parametrize("slot", ["VERSION", "DATE", "CAPABILITIES", "LIMITS", "LICENSE", "LIMITS.zh", "LICENSE.en"])
def test_every_slot_of_the_templates_can_be_given(slot: str) -> None:
    assert IdentitySection(name="a", author="b", slots={slot: "x"}).slots == {slot: "x"}
