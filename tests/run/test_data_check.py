"""A data file of a run, read while something else happens to it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from sft_kit.run.check import check_run
from sft_kit.run.prepare import examine
from tests.run.test_mix import MODEL, write_rows

APPEND = """
import sys, time
row = '{"messages": [{"role": "user", "content": "Hi?"}, {"role": "assistant", "content": "Hello there."}]}\\n'
with open(sys.argv[1], "a", buffering=1) as file:
    while True:
        file.write(row)
        print(flush=True)
        time.sleep(0.01)
"""


def test_the_files_of_a_folder_may_be_small_when_they_are_many(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    config = tmp_path / "config.yaml"
    config.write_text(MODEL + f"dataset: {tmp_path}/data\noutput_dir: {tmp_path}/output\n", encoding="utf-8")

    write_rows(tmp_path / "data" / "0.jsonl", 30)
    assert [finding.code for finding in examine(config, ask_hub=False).data] == ["few-rows"]
    write_rows(tmp_path / "data" / "1.jsonl", 30)
    assert examine(config, ask_hub=False).data == ()


def test_a_file_that_is_being_written_is_an_error(tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "mine.jsonl", 5_000)
    config = tmp_path / "config.yaml"
    config.write_text(MODEL + f"dataset: {rows}\noutput_dir: {tmp_path}/output\n", encoding="utf-8")

    with subprocess.Popen([sys.executable, "-c", APPEND, str(rows)], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        writer.stdout.readline()  # it has begun
        report = check_run(config)
        writer.kill()

    changed = [finding for finding in report.findings if finding.code == "unreadable-file"]
    assert [(f.severity, f.place, f.message) for f in changed] == [("error", str(rows), "changed while it was read")]
