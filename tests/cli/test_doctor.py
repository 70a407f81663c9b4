"""The options of `doctor`: what `--json` prints, and that `--calibrate` measures first and keeps it."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.conftest import Run
from tests.cli.stand_in import stand_in

MEASURES = """
import json
def main(argv):
    measured = dict(name="", memory_gib=0, bandwidth_gb_s=12, short_s=0.08, long_s=0.9)
    print("a warning of a library\\nsft-kit measured: " + json.dumps(measured))
    return 0
"""
TORCH = """
class version:
    cuda = None
class cuda:
    is_available = staticmethod(lambda: False)
__version__ = "2.8.0"
"""


def test_calibrate_measures_first_and_json_has_every_line_of_the_report(sft_kit: Run, tmp_path: Path) -> None:
    env = stand_in(tmp_path / "stand-in", "sft_kit.run.calibrate", MEASURES)
    (tmp_path / "stand-in" / "torch").mkdir()  # the real one takes seconds to say what is not asked here
    (tmp_path / "stand-in" / "torch" / "__init__.py").write_text(TORCH, encoding="utf-8")
    env |= {"SFT_KIT_CACHE": str(tmp_path / "cache"), "USE_HF": "1", "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": ""}

    before, after = sft_kit("doctor", "--json", env=env), sft_kit("doctor", "--calibrate", "--json", env=env)

    lines = [{line["name"]: line for line in json.loads(done.stdout)} for done in (before, after)]
    assert [(set(line), line["state"]) for line in (lines[0]["python"], lines[0]["torch"])] == [
        ({"name", "state", "value", "fix"}, "ok"),
        ({"name", "state", "value", "fix"}, "ok"),
    ]
    assert {"sft-kit", "ms-swift", "transformers", "versions", "vllm", "Hugging Face", "memory", "disk"} <= set(
        lines[0]
    )
    assert lines[0]["speed"]["value"].endswith("(a table; sft-kit doctor --calibrate measures it)")
    assert lines[1]["speed"]["value"].endswith("(measured here by sft-kit doctor --calibrate)")
    assert "measuring this machine" in after.stderr
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["calibration.json"]
