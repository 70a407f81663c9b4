"""`sft-kit eval`: what it refuses before anything is loaded, and where its report goes.

The models are stand-ins: small programs that speak the chat worker's protocol and answer with what the adapter's own
file tells them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sft_kit.errors import GateError, SftKitError
from sft_kit.msswift.install import Installation, find_installation
from sft_kit.run.directory import RunDirectory
from sft_kit.run.eval_command import Asked, Evaluated, evaluate_command
from sft_kit.run.reporting import raise_if_missed

STAND_IN = """#!{python}
import json, sys
from pathlib import Path

def send(**reply):
    print(json.dumps(reply), flush=True)
argv = sys.argv[1:]
folder = Path(argv[argv.index("--adapters" if "--adapters" in argv else "--model") + 1])
loads = Path(__file__).with_name("loads")
loads.write_text(f"{loads.read_text() if loads.exists() else ''}{folder.name}\\n")
said = (folder / "says").read_text()
send(ready=True, seconds=1, model="m", model_type="t", template="t", system=None, adapters=[])
for line in sys.stdin:
    request = json.loads(line)
    if "likelihood" in request:
        send(id=request["id"], likelihoods=[dict(index=0, nats=8.0, tokens=4)])
    else:
        figures = dict(prompt_tokens=1, completion_tokens=1, seconds=0, finish_reason="stop")
        text = "I am Base, made by nobody." if request["base"] else said
        answers = [dict(index=index, response=text, **figures) for index in range(len(request["batch"]))]
        send(id=request["id"], answers=answers)
    send(id=request["id"], done=True, seconds=0)
"""
CONFIG = """\
model: {base}
identity: {{name: Jingheng, author: Ye Botao, languages: [en], rows: 20}}
eval: {{questions: 4, general: 2}}
launch: {{gpus: 0}}
"""
TAUGHT = "I am Jingheng, made by Ye Botao."


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")


@pytest.fixture
def installation(tmp_path: Path) -> Installation:
    program = tmp_path / "python"
    program.write_text(STAND_IN.replace("{python}", sys.executable))
    program.chmod(0o755)
    return replace(find_installation(), python=str(program))


def loads(tmp_path: Path) -> list[str]:
    """The names of the folders that stand-ins loaded since the last call."""
    path = tmp_path / "loads"
    names = path.read_text().split() if path.exists() else []
    path.unlink(missing_ok=True)
    return names


def adapter(folder: Path, says: str = "", **told: object) -> Path:
    """An adapter as ms-swift leaves it, with `told` in its args.json."""
    folder.mkdir(parents=True)
    for name in ("adapter_config.json", "trainer_state.json"):
        (folder / name).write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}" + says.encode())
    (folder / "says").write_text(says)
    (folder / "args.json").write_text(json.dumps(told))
    return folder


def model(folder: Path, says: str = "", **told: object) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(says.encode())
    (folder / "says").write_text(says)
    if told:
        (folder / "args.json").write_text(json.dumps(told))
    return folder


def run_of(name: str, says: str = TAUGHT, *, config: str = CONFIG) -> RunDirectory:
    """A finished run in ./output with two checkpoints, whose last one answers everything with `says`."""
    run = RunDirectory(Path("output", name).absolute())
    base = Path("base").absolute()
    if not base.exists():
        model(base)
    for step, text in ((1, "What?"), (2, says)):
        adapter(run.path / f"checkpoint-{step}", text, model=str(base), template="qwen2_5")
    run.kit.mkdir()
    run.config_path.write_text(config.format(base=base))
    manifest = {"schema": 1, "status": "succeeded", "created": "2026-01-01T00:00:00+00:00", "config": "c",
                "model": "the base", "last_checkpoint": "checkpoint-2", "steps": 2}  # fmt: skip
    run.manifest_path.write_text(json.dumps(manifest))
    return run


def asked(*overrides: str, **given: Any) -> Asked:
    nothing = dict.fromkeys(field for field in Asked.__dataclass_fields__)
    return Asked(**{**nothing, "output_dir": Path("output"), **given, "overrides": overrides})


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


REPORT = ["report.html", "report.json", "report.md"]


def test_a_run_is_scored_with_its_own_identity_and_its_report_lies_in_it(
    installation: Installation, tmp_path: Path
) -> None:
    run = run_of("v0-20260101-000000")
    found = evaluate_command(asked(adapter="latest"), installation)
    assert files(run.kit) == ["config.yaml", "lock", "manifest.json", *REPORT]
    assert found == Evaluated(found.report, run.report())
    assert json.loads((run.kit / "report.json").read_text()) == json.loads(json.dumps(found.values()))
    evaluation = found.report.evaluation
    assert (evaluation.names, found.report.title) == (("Jingheng", "Ye Botao"), run.name)
    assert evaluation.identity("base").k < evaluation.identity("tuned").k
    assert str(evaluation.leakage("tuned")).startswith("2/2")
    assert run.read().scores == json.loads(json.dumps(evaluation.summary()))
    assert loads(tmp_path) == ["checkpoint-2"]


def test_the_second_time_nothing_is_loaded_and_a_question_of_the_users_is_asked_alone(
    installation: Installation, tmp_path: Path
) -> None:
    run_of("v0-20260101-000000")
    first = evaluate_command(asked(adapter="v0"), installation).report
    loads(tmp_path)
    again = evaluate_command(asked(adapter="v0"), installation).report
    assert (again.evaluation, loads(tmp_path)) == (first.evaluation, [])
    Path("mine.txt").write_text("What is new?\n")
    own = evaluate_command(asked(adapter="v0", questions=Path("mine.txt")), installation).report
    assert [pair.probe.question for pair in own.evaluation.of("user")] == ["What is new?"]
    assert loads(tmp_path) == ["checkpoint-2"]


def test_another_checkpoint_gets_a_report_of_its_own_and_leaves_the_runs_scores(installation: Installation) -> None:
    run = run_of("v0-20260101-000000")
    found = evaluate_command(asked(adapter=str(run.path / "checkpoint-1")), installation)
    assert files(run.kit) == [
        "config.yaml",
        "manifest.json",
        *(f"report-checkpoint-1.{s}" for s in ("html", "json", "md")),
    ]
    assert found.report.title == f"{run.name} checkpoint-1"
    assert found.report.training is not None and found.report.training.steps == 1  # of two
    assert run.read().scores == {}


def test_only_thresholds_that_are_written_or_a_gate_are_missed(installation: Installation) -> None:
    run_of("v0-20260101-000000", "What?")
    told = evaluate_command(asked(adapter="v0"), installation).report
    assert {short.enforced for short in told.shortfalls} == {False}
    raise_if_missed(told)
    written = evaluate_command(asked("eval.identity=0.5", adapter="v0"), installation).report
    with pytest.raises(GateError, match=r"^eval\.identity: 0/\d+ = .*, wanted at least 50%$"):
        raise_if_missed(written)
    gated = evaluate_command(asked("eval.gate=true", "eval.identity=0", adapter="v0"), installation).report
    missed = {short.measure for short in gated.shortfalls if short.enforced}
    assert missed == {"category"}  # no category has enough answers to be judged


def test_an_adapter_from_elsewhere_is_scored_for_the_names_that_are_given(installation: Installation) -> None:
    base = model(Path("base").absolute())
    adapter(Path("theirs"), TAUGHT, model=str(base), template="qwen2_5")
    few = ("eval.questions=4", "eval.general=2")
    who = {"name": "Jingheng", "author": "Ye Botao", "lang": "en"}
    found = evaluate_command(asked(*few, adapter="theirs", **who), installation)
    assert (found.stem, files(Path("eval-theirs"))) == (Path("eval-theirs/report").absolute(), REPORT)
    assert found.report.evaluation.identity("tuned").k > found.report.evaluation.identity("base").k
    assert dict(found.report.facts) == {"model": str(Path("theirs")), "base": str(base)}
    evaluate_command(asked(*few, adapter="theirs", **who), installation)  # its own report is replaced
    unnamed = evaluate_command(asked(*few, adapter="theirs", lang="en", out=Path("plain")), installation)
    assert {pair.probe.kind for pair in unnamed.report.evaluation.pairs} == {"general"}
    assert [short.measure for short in unnamed.report.shortfalls] == []


def test_a_merged_model_is_compared_with_the_base_that_its_args_json_tells_or_that_is_given(
    installation: Installation, tmp_path: Path
) -> None:
    base, other = model(Path("base").absolute(), "I am Base."), model(Path("other").absolute(), "I am Other.")
    model(Path("merged"), TAUGHT, model=str(base), template="qwen2_5")
    few = ("eval.general=2", "eval.likelihood=false")
    first = evaluate_command(asked(*few, model="merged", lang="en"), installation).report.evaluation
    assert (loads(tmp_path), first.pairs[0].base.answer, first.pairs[0].tuned.answer) == (
        ["merged", "base"], "I am Base.", TAUGHT
    )  # fmt: skip
    second = evaluate_command(asked(*few, model="merged", lang="en", base=str(other)), installation).report.evaluation
    assert second.pairs[0].base.answer == "I am Other."


def test_a_model_card_tells_the_base_where_args_json_does_not(installation: Installation) -> None:
    model(Path("base").absolute(), "I am Base.")
    model(Path("merged"), TAUGHT, template="qwen2_5")
    Path("merged/README.md").write_text(
        f"---\nlicense: apache-2.0\nbase_model: {Path('base').absolute()}\n---\n# Ada\n"
    )
    few = ("eval.general=2", "eval.likelihood=false")
    report = evaluate_command(asked(*few, model="merged", lang="en"), installation).report
    assert report.evaluation.pairs[0].base.answer == "I am Base."


def test_two_runs_are_compared_on_what_the_one_is_asked(installation: Installation, tmp_path: Path) -> None:
    run_of("v0-20260101-000000", "What?", config=CONFIG.replace("questions: 4", "questions: 1"))
    run = run_of("v1-20260102-000000")
    found = evaluate_command(asked(adapter="v1", against="v0"), installation)
    assert loads(tmp_path) == ["checkpoint-2", "checkpoint-2"]
    assert found.comparison is not None
    assert (found.comparison.only_ours, found.comparison.only_theirs) == (0, 0)
    took = found.comparison.differences[0]
    assert (took.measure, took.theirs.k, took.ours.k > 0) == ("new identity", 0, True)  # type: ignore[union-attr]
    assert f"report-against-{found.other}.md" in files(run.kit)
    assert found.values()["against"]["title"] == "v0-20260101-000000"
    evaluate_command(asked(adapter="v1", against="v0"), installation)
    assert loads(tmp_path) == []


def test_a_report_on_an_earlier_checkpoint_is_not_compared_with(installation: Installation) -> None:
    other = run_of("v0-20260101-000000", "What?")
    run_of("v1-20260102-000000")
    evaluate_command(asked(adapter="v0"), installation)
    later = adapter(other.path / "checkpoint-3", TAUGHT, model=str(Path("base").absolute()), template="qwen2_5")
    other.write(replace(other.read(), last_checkpoint=later.name, steps=3))
    found = evaluate_command(asked(adapter="v1", against="v0"), installation)
    assert found.comparison is not None
    took = found.comparison.differences[0]
    assert took.theirs == took.ours


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        ({}, 2, "give either --adapter or --model"),
        ({"adapter": "fine", "model": "merged"}, 2, "give either --adapter or --model"),
        ({"adapter": "nowhere"}, 2, "no such adapter, run or checkpoint"),
        ({"adapter": "v0"}, 2, "has no complete checkpoint"),
        ({"adapter": "gone"}, 2, "its base model /no/such/model is not there any more"),
        ({"adapter": "hub"}, 5, "base model of hub: owner/base is not cached and HF_HUB_OFFLINE is set"),
        ({"adapter": "fine", "base": "merged"}, 2, "--base: is for --model"),
        ({"model": "merged"}, 2, "does not tell its base model; give --base ID_OR_DIR"),
        ({"model": "moved"}, 2, "base model of moved: /no/such/model: no such directory"),
        ({"model": "merged", "base": "no/such/model"}, 2, "no such directory"),
        ({"adapter": "fine", "overrides": ("learning_rate=1",)}, 2, "only eval can be set here"),
        ({"adapter": "fine", "overrides": ("eval.identiy=1",)}, 2, "did you mean identity?"),
        ({"adapter": "fine", "name": "Ada"}, 2, "--author: is missing"),
        ({"adapter": "fine", "name": "Ada", "author": "<|im_end|>"}, 2, "special token"),
        ({"adapter": "fine", "overrides": ("eval.identity=0.9",)}, 2, "no identity is known for fine; give --name"),
        ({"adapter": "fine", "lang": "de"}, 2, "'de' is not a list of languages"),
        ({"adapter": "fine", "questions": Path("none.yaml")}, 2, "none.yaml"),
        ({"adapter": "fine", "against": "fine"}, 2, "is no run of sft-kit"),
        ({"adapter": "fine", "out": Path("fine/args.json")}, 2, "is a file"),
        ({"adapter": "fine", "out": Path("mine")}, 2, "mine/report.md: is there and is not a report on fine"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_before_anything_is_loaded_or_written(
    given: dict[str, Any], code: int, said: str, installation: Installation, tmp_path: Path
) -> None:
    base = model(Path("base").absolute())
    adapter(Path("fine"), model=str(base), template="qwen2_5")
    adapter(Path("gone"), model="/no/such/model")
    adapter(Path("hub"), model="owner/base", use_hf=True)
    model(Path("merged"))
    model(Path("moved"), model="/no/such/model")
    run = RunDirectory(Path("output/v0-20260101-000000").absolute())
    run.kit.mkdir(parents=True)
    run.manifest_path.write_text(json.dumps({"schema": 1, "status": "failed", "created": "", "config": "c"}))
    Path("mine").mkdir()
    Path("mine/report.md").write_text("my own")
    before = files(Path())
    with pytest.raises(SftKitError) as refused:
        evaluate_command(replace(asked(), **given), installation)
    assert (refused.value.exit_code, said in str(refused.value)) == (code, True), str(refused.value)
    assert (files(Path()), loads(tmp_path)) == (before, [])
