"""Another `main` for a worker module, in the real child that sft-kit starts; the real workers are tested elsewhere.

env = stand_in(tmp_path / "stand-in", "sft_kit.msswift.worker", PROGRAM)
sft_kit("infer", ..., env=env)
"""

from __future__ import annotations

from pathlib import Path

_SITE = """\
import sys
if any("from {module} import main" in word for word in sys.orig_argv):
    import types
    stand_in = types.ModuleType("{module}")
    exec(compile(open({program!r}).read(), {program!r}, "exec"), vars(stand_in))
    sys.modules["{module}"] = stand_in
"""


def stand_in(folder: Path, module: str, program: str) -> dict[str, str]:
    """The environment in which the child of `words_to_start(module)` runs `main(argv)` of `program` instead."""
    folder.mkdir()
    (folder / "program.py").write_text(program, encoding="utf-8")
    site = _SITE.format(module=module, program=str(folder / "program.py"))
    (folder / "sitecustomize.py").write_text(site, encoding="utf-8")
    return {"PYTHONPATH": str(folder)}
