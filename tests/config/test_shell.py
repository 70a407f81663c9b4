"""A pasted script is read as bash would read it, and better where a web page has spoiled it; nothing of it is run."""

from __future__ import annotations

import contextlib
import html
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sft_kit.config.shell import Note, Script, ShellCommand, read_script
from sft_kit.errors import UsageError

SCRIPTS = sorted((Path(__file__).parents[1] / "data" / "scripts").glob("*.sh"))
PROGRAMS = ("swift", "python", "accelerate", "torchrun", "deepspeed")
REAL = ("bash", "nohup", "env", "expr", "basename", "dirname", "tee")
HOME = {"HOME": "/home/someone"}
# The stand-in for every program: it writes down how it was called, and does nothing else.
RECORDER = f"""#!{sys.executable} -S
import json, os, sys
with open(os.environ["RECORD"], "a", encoding="utf-8") as file:
    file.write(json.dumps([[os.path.basename(sys.argv[0]), *sys.argv[1:]], dict(os.environ)]) + "\\n")
"""

Call = tuple[list[str], dict[str, str]]


def only_command(text: str, environ: dict[str, str] | None = None) -> ShellCommand:
    (command,) = read_script(text, environ=environ or {}).commands
    return command


def words(text: str) -> list[str]:
    return list(only_command(text).argv)


# --- against a real bash ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recorder under the name of every program, and the harmless programs scripts need."""
    folder = tmp_path_factory.mktemp("bin")
    for name in PROGRAMS:
        (folder / name).write_text(RECORDER, encoding="utf-8")
        (folder / name).chmod(0o755)
    for name in REAL:
        (folder / name).symlink_to(shutil.which(name) or name)
    return folder


def run_in_bash(script: str, programs: Path, folder: Path) -> list[Call]:
    record = folder / "record"
    base = {"PATH": str(programs), "RECORD": str(record), "LC_ALL": "C.UTF-8", **HOME}
    path = folder / "script.sh"
    path.write_text(f"{script}\nwait\n", encoding="utf-8")
    command = [str(programs / "bash"), str(path)]
    subprocess.run(command, cwd=folder, env=base, stdin=subprocess.DEVNULL, capture_output=True, timeout=30)
    calls = [json.loads(line) for line in record.read_text(encoding="utf-8").splitlines()]
    own = {*base, "_", "PWD", "SHLVL", "OLDPWD"}
    return [(argv, {name: value for name, value in env.items() if name not in own}) for argv, env in calls]


def test_there_are_scripts_of_every_generation() -> None:
    assert len(SCRIPTS) >= 30
    assert {path.name[:3] for path in SCRIPTS} >= {"v2-", "v3-", "v4-", "tut", "she"}


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_is_read_word_for_word_as_bash_runs_it(path: Path, programs: Path, tmp_path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    read = read_script(text, environ=HOME)
    calls = [(list(c.argv), dict(c.env)) for c in read.commands if os.path.basename(c.argv[0]) in PROGRAMS]
    assert calls
    assert calls == run_in_bash(text, programs, tmp_path)
    assert [command.doubts for command in read.commands if command.doubts] == []


any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
shell_text = st.text("ab $`\"'\\\n\t{}[]*?~#&|;<>()!=-,.:\r—“”’ &amp;中\u00a0\u200b", max_size=20)


@settings(max_examples=400)
@given(st.lists(any_text | shell_text, max_size=6))
def test_any_words_quoted_for_a_shell_come_back_to_the_letter(arguments: list[str]) -> None:
    read = read_script("swift sft " + shlex.join(arguments), environ={})
    assert read == Script((ShellCommand(1, ("swift", "sft", *arguments)),), ())


@settings(max_examples=300)
@given(st.text("ab $`\"'\\\n\t{}[]*?~#&|;<>()!=-@:/0—“&amp;中\u00a0\r^>`", max_size=40))
def test_no_text_whatever_ends_in_a_crash(text: str) -> None:
    try:
        read_script(text, environ={})
    except UsageError as error:
        assert str(error).startswith("command:")


# --- what web pages and notebooks do ---------------------------------------------------------------------------------

CLEAN = """\
CUDA_VISIBLE_DEVICES=0 swift sft \\
    --model Qwen/Qwen2.5-7B-Instruct \\
    --dataset 'a#500' \\
              b.jsonl \\
    --system "You are helpful." \\
    --lora_rank 8
"""
MEANT = ["swift", "sft", "--model", "Qwen/Qwen2.5-7B-Instruct", "--dataset", "a#500", "b.jsonl", "--system",
         "You are helpful.", "--lora_rank", "8"]  # fmt: skip


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda text: text.replace("\n", "\r\n"), "the line ends of Windows are read as a shell's"),
        (lambda text: text.replace("\\\n", "\\  \n"), "blanks behind \\: in a shell the command ends there; read on"),
        (lambda text: text.replace("\\\n", "\\ # why\n"),
         "a comment behind \\: in a shell the command ends there; read on"),
        (lambda text: text.replace("\\\n    --l", "\n    --l"),
         "no \\ at the end of the line inside the command, which ends there in a shell; read on"),
        (lambda text: text.replace("    --l", "\n    --l"),
         "an empty line inside the command, which ends there in a shell; read on"),
        (lambda text: text.replace("    --l", "    # --lora_alpha 32 \\\n    --l"),
         "a comment inside the command, which ends there in a shell; read on"),
        (lambda text: text.replace("              b", "    # 'c#500' \\\n              b"),
         "a comment inside the command, which ends there in a shell; read on"),
        (lambda text: text.replace("\\\n", "\\"),
         "a \\ without its line end is left out: the lines were joined when they were copied"),
        (lambda text: text.replace("\\\n", "^\n"), "^ at the end of the line is read as \\"),
        (lambda text: text.replace("\\\n", "`\n"), "` at the end of the line is read as \\"),
        (lambda text: text.replace("--m", "——m"), "——model is read as --model"),
        (lambda text: text.replace("--m", "–m"), "–model is read as --model"),
        (lambda text: text.replace("--m", "－－m"), "－－model is read as --model"),
        (lambda text: text.replace('"', "“", 1).replace('"', "”"), "the typographic quotes “ ” are read as quotes"),
        (lambda text: text.replace("'", "‘", 1).replace("'", "’"), "the typographic quotes ‘ ’ are read as quotes"),
        (lambda text: text.replace("--system ", "--system\u00a0"),
         "a non-breaking or full-width space (U+00A0) is read as a space"),
        (lambda text: text.replace("    ", "\u3000\u3000"),
         "a non-breaking or full-width space (U+3000) is read as a space"),
        (lambda text: text.replace("--model", "\u200b--model"), "an invisible character (U+200B) is read as a space"),
        (lambda text: text.replace("Qwen/", "Qwen／"),
         "Qwen／Qwen2.5-7B-Instruct is read as Qwen/Qwen2.5-7B-Instruct"),
        (lambda text: html.escape("cd x && " + text),
         "HTML entities such as &amp; are read as the characters they mean"),
        (lambda text: "$ " + text, "a prompt is left out"),
        (lambda text: "(base) me@gpu:~/x$ " + text.replace("\n  ", "\n> "), "a prompt is left out"),
        (lambda text: "[root@gpu x]# " + text, "a prompt is left out"),
        (lambda text: ">>> " + text, "a prompt is left out"),
        (lambda text: "PS C:\\Users\\me> " + text, "a prompt is left out"),
        (lambda text: "Here's how:\n```bash\n" + text + "```\nThat's it.\n",
         "what stands between the ``` fences is read"),
    ],
)  # fmt: skip
def test_a_spoiled_command_is_read_as_it_was_meant_and_that_is_said(spoil: Callable[[str], str], said: str) -> None:
    assert words(CLEAN) == MEANT
    spoiled = spoil(CLEAN)
    assert spoiled != CLEAN
    read = read_script(spoiled, environ={})
    assert [list(command.argv) for command in read.commands if command.argv[0] == "swift"] == [MEANT]
    assert said in {note.message for note in read.notes}


@pytest.mark.parametrize("start", ["!", "%%bash\n", "%env CUDA_VISIBLE_DEVICES=0\n!", "sudo ", "nohup ", "exec ", "`"])
def test_notebook_marks_and_wrappers_are_left_out(start: str) -> None:
    command = "swift sft --a 1" + ("`" if start == "`" else "")
    assert words(f"{start}{command}") == ["swift", "sft", "--a", "1"]


def test_a_notebooks_variables_are_given_to_its_commands() -> None:
    assert only_command("%env CUDA_VISIBLE_DEVICES=0\n!swift sft").env == {"CUDA_VISIBLE_DEVICES": "0"}
    assert only_command("set CUDA_VISIBLE_DEVICES=1\nswift sft").env == {"CUDA_VISIBLE_DEVICES": "1"}
    assert only_command("$env:CUDA_VISIBLE_DEVICES='2'\nswift sft").env == {"CUDA_VISIBLE_DEVICES": "2"}


def test_text_in_quotes_is_never_mended() -> None:
    text = "--model “x” ——y &amp; a\u00a0b\u200b\r\n```bash"
    assert words(f"swift sft --system '{text}'") == ["swift", "sft", "--system", text]


def test_chinese_punctuation_in_chinese_text_stays() -> None:
    assert words("swift sft --system 你好：世界，再见") == ["swift", "sft", "--system", "你好：世界，再见"]


def test_json_without_quotes_keeps_its_own() -> None:
    assert words('swift sft --x {"a": [1, "b"]} --y 1') == ["swift", "sft", "--x", '{"a": [1, "b"]}', "--y", "1"]


# --- what is not run -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("word", "doubt"),
    [
        ("$(date +%F)", "$(date +%F) is not run"),
        ("`cat /etc/passwd`", "`cat /etc/passwd` is not run"),
        ("$(echo a; touch gone)", "$(echo a; touch gone) is not run"),
        ("$(expr 1 / 0)", "$(expr 1 / 0) is not run"),
        ("$((1 / 0))", "$((1 / 0)) cannot be worked out"),
        ("$((2 ** 99999))", "$((2 ** 99999)) cannot be worked out"),
        ("$(echo $NOWHERE)", "$(echo $NOWHERE) is not run"),
        ("$NOWHERE", "$NOWHERE is not set in what was pasted"),
        ("${NOWHERE:?say it}", "${NOWHERE:?say it} is not set in what was pasted"),
        ("$1", "$1 is not set in what was pasted"),
        ("$HF_TOKEN", "$HF_TOKEN is not set in what was pasted"),
        ("<your name>", "<your name> is a placeholder"),
        ("${A//x/y}", "${A//x/y} cannot be worked out"),
    ],
)
def test_what_is_not_worked_out_stays_in_its_place_with_a_doubt(word: str, doubt: str, tmp_path: Path) -> None:
    command = only_command(f"A=xx\nswift sft --x out/{word} --y 1", {"HF_TOKEN": "a secret"})
    assert command.argv == ("swift", "sft", "--x", f"out/{word}", "--y", "1")
    assert command.doubts == {3: doubt}


def test_a_variable_of_unknown_value_spreads_its_doubt() -> None:
    command = only_command("NOW=$(date)\nexport RUN=run-$NOW\nswift sft --run_name $RUN")
    assert command.argv == ("swift", "sft", "--run_name", "run-$(date)")
    assert command.doubts == {3: "$(date) is not run", "RUN": "$(date) is not run"}


def test_a_value_of_this_environment_is_used_and_said() -> None:
    read = read_script("swift sft --output_dir $HOME/out ~/x", environ=HOME)
    assert read.commands[0].argv == ("swift", "sft", "--output_dir", "/home/someone/out", "/home/someone/x")
    assert read.notes == (Note(1, "$HOME is /home/someone here"),)


def test_a_variable_that_the_environment_has_is_given_on_with_its_new_value() -> None:
    assert only_command("A=1\nB=2\nswift sft", {"A": "0"}).env == {"A": "1"}


def test_files_that_match_a_pattern_take_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.jsonl", "a.jsonl", "c.txt"):
        (tmp_path / name).touch()
    assert words("swift sft *.jsonl '*.jsonl' *.none") == ["swift", "sft", "a.jsonl", "b.jsonl", "*.jsonl", "*.none"]


@pytest.mark.parametrize(
    ("script", "inside"),
    [
        ("if [ -n x ]; then\nswift sft\nfi", "if (line 1)"),
        ("case $1 in\na) swift sft ;;\nesac", "case (line 1)"),
        ("while true; do swift sft; done", "while (line 1)"),
        ("train() {\n  swift sft\n}", "function train"),
        ("true || swift sft", "an alternative behind ||"),
    ],
)
def test_a_command_whose_turn_is_not_decided_says_where_it_stands(script: str, inside: str) -> None:
    commands = [command for command in read_script(script, environ={}).commands if command.argv[0] == "swift"]
    assert [command.inside for command in commands] == [inside]


def test_behind_a_block_nothing_is_in_doubt_but_its_variables() -> None:
    commands = read_script('if [ -z "$A" ]; then A=1; B=2; fi\nswift sft $B\nC=3\nswift sft $C', environ={}).commands[
        1:
    ]
    assert [(command.inside, dict(command.doubts)) for command in commands] == [
        ("", {2: "B is set inside if (line 1)"}),
        ("", {}),
    ]


def test_what_stands_around_a_command_is_kept_apart() -> None:
    command = only_command("nohup sudo -E swift sft --a 1 > x.log 2>&1 | tee -a y.log &")
    assert command.argv == ("swift", "sft", "--a", "1")
    assert command.left_out == ("> x.log", "2>&1", "nohup", "sudo -E", "| tee -a y.log")


def test_a_loop_that_starts_hundreds_of_commands_is_refused() -> None:
    with pytest.raises(UsageError, match="command:1: the loop starts too many commands"):
        read_script("for a in {1..1000}; do swift sft $a; done", environ={})


@pytest.mark.parametrize(
    ("script", "place"),
    [
        ("swift sft \\\n  --system 'You are", "x.sh:2:12: the ' opened here is never closed"),
        ('swift sft --system "a\nb', 'x.sh:1:20: the " opened here is never closed'),
        ("swift sft --x $(date", "x.sh:1:16: the ( opened here is never closed"),
        ("swift sft --x ${date", "x.sh:1:16: the { opened here is never closed"),
        ("swift sft --x `date", "x.sh:1:15: the ` opened here is never closed"),
        ("A=(1 2\nswift sft", "x.sh:1:3: the ( opened here is never closed"),
        ("swift sft --x $'a", "x.sh:1:16: the $' opened here is never closed"),
        ("swift\0", "x.sh: is no shell script"),
        ("#" * 64_001, "x.sh: is longer than 64,000 characters; paste the command by itself"),
    ],
)
def test_a_broken_quote_is_an_error_with_its_place(script: str, place: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_script(script, "x.sh", environ={})
    assert str(caught.value).startswith(place)


# --- what would become too much --------------------------------------------------------------------------------------

TOO_MUCH = "x.sh:1: its variables, braces and loops become too much text; paste the command with its values filled in"
TOO_DEEP = "x.sh: is nested too deeply; paste the command with its values filled in"


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("A=aaaaaaaa; " + "A=$A$A$A$A; " * 40 + "swift sft --x $A", TOO_MUCH),
        ("A=(a a); " + 'A=("${A[@]}" "${A[@]}"); ' * 40 + "swift sft ${A[@]}", TOO_MUCH),
        ("swift sft " + "{a,b}" * 40, TOO_MUCH),
        ("swift sft {1..999999999}", TOO_MUCH),
        ("for a in {1..900}; do for b in {1..900}; do for c in {1..900}; do A=1; done; done; done", TOO_MUCH),
        ("swift sft --x " + "$(echo " * 5000 + ")" * 5000, TOO_MUCH),
        ("A='eval $A'; eval $A", TOO_DEEP),
        ("swift sft --x " + "${A:-" * 500 + "}" * 500, TOO_DEEP),
        (
            "swift sft &" + "amp;" * 5000,
            "x.sh: holds HTML entities within HTML entities; write the characters they mean",
        ),
    ],
)
@pytest.mark.timeout(60)
def test_a_script_that_would_become_too_much_is_refused(script: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_script(script, "x.sh", environ={})
    assert str(caught.value) in (said, TOO_MUCH if said == TOO_DEEP else said)


@pytest.mark.parametrize(
    ("word", "doubt"),
    [
        ("${A##*b*b*b}", "${A##*b*b*b} cannot be worked out"),
        ("/*/*/*/*/none", "/*/*/*/*/none is a pattern of too many parts"),
        ("$((B + 1))", "$((B + 1)) cannot be worked out"),
    ],
)
@pytest.mark.timeout(60)
def test_what_would_take_long_to_work_out_is_left_as_it_is(word: str, doubt: str) -> None:
    command = only_command(f"A={'a' * 20000}; B={'9' * 5000}; swift sft --x {word}")
    assert (command.argv[-1], command.doubts) == (word, {3: doubt})


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "start", ['{"a":', '{"a": [', "“", "—", "[", "``` ", "{1..99999999999999999999}", "$(", "(a)", "#\n"]
)
def test_the_longest_script_of_odd_characters_takes_seconds_at_most(start: str) -> None:
    with contextlib.suppress(UsageError):
        read_script(("swift sft --x " + start * 64_000)[:64_000], environ={})


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_a_secret_that_the_script_sets_is_put_into_no_word() -> None:
    script = (
        "export HF_TOKEN=hf_abc MAX_TOKENS=2048\necho $HF_TOKEN\nswift sft --x https://a/?t=$HF_TOKEN --y $MAX_TOKENS"
    )
    echo, swift = read_script(script, environ={}).commands
    assert echo.argv == ("echo", "$HF_TOKEN")
    assert swift.argv == ("swift", "sft", "--x", "https://a/?t=$HF_TOKEN", "--y", "2048")
    assert swift.doubts == {3: "$HF_TOKEN is a secret"}
