"""The evaluation: which questions reach which model, in how many loads, and what is not asked again."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.config.schema import EvalSection, IdentitySection, PerLanguage
from sft_kit.errors import MsSwiftError
from sft_kit.evaluate.compare import Evaluation, Likelihood
from sft_kit.evaluate.probes import Probe
from sft_kit.identity.generate import Expect, HeldOutQuestion
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.run.evaluation import Identity, Models, Questions, base_values, evaluate, models_of, plan

STAND_IN = """#!{python}
import json, sys
from pathlib import Path

log = Path(__file__).with_name("asked.jsonl")
def tell(*what):
    with log.open("a") as file:
        file.write(json.dumps(what) + "\\n")
def send(**reply):
    print(json.dumps(reply), flush=True)
tell("loaded", sys.argv[1:])
send(ready=True, seconds=1, model="m", model_type="t", template="t", system=None, adapters=[])
for line in sys.stdin:
    request = json.loads(line)
    side = "base" if request["base"] else "loaded one"
    if "likelihood" in request:
        tell("likelihood", side, len(request["likelihood"]))
        found = [dict(index=0, nats=8.0 if request["base"] else 12.0, tokens=4)]
        send(id=request["id"], likelihoods=found)
    else:
        tell("batch", side, len(request["batch"]))
        if len(log.read_text().splitlines()) == {dies_at}:
            sys.exit("killed")
        figures = dict(prompt_tokens=1, completion_tokens=1, seconds=0, finish_reason="stop")
        said = [f"{side} says {messages[-1]['content']}" for messages in request["batch"]]
        send(id=request["id"], answers=[dict(index=i, response=text, **figures) for i, text in enumerate(said)])
    send(id=request["id"], done=True, seconds=0)
"""


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))


def stand_in(folder: Path, dies_at: int = 0) -> Installation:
    """An ms-swift whose chat tells who was asked what, and goes away at its `dies_at`-th entry in asked.jsonl."""
    program = folder / "python"
    program.write_text(STAND_IN.replace("{python}", sys.executable).replace("{dies_at}", str(dies_at)))
    program.chmod(0o755)
    return replace(find_installation(), python=str(program))


def heard(folder: Path) -> list[Any]:
    """What the stand-ins were asked since the last call; the arguments of a load are left out."""
    path = folder / "asked.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    path.unlink(missing_ok=True)
    return [line[:1] if line[0] == "loaded" else line for line in lines]


def adapter(folder: Path, content: bytes = b"trained") -> Path:
    folder.mkdir()
    (folder / "adapter_config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(content)
    (folder / "args.json").write_text(json.dumps({"model": "owner/base", "template": "qwen2_5", "system": None}))
    return folder


PROBES = tuple(Probe(str(n), "general", "en", "fact", f"question {n}") for n in range(20))
QUESTIONS = Questions(PROBES, ("Ada",), {"en": "A text."})


def ask(folder: Path, models: Models, questions: Questions = QUESTIONS, *, dies_at: int = 0) -> Evaluation:
    installation = stand_in(folder, dies_at)
    return evaluate(installation, models, questions, max_new_tokens=16, log=folder / "log", env={})


def answers(evaluation: Evaluation, side: str) -> list[str]:
    return [getattr(pair, side).answer for pair in evaluation.pairs]


def test_an_adapter_is_loaded_once_and_switched_off_for_the_base(tmp_path: Path) -> None:
    models = models_of(adapter(tmp_path / "a"), 4)
    evaluation = ask(tmp_path, models)
    assert heard(tmp_path) == [
        ["loaded"],
        ["batch", "loaded one", 16],
        ["batch", "loaded one", 4],
        ["likelihood", "loaded one", 1],
        ["batch", "base", 16],
        ["batch", "base", 4],
        ["likelihood", "base", 1],
    ]
    assert answers(evaluation, "base") == [f"base says question {n}" for n in range(20)]
    assert answers(evaluation, "tuned") == [f"loaded one says question {n}" for n in range(20)]
    assert evaluation.likelihoods == {"en": Likelihood(4, 2.0, 3.0)}


def test_a_second_evaluation_asks_nothing_and_starts_no_process(tmp_path: Path) -> None:
    models = models_of(adapter(tmp_path / "a"), 4)
    first = ask(tmp_path, models)
    heard(tmp_path)
    assert (ask(tmp_path, models), heard(tmp_path)) == (first, [])


def test_what_was_answered_before_the_model_died_is_not_asked_again(tmp_path: Path) -> None:
    models = models_of(adapter(tmp_path / "a"), 4)
    with pytest.raises(MsSwiftError):
        ask(tmp_path, models, dies_at=5)  # at the first batch of the base
    assert heard(tmp_path)[1:] == [
        ["batch", "loaded one", 16],
        ["batch", "loaded one", 4],
        ["likelihood", "loaded one", 1],
        ["batch", "base", 16],
    ]
    ask(tmp_path, models)
    assert heard(tmp_path)[1:] == [["batch", "base", 16], ["batch", "base", 4], ["likelihood", "base", 1]]


def test_another_adapter_of_the_same_base_shares_its_answers(tmp_path: Path) -> None:
    ask(tmp_path, models_of(adapter(tmp_path / "a"), 4))
    heard(tmp_path)
    ask(tmp_path, models_of(adapter(tmp_path / "b", b"trained otherwise"), 4))
    assert heard(tmp_path)[1:] == [
        ["batch", "loaded one", 16],
        ["batch", "loaded one", 4],
        ["likelihood", "loaded one", 1],
    ]


def test_more_questions_ask_only_the_new_ones_and_one_in_another_context_is_new(tmp_path: Path) -> None:
    models = models_of(adapter(tmp_path / "a"), 4)
    ask(tmp_path, models)
    heard(tmp_path)
    more = (*PROBES, replace(PROBES[0], system="", context="none"), replace(PROBES[1], id="the same again"))
    found = ask(tmp_path, models, replace(QUESTIONS, probes=more))
    assert heard(tmp_path)[1:] == [["batch", "loaded one", 1], ["batch", "base", 1]]
    assert answers(found, "base")[-2:] == ["base says question 0", "base says question 1"]


def test_a_full_model_and_its_base_are_loaded_one_after_the_other(tmp_path: Path) -> None:
    tuned = tmp_path / "checkpoint-9"
    tuned.mkdir()
    (tuned / "config.json").write_text("{}")
    (tuned / "args.json").write_text(json.dumps({"model": "owner/base", "template": "qwen2_5", "adapters": []}))
    evaluation = ask(tmp_path, models_of(tuned, 4))
    lines = [json.loads(line) for line in (tmp_path / "asked.jsonl").read_text().splitlines()]
    loads = [argv for what, argv, *_ in lines if what == "loaded"]
    assert [argv[argv.index("--model") + 1] for argv in loads] == [str(tuned), "owner/base"]
    assert [argv[argv.index("--enable_thinking") + 1] for argv in loads] == ["false", "false"]
    assert [line[1] for line in lines if line[0] == "batch"] == ["loaded one"] * 4
    assert answers(evaluation, "base") == answers(evaluation, "tuned")


def test_the_base_is_loaded_as_the_checkpoint_was_trained(tmp_path: Path) -> None:
    told = {"model": "owner/base", "model_type": "qwen2", "system": "Hi.", "torch_dtype": "float32", "lora_rank": 8,
            "quant_bits": None, "adapters": [], "swift_version": "4.6.0"}  # fmt: skip
    (tmp_path / "args.json").write_text(json.dumps(told))
    kept = {"model": "owner/base", "model_type": "qwen2", "torch_dtype": "float32", "system": "Hi."}
    assert base_values(tmp_path, 4) == kept
    del kept["model_type"]
    assert base_values(tmp_path, 3) == kept  # that generation has other names for model types


def test_what_changes_the_bases_answers_is_told_apart_and_what_is_usual_left_out(tmp_path: Path) -> None:
    usual = {"model": "owner/base", "use_chat_template": True, "bnb_4bit_quant_type": "nf4", "new_special_tokens": []}
    (tmp_path / "args.json").write_text(json.dumps(usual))
    assert base_values(tmp_path, 4) == {"model": "owner/base"}
    other = {**usual, "use_chat_template": False, "quant_method": "bnb", "response_prefix": "Well, "}
    (tmp_path / "args.json").write_text(json.dumps(other))
    del other["new_special_tokens"]
    assert base_values(tmp_path, 4) == other


def test_a_likelihood_that_is_no_number_is_left_out(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    installation = stand_in(folder)
    program = Path(installation.python)
    program.write_text(program.read_text().replace("else 12.0", 'else float("nan")'))
    models = models_of(adapter(tmp_path / "a"), 4)
    found = evaluate(installation, models, QUESTIONS, max_new_tokens=16, log=tmp_path / "log", env={})
    assert found.likelihoods == {}


HELD_OUT = tuple(
    HeldOutQuestion(f"{lang}-name/{n}", "name", lang, f"{lang} {n}?", Expect(("Ada",)))  # type: ignore[arg-type]
    for lang in ("zh", "en")
    for n in range(4)
)


def test_only_the_languages_and_contexts_that_are_wanted_are_asked(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("What is new?\n", encoding="utf-8")
    section = EvalSection(questions=2, general=3, contexts=["trained", "vendor"], file=str(mine))
    identity = Identity(("Ada",), tuple(question for question in HELD_OUT if question.lang == "en"))
    questions = plan(section, ["en"], identity, prompts=("You are Qwen.", ""))
    asked = [(probe.kind, probe.context, probe.system) for probe in questions.probes]
    assert asked == [
        *[("identity", "trained", None)] * 2,
        *[("identity", "vendor", "You are Qwen.")] * 2,
        *[("general", "trained", None)] * 3,
        ("user", "trained", None),
    ]
    assert {probe.lang for probe in questions.probes} == {"en"}
    assert (questions.names, list(questions.texts)) == (("Ada",), ["en"])


def test_without_an_identity_there_are_general_questions_and_nothing_can_leak() -> None:
    questions = plan(EvalSection(general=3, likelihood=False), ["zh"], None, prompts=(None, None))
    assert [probe.kind for probe in questions.probes] == ["general"] * 3
    assert (questions.names, questions.texts) == ((), {})


def test_a_name_in_a_language_that_is_not_trained_is_looked_for_too() -> None:
    section = IdentitySection(name=PerLanguage(zh="精衡", en="Jingheng"), author="Ye Botao", languages=["en"])
    assert Identity.of(section, HELD_OUT) == Identity(("Jingheng", "Ye Botao", "精衡"), HELD_OUT)
