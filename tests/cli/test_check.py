"""`sft-kit check` in a real process: what it says of data, what it exits with, and what a config may ignore."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import yaml

from tests.cli.conftest import REPOSITORY, VALID, Run

BROKEN = REPOSITORY / "tests" / "data" / "broken"
CLEAN = REPOSITORY / "tests" / "data" / "clean"


def rows(path: Path, *answers: str) -> None:
    talk = [
        {"messages": [{"role": "user", "content": f"Question {n}, word {n * n}?"}, {"role": "assistant", "content": a}]}
        for n, a in enumerate(answers, 1)
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in talk), encoding="utf-8")


def good(count: int) -> list[str]:
    return [f"Number {n} times itself is {n * n}." for n in range(count)]


def test_a_clean_config_passes_and_shows_what_will_be_trained(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60))
    (tmp_path / "config.yaml").write_text(VALID + "dataset: mine.jsonl\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 0, result.stderr
    table = [line.split() for line in result.stdout.splitlines() if line.strip()]
    assert ["identity", "40", "40", "1", "40.0%"] in [line[:5] for line in table]
    assert ["mine.jsonl", "60", "60", "1", "60.0%"] in [line[:5] for line in table]
    assert result.stdout.splitlines()[-1] == "0 errors, 0 warnings, 1 note"


def test_errors_end_in_3_with_code_line_and_fix(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60), "Fine <|im_end|>")
    (tmp_path / "config.yaml").write_text(VALID + "dataset: mine.jsonl\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 3
    shown = result.stdout.splitlines()
    at = shown.index("error mine.jsonl:61: 1 row with a model's special token in the text: <|im_end|>  [special-token]")
    assert shown[at + 1] == "  remove it; the template adds the tokens itself"
    assert "config.yaml: 1 check not met" in result.stderr


def test_json_holds_the_findings_the_files_and_the_mix(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(30), "Fine <|im_end|>")
    (tmp_path / "config.yaml").write_text(VALID + "dataset: mine.jsonl#20\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml", "--json")

    assert result.returncode == 3
    report = json.loads(result.stdout)
    assert (report["schema"], report["errors"], report["warnings"]) == (1, 1, 0)
    (finding,) = [each for each in report["findings"] if each["severity"] == "error"]
    assert finding == {
        "code": "special-token",
        "severity": "error",
        "place": "mine.jsonl:31",
        "message": "1 row with a model's special token in the text: <|im_end|>",
        "fix": "remove it; the template adds the tokens itself",
        "rows": 1,
        "lines": [31],
    }
    (generated, file) = report["files"]
    assert (generated["key"], generated["rows"]) == ("identity", 40)
    assert (file["entry"], file["format"], file["rows"], file["kept"]) == ("mine.jsonl#20", "messages", 31, 31)
    assert sum(file["tokens"]["histogram"].values()) == 31
    assert [(each["name"], each["trained"]) for each in report["mix"]] == [("identity", 40), ("mine.jsonl#20", 20)]


def test_a_config_ignores_a_code_and_says_so(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60), "Fine <|im_end|>")
    text = VALID + "dataset: mine.jsonl  # sft-kit: ignore special-token - it is about chat templates\n"
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 0, result.stdout
    assert result.stdout.splitlines()[-1] == "0 errors, 0 warnings, 1 note, 1 ignored by the config"


def test_an_ignored_code_that_does_not_exist_is_a_warning(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(VALID + "# sft-kit: ignore special-tokens\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 0
    assert "warning config.yaml:4: there is no check special-tokens  [unknown-check]" in result.stdout
    assert "did you mean special-token?" in result.stdout


def test_train_refuses_data_that_ms_swift_would_choke_on_before_it_starts(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.json").write_text('[{"instruction": "a", "output": "b"},\n{"instruction": "c" "d"}]', "utf-8")
    (tmp_path / "config.yaml").write_text(VALID + "dataset: mine.json\n", encoding="utf-8")

    result = sft_kit("train", "config.yaml")

    assert result.returncode == 2
    assert result.stderr.startswith("error: mine.json:2: ")
    assert "[broken-json]" in result.stderr
    assert not (tmp_path / "output").exists()


def test_a_pipe_is_refused_and_not_waited_for(sft_kit: Run, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "mine.jsonl")
    (tmp_path / "config.yaml").write_text(VALID + "dataset: mine.jsonl\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 3
    assert "error mine.jsonl: is a pipe or a device, not a file" in result.stdout


def test_a_file_name_that_is_no_text_is_still_json(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows(tmp_path / "data" / os.fsdecode(b"\xff.jsonl"), *good(30))
    (tmp_path / "config.yaml").write_text(VALID + "dataset: data\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml", "--json")

    assert [file["rows"] for file in json.loads(result.stdout)["files"]] == [40, 30]


def expected(folder: str) -> dict[str, dict[str, object]]:
    found = yaml.safe_load((BROKEN / folder / "expected.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict) and len(found) >= 30
    return found


def code_of(entry: dict[str, object]) -> str:
    """The code under the generation that is installed here."""
    code = entry.get("code", "")
    return str(code.get(4, "") if isinstance(code, dict) else code)


def test_every_broken_file_is_found(sft_kit: Run, tmp_path: Path) -> None:
    named = {
        f"{folder}/{name}": code_of(entry) for folder in ("read", "content") for name, entry in expected(folder).items()
    }
    assert len(named) >= 60
    text = "model: sft-kit/tiny-qwen2\ndataset:\n" + "".join(
        f"  - {json.dumps(str(BROKEN / name))}\n" for name in named
    )
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")

    report = json.loads(sft_kit("check", "config.yaml", "--json").stdout)

    places = [(finding["code"], finding["place"]) for finding in report["findings"]]
    missed = [
        (name, code)
        for name, code in named.items()
        if code and not any(c == code and str(place).startswith(str(BROKEN / name)) for c, place in places)
    ]
    assert missed == []


@pytest.mark.parametrize("file", sorted(str(path.relative_to(CLEAN)) for path in CLEAN.rglob("*.json*")))
def test_clean_data_gives_no_error_and_no_warning(file: str, tmp_path: Path) -> None:
    from sft_kit.run.prepare import examine

    (tmp_path / "config.yaml").write_text(f"model: sft-kit/tiny-qwen2\ndataset: {CLEAN / file}\n", encoding="utf-8")

    found = examine(tmp_path / "config.yaml", ask_hub=False).data

    assert [finding for finding in found if finding.severity != "note"] == []


def write_config(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")


def found(sft_kit: Run, *codes: str) -> list[tuple[str, str, str]]:
    """(code, severity, place) of the findings with these codes."""
    report = json.loads(sft_kit("check", "config.yaml", "--json").stdout)
    return [(f["code"], f["severity"], f["place"]) for f in report["findings"] if f["code"] in codes]


def test_what_train_would_say_of_the_config_check_says_too(sft_kit: Run, tmp_path: Path) -> None:
    write_config(
        tmp_path, VALID.replace("Jingheng", "精衡") + "torch_dtype: bfloat16\n".replace("torch_dtype", "model_name")
    )

    assert found(sft_kit, "no-effect", "doubtful-names") == [
        ("no-effect", "warning", "config.yaml:4:1"),
        ("doubtful-names", "warning", "config.yaml:2:12"),
    ]
    assert found(sft_kit, "config-note") == [("config-note", "note", "config.yaml:2:1")]


def test_a_misspelt_column_of_answers_is_an_error_with_the_name_that_was_meant(sft_kit: Run, tmp_path: Path) -> None:
    rows_ = [{"instruction": f"Question {n}?", "input": "", "ouput": f"Answer {n}"} for n in range(12)]
    (tmp_path / "mine.json").write_text(json.dumps(rows_), encoding="utf-8")
    write_config(tmp_path, VALID + "dataset: mine.json\n")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 3
    assert "error mine.json:1: 12 rows without any answer; ms-swift trains nothing of them" in result.stdout
    assert "did you mean output for ouput?" in result.stdout
    assert "contradictory" not in result.stdout


def test_rows_that_ask_a_held_out_question_are_told(sft_kit: Run, tmp_path: Path) -> None:
    sft_kit("gen-identity", "--name", "Jingheng", "--author", "Ye Botao", "--lang", "en", "--rows", "40")
    held_out = [json.loads(line) for line in (tmp_path / "identity.held_out.jsonl").read_text("utf-8").splitlines()]
    asked = next(each["question"] for each in held_out if not each.get("turns") and not each.get("system"))
    lines = [{"query": asked.upper(), "response": "I am Jingheng."}, {"query": "1 + 1?", "response": "It is 2."}]
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    write_config(tmp_path, VALID + "dataset: mine.jsonl\n")

    assert found(sft_kit, "held-out-in-data") == [("held-out-in-data", "warning", "mine.jsonl:1")]


def test_files_of_a_folder_that_ms_swift_passes_over_are_named(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        rows(tmp_path / "data" / name, *good(60))
    (tmp_path / "data" / "c.csv").write_text("query,response\na,b\n", encoding="utf-8")
    write_config(tmp_path, VALID + "dataset: data\n")

    assert found(sft_kit, "left-out-files") == [("left-out-files", "warning", "data")]


def test_what_leaves_nothing_to_train_on_cannot_be_ignored(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("{broken\n", encoding="utf-8")
    write_config(tmp_path, VALID + "dataset: mine.jsonl\n# sft-kit: ignore broken-json\n")

    assert found(sft_kit, "broken-json") == [("broken-json", "error", "mine.jsonl:1")]


def test_a_share_that_is_exceeded_already_is_told(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60))
    write_config(tmp_path, VALID.replace("rows: 40", "rows: 40, share: 0.1") + "dataset: mine.jsonl\n")

    assert found(sft_kit, "share-exceeded") == [("share-exceeded", "warning", "config.yaml:2:73")]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("gbk.jsonl", '{"query": "你是谁？", "response": "我是精衡。"}\n'.encode("gbk"), "is not UTF-8 but GBK"),
        ("book.csv", b"PK\x03\x04" + bytes(60), "is an Excel workbook or an archive"),
        ("book.xlsx", b"PK\x03\x04" + bytes(60), "in Excel save it as CSV UTF-8"),
        ("mine.txt", b'{"query": "a", "response": "b"}\n', "rename it to .jsonl"),
        ("role.jsonl", b'{"messages": [{"role": "user", "content": "a"}, {"role": "assitant", "content": "b"}]}\n',
         "(did you mean assistant?)"),
    ],
)  # fmt: skip
def test_the_usual_slips_are_named_for_what_they_are(
    sft_kit: Run, tmp_path: Path, name: str, content: bytes, said: str
) -> None:
    (tmp_path / name).write_bytes(content)
    write_config(tmp_path, VALID + f"dataset: {name}\n")

    assert said in sft_kit("check", "config.yaml").stdout


def test_set_beats_the_file(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60))
    write_config(tmp_path, VALID + "dataset: gone.jsonl\n")

    report = json.loads(sft_kit("check", "config.yaml", "--set", "dataset=mine.jsonl#30", "--json").stdout)

    assert [source["name"] for source in report["mix"]] == ["identity", "mine.jsonl#30"]


def test_errors_come_last_where_they_are_still_on_the_screen(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60), "Fine <|im_end|>", "")
    write_config(tmp_path, VALID + "dataset: mine.jsonl\n")

    shown = [line.split()[0] for line in sft_kit("check", "config.yaml").stdout.splitlines() if line[:1].isalnum()]

    kinds = [word for word in shown if word in ("note", "warning", "error")]
    assert kinds == sorted(kinds, key=["note", "warning", "error"].index) and {"note", "error"} <= set(kinds)


@pytest.mark.parametrize(
    ("more", "fix"),
    [
        ("", "correct it; `# sft-kit: ignore special-token` in the config lets it pass"),
        ("learnig_rate: 1e-4\n", "correct them"),
    ],
)
def test_only_what_can_be_ignored_is_offered_to_be_ignored(sft_kit: Run, tmp_path: Path, more: str, fix: str) -> None:
    rows(tmp_path / "mine.jsonl", *good(60), "Fine <|im_end|>")
    write_config(tmp_path, VALID + "dataset: mine.jsonl\n" + more)

    assert sft_kit("check", "config.yaml").stderr.splitlines()[-1] == f"  {fix}"


def test_a_rule_about_an_old_key_has_the_line_of_that_key(sft_kit: Run, tmp_path: Path) -> None:
    write_config(tmp_path, VALID + "train_type: loar\n")

    assert found(sft_kit, "unknown-word") == [("unknown-word", "error", "config.yaml:4:1")]


def test_a_misspelt_file_is_guessed(sft_kit: Run, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    rows(tmp_path / "data" / "self_cognition.jsonl", *good(60))
    write_config(tmp_path, VALID + "dataset: data/self_cognitoin.jsonl\n")

    assert "  did you mean data/self_cognition.jsonl?" in sft_kit("check", "config.yaml").stdout.splitlines()


def test_what_train_warns_of_has_its_code_and_can_be_ignored(sft_kit: Run, tmp_path: Path) -> None:
    write_config(tmp_path, VALID + "model_name: Anna\n")
    assert "which is not in dataset [no-effect]; " in sft_kit("train", "config.yaml", "--dry-run").stderr

    write_config(tmp_path, VALID + "model_name: Anna  # sft-kit: ignore no-effect\n")
    assert "no-effect" not in sft_kit("train", "config.yaml", "--dry-run").stderr


def test_the_folder_of_a_run_is_not_its_adapter_and_which_is_is_told(sft_kit: Run, tmp_path: Path) -> None:
    checkpoint = tmp_path / "output" / "v0" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    for name in ("adapter_config.json", "adapter_model.safetensors", "trainer_state.json"):
        (checkpoint / name).write_text("{}", encoding="utf-8")
    (checkpoint / "adapter_model.safetensors").write_bytes(b"\x02" + bytes(7) + b"{}")  # whole, and empty
    write_config(tmp_path, VALID + "adapters: output/v0\nresume_from_checkpoint: output/v0\n")

    shown = sft_kit("check", "config.yaml").stdout.splitlines()

    assert shown.count("  give output/v0/checkpoint-2") == 2
