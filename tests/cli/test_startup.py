"""No command pays for torch before it needs it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import REPOSITORY, VALID

FORBIDDEN = ("torch", "transformers", "datasets", "peft", "swift", "modelscope", "matplotlib", "pandas", "numpy")
COMMANDS = (
    "train",
    "infer",
    "gen-identity",
    "check",
    "preview",
    "eval",
    "export",
    "serve",
    "runs",
    "init",
    "schema",
    "doctor",
)


def run_with_forbidden_imports(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = f"""
import sys
class Forbid:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN!r} and sys._getframe(2).f_code.co_name != "find_spec":
            raise AssertionError(f"{{name}} was imported")
sys.meta_path.insert(0, Forbid())
from sft_kit.cli import main
main()
"""
    return subprocess.run([sys.executable, "-c", program, *arguments], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([command, "--help"] for command in COMMANDS)])
def test_help_imports_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    result = run_with_forbidden_imports(*arguments, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout


@pytest.mark.parametrize("config", sorted(path.name for path in (REPOSITORY / "configs").glob("*.yaml")))
def test_a_dry_run_of_a_shipped_config_imports_nothing_heavy(config: str, tmp_path: Path) -> None:
    result = run_with_forbidden_imports("train", str(REPOSITORY / "configs" / config), "--dry-run", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "/swift/cli/sft.py --model " in result.stdout
    assert list(tmp_path.iterdir()) == []


def test_every_command_is_tried_here() -> None:
    from sft_kit.cli import app

    names = [command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands]
    assert sorted(names) == sorted(COMMANDS)


def test_gen_identity_and_runs_import_nothing_heavy(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(VALID, encoding="utf-8")
    for arguments in (["gen-identity", "--name", "Ada", "--author", "Lovelace"], ["runs"], ["schema"]):
        result = run_with_forbidden_imports(*arguments, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
