"""`sft-kit check` in a real process: what it says of data, what it exits with, and what a config may ignore."""

from __future__ import annotations

import json
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
    assert result.stdout.splitlines()[-1] == "0 error(s), 0 warning(s), 0 note(s)"


def test_errors_end_in_3_with_code_line_and_fix(sft_kit: Run, tmp_path: Path) -> None:
    rows(tmp_path / "mine.jsonl", *good(60), "Fine <|im_end|>")
    (tmp_path / "config.yaml").write_text(VALID + "dataset: mine.jsonl\n", encoding="utf-8")

    result = sft_kit("check", "config.yaml")

    assert result.returncode == 3
    shown = result.stdout.splitlines()
    at = shown.index("error mine.jsonl:61: 1 row with a model's special token in the text: <|im_end|>  [special-token]")
    assert shown[at + 1] == "  remove it; the template adds the tokens itself"
    assert "config.yaml: 1 check(s) not met" in result.stderr


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
    assert result.stdout.splitlines()[-1] == "0 error(s), 0 warning(s), 0 note(s), 1 ignored by the config"


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
    text = VALID + "dataset:\n" + "".join(f"  - {json.dumps(str(BROKEN / name))}\n" for name in named)
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
    from sft_kit.run.check import check_run

    (tmp_path / "config.yaml").write_text(f"model: sft-kit/tiny-qwen2\ndataset: {CLEAN / file}\n", encoding="utf-8")

    report = check_run(tmp_path / "config.yaml")

    assert [finding for finding in report.findings if finding.severity != "note"] == []
