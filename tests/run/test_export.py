"""What `export` refuses before anything starts, what it asks, what it ships, and what it writes about the model."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from sft_kit.errors import GateError
from sft_kit.models.plain_worker import with_its_date
from sft_kit.run.export import _resolve, _tidy, refuse_different, refuse_faulty
from sft_kit.run.merged_weights import WeightReport
from sft_kit.run.model_card import CardFacts, model_card
from sft_kit.run.parity import UNRELATED_SYSTEM, Asked, Difference, Parity, conversations, parity_prompts
from sft_kit.run.targets import Target


@pytest.fixture
def adapter(tmp_path: Path) -> Path:
    """An adapter folder as far as file names go; nothing here loads it."""
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text("{}")
    folder = tmp_path / "checkpoint-2"
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "args.json").write_text(json.dumps({"model": str(base), "template": "qwen2_5"}))
    return folder


def run_export(adapter: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sft_kit", "export", "--adapter", str(adapter), *arguments]
    return subprocess.run(command, cwd=adapter.parent, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_a_stale_directory_at_the_target_is_refused_and_left_as_it_is(adapter: Path, tmp_path: Path) -> None:
    stale = tmp_path / "checkpoint-2-merged"
    stale.mkdir()
    (stale / "model.safetensors").write_bytes(b"of last week")
    before = sorted(tmp_path.iterdir())
    result = run_export(adapter)
    assert result.returncode == 2
    assert f"{stale}: is already there" in result.stderr
    assert (stale / "model.safetensors").read_bytes() == b"of last week"
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("method", "package", "pip"),
    [
        ("awq", "needs the Python package awq", "pip install autoawq"),
        ("gptq", "needs the Python packages optimum and gptqmodel", "pip install optimum gptqmodel"),
        ("bnb", "needs the Python package bitsandbytes", "pip install bitsandbytes accelerate"),
    ],
)
def test_a_method_whose_packages_are_not_there_says_how_to_get_them(
    adapter: Path, method: str, package: str, pip: str
) -> None:
    before = sorted(adapter.parent.iterdir())
    result = run_export(adapter, "--quant", method)
    assert result.returncode == 5
    assert package in result.stderr
    assert pip in result.stderr
    assert sorted(adapter.parent.iterdir()) == before


def test_prompts_are_held_out_identity_questions_and_general_ones_and_all_differ(tmp_path: Path) -> None:
    data = tmp_path / "sft-kit" / "data"
    data.mkdir(parents=True)
    questions = [
        {"id": f"name/{n}", "category": "name", "lang": "en", "question": f"Who are you, {n}?", "expect": {"must": []}}
        for n in range(40)
    ]
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    (data / "identity.held_out.jsonl").write_text(lines, encoding="utf-8")
    prompts = parity_prompts(tmp_path)
    assert len(prompts) == len(set(prompts)) == 20
    assert sum(prompt.startswith("Who are you, ") for prompt in prompts) == 12
    assert len(set(parity_prompts(None))) == 20
    assert parity_prompts(None, 4) == parity_prompts(None)[:4]


def test_each_prompt_is_asked_with_and_without_system_prompts() -> None:
    asked = conversations(["a", "b"], "You are Ada.", default_agrees=True)
    assert [(one.context, one.question, one.messages[0]["content"]) for one in asked] == [
        ("none", "a", "a"), ("none", "b", "b"), ("trained", "a", "You are Ada."), ("trained", "b", "You are Ada."),
        ("unrelated", "a", UNRELATED_SYSTEM), ("unrelated", "b", UNRELATED_SYSTEM),
    ]  # fmt: skip
    assert [one.context for one in conversations(["a"], None, default_agrees=True)] == ["none", "unrelated"]
    assert [one.context for one in conversations(["a"], None, default_agrees=False)] == ["unrelated"]


ASKED = Asked("none", ({"role": "user", "content": "Who are you?"},))


def test_a_tie_is_told_and_not_counted_as_equal() -> None:
    near, far = (Difference(ASKED, "I am Ada.", "I'm Ada.", gap) for gap in (0.001, 0.4))
    assert (near.is_tie(0.002), far.is_tie(0.002)) == (True, False)
    parity = Parity(20, 60, (near,), (), "bfloat16")
    refuse_different(parity)
    assert str(parity) == (
        "59 of 60 answers equal (20 prompts); 1 differ where two tokens tie within bfloat16's rounding"
    )


def test_an_answer_that_ends_elsewhere_or_to_another_prompt_is_never_a_tie() -> None:
    assert not Difference(ASKED, "I am Ada.", "I am").is_tie(1.0)
    assert not Difference(ASKED, "I am Ada.", "I am Ada.", 0.0, ("<a>", "<b>")).is_tie(1.0)


def test_another_answer_is_exit_3_with_both_answers() -> None:
    parity = Parity(20, 60, (), (Difference(ASKED, "I am Ada.", "I am Qwen.", 2.5),), "float32")
    with pytest.raises(GateError) as caught:
        refuse_different(parity)
    summary, first = map(str, caught.value.problems)
    assert "59 of 60 answers equal" in summary
    wanted = "'Who are you?' (no system prompt): answers 'I am Qwen.', the adapter 'I am Ada.' (by 2.5 in the logits)"
    assert first == wanted


def test_a_wrong_chat_template_is_named_as_the_cause() -> None:
    prompts = ("<|im_start|>system\nYou are Qwen.<|im_end|>\n", "<|im_start|>user\nWho are you?<|im_end|>\n")
    parity = Parity(20, 60, (), (Difference(ASKED, "a", "b", None, prompts),), "float32")
    with pytest.raises(GateError, match="its chat template is not the one that it was trained with"):
        refuse_different(parity)


def test_faulty_weights_are_exit_3_with_every_fault() -> None:
    with pytest.raises(GateError) as caught:
        refuse_faulty(WeightReport(2, 0, ("a is missing", "b holds 1 values that are not finite"), "base"))
    assert [problem.message for problem in caught.value.problems] == [
        "a is missing",
        "b holds 1 values that are not finite",
    ]


def test_pickles_and_what_is_known_of_this_machine_are_not_shipped(tmp_path: Path) -> None:
    for name in ("config.json", "model.safetensors", "tokenizer.json", "chat_template.jinja", "merges.txt"):
        (tmp_path / name).write_text("{}")
    for name in ("training_args.bin", "optimizer.pt", "rng_state.pth", "trainer_state.json", "adapter_config.json"):
        (tmp_path / name).write_text("{}")
    arguments = {"model": "/home/me/base", "hub_token": "hf_secret", "model_type": "qwen2", "template": "qwen2_5",
                 "system": None, "swift_version": "4.6.0"}  # fmt: skip
    (tmp_path / "args.json").write_text(json.dumps(arguments))
    _tidy(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "args.json", "chat_template.jinja", "config.json", "merges.txt", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip
    kept = {"model_type": "qwen2", "template": "qwen2_5", "swift_version": "4.6.0"}
    assert json.loads((tmp_path / "args.json").read_text()) == kept


def test_the_card_says_what_was_trained_how_it_scored_and_under_which_licence(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("---\nlicense: apache-2.0\ntags: [x]\n---\n# Base\n")
    manifest = {
        "tuner_type": "lora", "steps": 168, "final_loss": 0.30791, "versions": {"ms-swift": "4.6.0"},
        "mix": [{"name": "identity", "rows": 120, "trained": 120, "share": 0.72}],
        "scores": {
            "identity_before": {"k": 1, "n": 16, "interval": [0.011, 0.283]},
            "identity": {"k": 15, "n": 16, "interval": [0.717, 0.989]},
        },
    }  # fmt: skip
    (tmp_path / "sft-kit").mkdir()
    (tmp_path / "sft-kit" / "manifest.json").write_text(json.dumps(manifest))
    card = model_card(
        CardFacts("ada", "Qwen/Qwen2.5-7B-Instruct", tmp_path, tmp_path, "You are Ada.", "You are Ada.", "60 of 60.")
    )
    head, _, body = card.partition("\n# ada\n")
    assert head.splitlines()[:5] == [
        "---", "base_model: Qwen/Qwen2.5-7B-Instruct", "license: apache-2.0", "library_name: transformers",
        "pipeline_tag: text-generation",
    ]  # fmt: skip
    assert "- identity: 120 rows, 72% of what was trained\n- 168 steps (lora), last loss 0.3079" in body
    assert "| held-out identity questions answered as trained | 1/16 (1% to 28%) | 15/16 (72% to 99%) |" in body
    assert "> You are Ada." in body
    assert "60 of 60." in body
    assert "As its base model: apache-2.0." in body
    assert str(tmp_path) not in card


def test_a_card_of_a_bare_adapter_says_what_is_not_known() -> None:
    card = model_card(CardFacts("ada", "base", None, None, None, None, "60 of 60."))
    assert "The run that it comes from was not at hand." in card
    assert "See the base model." in card
    assert "trained without a system prompt, and its chat template puts none in." in card


@pytest.mark.parametrize(("asked_in", "most"), [("float32", 12), ("bfloat16", 30)])
def test_more_ties_than_rounding_explains_are_exit_3(asked_in: str, most: int) -> None:
    tie = Difference(ASKED, "I am Ada.", "I'm Ada.", 0.001)
    refuse_different(Parity(20, 60, (tie,) * most, (), "bfloat16", asked_in))
    with pytest.raises(GateError, match=f"{most + 1} differ where two tokens tie") as caught:
        refuse_different(Parity(20, 60, (tie,) * (most + 1), (), "bfloat16", asked_in))
    assert "'Who are you?'" in str(caught.value)


def test_a_model_whose_template_has_no_system_role_is_asked_without_one() -> None:
    alone = conversations(["a", "b"], None, default_agrees=True, takes_system=False)
    assert [(one.context, one.question) for one in alone] == [("none", "a"), ("none", "b")]
    assert conversations(["a"], "You are Ada.", default_agrees=False, takes_system=False) == []


def test_a_prompt_that_differs_in_its_date_alone_is_asked_with_the_expected_date() -> None:
    def ids(text: str) -> list[int]:
        return [ord(char) for char in text]

    def text(ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    old, today = ids("Today Date: 26 Jul 2024\n\nHi"), ids("Today Date: 22 Nov 2026\n\nHi")
    assert with_its_date(old, today, text) == today
    other = ids("Today Date: 26 Jul 2024\n\nHello")
    assert with_its_date(other, today, text) == other


def test_a_checkpoint_of_all_weights_and_an_exported_model_can_be_exported_by_their_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"architectures": ["Qwen2ForCausalLM"]}')
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert _resolve(str(tmp_path), Path("output")) == Target("model", str(tmp_path), {"model": str(tmp_path)})


def test_a_card_stands_hostile_names_and_says_a_licence_that_has_a_name_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(
        "---\nlicense: other\nlicense_name: llama-9\nlicense_link: LICENSE\ntags: [x]\n---\n"
    )
    name = "a: b # {c}\n---\nlicense: mit"
    card = model_card(CardFacts(name, name, tmp_path, None, None, None, "60 of 60.", merged=False, modelfile=True))
    front = card.split("---\n")[1]
    assert YAML(typ="safe").load(front) == {
        "base_model": "a: b # {c} --- license: mit", "license": "other", "license_name": "llama-9",
        "license_link": "LICENSE", "library_name": "transformers", "pipeline_tag": "text-generation",
        "tags": ["sft-kit", "ms-swift"],
    }  # fmt: skip
    assert "# a: b # {c} --- license: mit\n\nThis model is a copy of `a: b" in card
    assert "As its base model: llama-9 (LICENSE)." in card
    assert "`ollama create NAME -f Modelfile`" in card
