"""A config file becomes one checked value, or one error with everything that is wrong, in the order of its lines."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_kit.config.load import KeyRules, LoadedConfig, load_config, resolved_yaml
from sft_kit.config.schema import RunConfig
from sft_kit.errors import ConfigError, ExitCode, Problem


class Rules:
    """A small ms-swift: the schema's keys, `ddp_timeout`, and one renamed argument. Some take whole numbers only."""

    def canonical(self, key: str) -> str:
        return {"train_type": "tuner_type", "sft_type": "tuner_type"}.get(key, key)

    def value(self, key: str, value: Any) -> Any:
        return "bfloat16" if (key, value) == ("torch_dtype", "bf16") else value

    def problem(self, key: str, value: Any) -> Problem | None:
        if key == "tuner_type" and value == "none":
            return Problem("", "takes lora, full, not 'none'")
        if key in ("ddp_timeout", "lora_rank", "gradient_accumulation_steps", "per_device_train_batch_size"):
            return None if isinstance(value, int) else Problem("", f"takes a whole number, not {value!r}")
        if key in RunConfig.model_fields:
            return None
        return Problem("", "ms-swift 9.9.9 has no such argument", "did you mean learning_rate?")


@pytest.fixture(autouse=True)
def _in_its_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def load(text: str, overrides: Sequence[str] = (), rules: KeyRules | None = Rules()) -> LoadedConfig:  # noqa: B008
    Path("c.yaml").write_text(text, encoding="utf-8")
    return load_config(Path("c.yaml"), overrides, rules)


def given_values(text: str, *overrides: str) -> dict[str, Any]:
    return load(text, overrides).config.model_dump(exclude_unset=True)


def refusal(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(text, overrides)
    assert caught.value.exit_code is ExitCode.USAGE
    return [str(problem) for problem in caught.value.problems]


# --- what is accepted --------------------------------------------------------------------------------------------


def test_typed_keys_get_their_types_and_one_text_becomes_a_list() -> None:
    assert given_values(
        "model: a\ndataset: x\nlearning_rate: 1e-4\nmax_steps: 1e3\nuse_hf: no\nsave_strategy: no\n"
        "lora_rank: '8'\nsystem: on\nmodel_name: 2024-01-01\nper_device_train_batch_size: auto\n"
    ) == {
        "model": "a",
        "dataset": ["x"],
        "learning_rate": 1e-4,
        "max_steps": 1000,
        "use_hf": False,
        "save_strategy": "no",
        "lora_rank": 8,
        "system": "on",
        "model_name": ["2024-01-01"],
        "per_device_train_batch_size": "auto",
    }


def test_a_key_that_only_ms_swift_knows_is_kept() -> None:
    assert given_values("ddp_timeout: 60\n") == {"ddp_timeout": 60}


@pytest.mark.parametrize("spelling", ["tuner_type", "train_type", "sft_type"])
def test_every_spelling_of_a_renamed_key_is_the_same_key(spelling: str) -> None:
    assert given_values(f"{spelling}: full\n") == {"tuner_type": "full"}


@pytest.mark.parametrize(
    "text", ["eval:\n", "launch:\n", "replay:\n", "output_dir:\n", "identity:\n", "model:\n", "dataset:\n"]
)
def test_a_key_without_a_value_counts_as_left_out(text: str) -> None:
    assert load(text).config == RunConfig()


def test_set_beats_the_file_and_the_file_beats_the_default() -> None:
    config = load("replay: 5\nlora_rank: 8\neval: {general: 3}\n", ["lora_rank=16", "eval.questions=7"]).config
    assert (config.replay, config.lora_rank, config.output_dir) == (5, 16, "output")
    assert config.eval.model_dump(exclude_unset=True) == {"general": 3, "questions": 7}


def test_set_beats_the_file_in_another_spelling_too() -> None:
    assert given_values("tuner_type: lora\nmodel: a\n", "train_type=full") == {"tuner_type": "full", "model": "a"}
    assert given_values("train_type: lora\nmodel: a\n", "tuner_type=full") == {"tuner_type": "full", "model": "a"}


def test_set_to_null_takes_a_section_away() -> None:
    assert load("identity: {name: a, author: b}\n", ["identity=null"]).config == RunConfig()


def test_the_place_of_a_key_is_known_after_loading() -> None:
    loaded = load("model: a\nidentity:\n  name: {zh: 甲, en: b}\n  author: c\n", ["lora_rank=8"])
    assert [loaded.place(key) for key in ("identity.name.en", "lora_rank", "dataset")] == [
        "c.yaml:3:17", "--set", "c.yaml",
    ]  # fmt: skip


# --- what is refused ---------------------------------------------------------------------------------------------


def test_all_problems_come_at_once_in_the_order_of_their_lines() -> None:
    text = """\
model: a
learnig_rate: 1e-4
lora_rank: eight
eval: {identiy: 1}
model: b
train_type: none
sft_type: full
use_hf: !maybe x
"""
    assert refusal(text) == [
        "c.yaml:2:1: learnig_rate: ms-swift 9.9.9 has no such argument; did you mean learning_rate?",
        "c.yaml:3:1: lora_rank: must be a whole number, not 'eight'",
        "c.yaml:4:8: eval.identiy: no such key; did you mean identity?",
        "c.yaml:5:1: model: written twice (first in line 1); keep one of them",
        "c.yaml:6:1: train_type: takes lora, full, not 'none'",
        "c.yaml:7:1: sft_type: the same argument as train_type; keep one of them",
        "c.yaml:8:9: the YAML tag !maybe is not supported; write a plain value",
    ]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("lora_rank: eight", "lora_rank: must be a whole number, not 'eight'"),
        ("lora_rank: 1.5", "lora_rank: must be a whole number, not 1.5"),
        ("lora_rank: true", "lora_rank: must be a whole number, not true"),
        ("lora_rank: [8]", "lora_rank: must be a whole number, not a list"),
        ("lora_rank: 0", "lora_rank: must be at least 1, not 0"),
        ("learning_rate: fast", "learning_rate: must be a number, not 'fast'"),
        ("learning_rate: false", "learning_rate: must be a number, not false"),
        ("learning_rate: 0", "learning_rate: must be more than 0, not 0"),
        ("learning_rate: .inf", "learning_rate: must be a finite number, not inf"),
        ("learning_rate: .nan", "learning_rate: must be a finite number, not nan"),
        ("lora_dropout: 1.5", "lora_dropout: must be at most 1, not 1.5"),
        ("adam_beta1: 1", "adam_beta1: must be less than 1, not 1"),
        ("use_hf: maybe", "use_hf: must be true or false, not 'maybe'"),
        ("use_hf: 2", "use_hf: must be true or false, not 2"),
        ("model: 360", "model: must be text, not 360; put it in quotes"),
        ("model: true", "model: must be text, not true; put it in quotes"),
        ("system: {Answer: briefly}", "system: must be text, not a mapping; put it in quotes"),
        ("model: [a]", "model: must be text, not a list"),
        ("deepspeed: 3", "deepspeed: must be text or a mapping, not 3; put it in quotes"),
        ("eval: 3", "eval: must be a mapping, not 3"),
        (
            "gradient_accumulation_steps: most",
            "gradient_accumulation_steps: must be a whole number or auto, not 'most'",
        ),
        ("gradient_accumulation_steps: 0", "gradient_accumulation_steps: must be at least 1 or auto, not 0"),
        ("save_strategy: step", "save_strategy: 'step' is not one of no, steps, epoch, best; did you mean steps?"),
        ("torch_dtype: int7", "torch_dtype: 'int7' is not one of bfloat16, float16, float32"),
        ("identity: me", "identity: must be a mapping, not 'me'"),
        (f"max_steps: {'x' * 90}", f"max_steps: must be a whole number, not '{'x' * 60}'..."),
    ],
)
def test_a_wrong_value_is_one_problem_in_plain_words(line: str, problem: str) -> None:
    assert refusal(f"{line}\n") == [f"c.yaml:1:1: {problem}"]


@pytest.mark.parametrize(
    ("section", "problems"),
    [
        ("identity: {}", ["1:1: identity.name: missing; add it", "1:1: identity.author: missing; add it"]),
        (
            "identity: {name: 7, author: b}",
            ["1:12: identity.name: must be text or a mapping, not 7; put it in quotes"],
        ),
        (
            "identity: {name: {zh: 1}, author: b}",
            ["1:19: identity.name.zh: must be text, not 1; put it in quotes"],
        ),
        ("identity: {name: {fr: a}, author: b}", ["1:19: identity.name.fr: no such key; known: zh, en"]),
        (
            "identity: {name: {zh: a}, author: {zh: b}}",
            ["1:1: identity: has no name.en and no author.en; add it, or set languages to the ones you have"],
        ),
        (
            "identity: {name: a, author: b, languages: [zh, fr]}",
            ["1:48: identity.languages.1: 'fr' is not one of zh, en"],
        ),
        (
            "identity: {name: a, author: b, languages: []}",
            ["1:32: identity.languages: must be a list with at least 1 entry, not an empty list"],
        ),
        (
            "identity: {name: a, author: b, rows: 200000}",
            ["1:32: identity.rows: must be at most 100,000, not 200000"],
        ),
        (
            "identity: {name: a, author: b, slots: {COLOUR: red}}",
            [
                "1:40: identity.slots.COLOUR: no such slot; "
                "known: VERSION, DATE, CAPABILITIES, LIMITS, LICENSE, each also with .zh or .en"
            ],
        ),
        ("launch: {env: {USE_HF: 1}}", ["1:16: launch.env.USE_HF: must be text, not 1; put it in quotes"]),
        ("launch: {gpu: 1}", ["1:10: launch.gpu: no such key; did you mean gpus?"]),
        ("dataset: [a, 3]", ["1:14: dataset.1: must be text, not 3; put it in quotes"]),
    ],
)
def test_what_is_wrong_inside_a_section_has_its_own_place(section: str, problems: list[str]) -> None:
    assert refusal(f"{section}\n") == [f"c.yaml:{problem}" for problem in problems]


@pytest.mark.parametrize("value", ["1", "auto", "", "[a]"])
def test_an_unknown_key_is_refused_whatever_its_value(value: str) -> None:
    assert refusal(f"learnig_rate: {value}\n") == [
        "c.yaml:1:1: learnig_rate: ms-swift 9.9.9 has no such argument; did you mean learning_rate?"
    ]


@pytest.mark.parametrize("name", ["copy", "model_config", "swift_values", "__class__", "self"])
def test_a_key_named_like_a_part_of_the_program_is_just_unknown(name: str) -> None:
    assert refusal(f"{name}: 1\n")[0].startswith(f"c.yaml:1:1: {name}: ms-swift 9.9.9 has no such argument")


@pytest.mark.parametrize(("written", "meant"), [("identiy", "identity"), ("evals", "eval"), ("repaly", "replay")])
def test_sft_kits_own_keys_are_suggested_too(written: str, meant: str) -> None:
    assert refusal(f"{written}: 1\n") == [
        f"c.yaml:1:1: {written}: ms-swift 9.9.9 has no such argument; did you mean {meant}?"
    ]


def test_a_wrong_value_of_a_key_that_only_ms_swift_knows_is_refused() -> None:
    assert refusal("ddp_timeout: soon\n") == ["c.yaml:1:1: ddp_timeout: takes a whole number, not 'soon'"]


def test_a_wrong_value_keeps_the_spelling_that_was_written() -> None:
    assert refusal("train_type: 5\n") == ["c.yaml:1:1: train_type: must be text, not 5; put it in quotes"]


def test_two_spellings_of_one_key_are_refused() -> None:
    assert refusal("train_type: lora\ntuner_type: full\n") == [
        "c.yaml:2:1: tuner_type: the same argument as train_type; keep one of them"
    ]


def test_two_spellings_of_one_key_in_set_are_refused() -> None:
    assert refusal("model: a\n", "train_type=lora", "tuner_type=full") == [
        "--set: tuner_type: the same argument as train_type; keep one of them"
    ]


def test_a_wrong_value_of_set_is_not_blamed_on_the_file() -> None:
    assert refusal("lora_rank: 8\n", "lora_rank=eight", "identity.name=x", "foo=1") == [
        "--set: identity.author: missing; add it",
        "--set: lora_rank: must be a whole number, not 'eight'",
        "--set: foo: ms-swift 9.9.9 has no such argument; did you mean learning_rate?",
    ]


def test_without_ms_swift_only_typed_keys_are_accepted() -> None:
    with pytest.raises(ConfigError) as caught:
        load("model: a\nddp_timeout: 5\n", rules=None)
    assert str(caught.value) == (
        "c.yaml:2:1: ddp_timeout: not a key of sft-kit, and without ms-swift no other can be checked; install ms-swift"
    )


# --- the resolved config -----------------------------------------------------------------------------------------

# every character that a YAML file may hold: what it may not (NUL, lone surrogates) cannot have been written either
TEXT = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\ufeff\ufffe\uffff") | st.sampled_from("\n\t")
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.fixed_dictionaries(
        {},
        optional={
            "model": TEXT,
            "system": TEXT,
            "dataset": st.lists(TEXT),
            "learning_rate": st.floats(1e-300, 1e300),
            "max_steps": st.integers(-(2**60), 2**60),
            "use_hf": st.booleans(),
            "gradient_accumulation_steps": st.just("auto") | st.integers(1, 99),
            "identity": st.fixed_dictionaries(
                {"name": TEXT | st.fixed_dictionaries({"zh": TEXT, "en": TEXT}), "author": TEXT},
                optional={"slots": st.fixed_dictionaries({}, optional={"VERSION": TEXT, "LIMITS.zh": TEXT})},
            ),
            "launch": st.fixed_dictionaries({"env": st.dictionaries(TEXT.filter(str.strip), TEXT, max_size=3)}),
            "ddp_timeout": st.integers(),
        },
    )
)
def test_training_on_the_resolved_config_repeats_the_config(values: dict[str, Any]) -> None:
    config = RunConfig.model_validate(values)
    text = resolved_yaml(config)
    assert load(text).config == config, text


def test_the_resolved_config_holds_what_was_given_and_the_overrides() -> None:
    loaded = load("train_type: lora\nlora_rank: 8\nidentity: {name: 甲, author: b}\nmodel:\n", ["lora_rank=16"])
    assert resolved_yaml(loaded.config) == "identity:\n  name: 甲\n  author: b\ntuner_type: lora\nlora_rank: 16\n"


def test_an_old_word_for_a_value_becomes_todays(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("torch_dtype: bf16\n", encoding="utf-8")
    assert load_config(path, rules=Rules()).config.torch_dtype == "bfloat16"


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("num_train_epochs: 3，", "did you mean 3?"),
        ("learning_rate: １e-4", "did you mean 1e-4?"),
        ("launch: {memory_gib: 24GB}", "did you mean 24?"),
        ("launch: {memory_gib: much}", ""),
        ("gradient_checkpointing: ture", "did you mean true?"),
        ("gradient_checkpointing: 关", ""),
    ],
)
def test_a_value_that_was_nearly_a_number_or_a_switch_is_guessed(tmp_path: Path, text: str, fix: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text + "\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, rules=Rules())
    assert [problem.fix for problem in caught.value.problems] == [fix]


def test_a_key_has_its_place_by_todays_name_too() -> None:
    loaded = load("model: a/b\ntrain_type: lora\n")
    assert [loaded.place(key).rpartition(".yaml")[2] for key in ("train_type", "tuner_type")] == [":2:1", ":2:1"]
