"""What each pitfall of tests/pitfalls costs: seconds of `sft-kit check`, and of plain `swift sft` with the same config.

    .venv/bin/python scripts/bench/pitfalls.py [--repeat 5] [--only SLUG]... [--no-swift] [--again] [--page]

`check` is a real process, the median and the worst of --repeat. `swift sft` gets the flat keys of the config as
ms-swift itself would read them (PyYAML, `--key value`); identity, eval and launch are left out, identity rows are a
file beside it, and sft-kit's own small models are their directory with model_type and template. It is stopped after
120 s. Neither needs a network; with one, a name that is not there is answered sooner or later. Earlier results of swift
are kept unless --again, so that a run can be broken off. Writes results/pitfalls.json and docs/pitfalls.md (--page:
only that, from the results there are). Disk and RAM are those of this machine, which the tests replace, so that a
large model may be told of more here. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
if str(REPOSITORY) not in sys.path:  # as a script; the tests that read the page have it already
    sys.path.insert(0, str(REPOSITORY))

from tests.pitfalls.corpus import GROUPS, Pitfall, lay_out, read_corpus  # noqa: E402

from sft_kit.config.schema import OwnKeys  # noqa: E402
from sft_kit.models.catalog import is_own_model, resolve_own_model  # noqa: E402

RESULTS = REPOSITORY / "scripts/bench/results/pitfalls.json"
PAGE = REPOSITORY / "docs/pitfalls.md"
LIMIT_S = 120
_ERROR = re.compile(r"^(?:\[rank\d+\]: *)?(?:[\w.]*(?:Error|Exception|Interrupt)\b.*|\S+\.py: error: .*)$")
_ROWS = re.compile(r"Dataset Token Length: .*size=(\d+)")
Result = dict[str, Any]


def check(pitfall: Pitfall, folder: Path, environ: Mapping[str, str], repeat: int) -> Result:
    """Median and worst seconds of `sft-kit check`, process start included."""
    sets = [word for override in pitfall.overrides for word in ("--set", override)]
    command = [sys.executable, "-m", "sft_kit", "check", pitfall.argument, "--json", *sets]
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, text=True, check=False)
        seconds.append(time.perf_counter() - began)
    findings = json.loads(done.stdout)["findings"]
    codes = sorted(finding["code"] for finding in findings if finding["severity"] != "note")
    if (done.returncode, codes) != (pitfall.exit, list(pitfall.expected)):
        print(f"{pitfall.slug}: exit {done.returncode} {codes}, expected {pitfall.exit} {list(pitfall.expected)}")
    return {"median_s": round(statistics.median(seconds), 3), "worst_s": round(max(seconds), 3)}


def swift(pitfall: Pitfall, folder: Path, environ: Mapping[str, str]) -> Result:
    """How plain `swift sft` ends: seconds, exit code (None: stopped), last error line, rows it trained."""
    environ = {**environ, "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    environ.pop("PYTHONPATH", None)  # the stubs of packages are for `check`
    command = [str(Path(sys.executable).parent / "swift"), "sft", *swift_arguments(pitfall, folder)]
    began = time.perf_counter()
    with tempfile.TemporaryFile("w+") as said:
        child = subprocess.Popen(
            command, cwd=folder, env=environ, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
        )
        try:
            code: int | None = child.wait(LIMIT_S)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()
        seconds = time.perf_counter() - began
        said.seek(0)
        text = said.read().replace("\r", "\n")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if _ERROR.match(line)]
    rows = _ROWS.findall(text)
    return {
        "seconds": round(seconds, 1),
        "exit": code,
        "last_error": _without_paths(errors[-1], folder)[:300] if errors and code != 0 else "",
        "rows": int(rows[0]) if rows else None,
    }


def swift_arguments(pitfall: Pitfall, folder: Path) -> list[str]:
    """The argv of `swift sft` as swift/cli/main.py (parse_yaml_args) makes it of a YAML file."""
    try:
        values = yaml.safe_load((folder / pitfall.argument).read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, UnicodeDecodeError):
        values = None
    if not isinstance(values, dict):
        return [pitfall.argument]  # let it fail on the file by itself
    values |= {key: yaml.safe_load(value) for key, _, value in (each.partition("=") for each in pitfall.overrides)}
    identity = values.get("identity")
    values = {key: value for key, value in values.items() if key not in OwnKeys and value != "auto"}
    if identity:
        given = values.get("dataset") or []
        values["dataset"] = [_identity_file(identity, folder), *(given if isinstance(given, list) else [given])]
    name = str(values.get("model") or values.get("model_id_or_path") or "")
    if is_own_model(name):
        own = resolve_own_model(name, print)
        values["model" if "model" in values else "model_id_or_path"] = str(own.path)
        values = {"model_type": own.model_type, "template": own.template, **values}
    argv = []
    for key, value in values.items():
        argv.append(f"--{key}")
        if isinstance(value, list):
            argv += [str(each) for each in value]
        else:
            argv.append(json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else str(value))
    return argv


def _identity_file(section: Mapping[str, Any], folder: Path) -> str:
    words = [sys.executable, "-m", "sft_kit", "gen-identity", "--out", "identity.jsonl"]
    for key in ("name", "author"):
        value = section[key]
        texts = value if isinstance(value, dict) else {"zh": value, "en": value}
        words += [f"--{key}", texts.get("zh") or texts["en"], f"--{key}-en", texts.get("en") or texts["zh"]]
    languages = section.get("languages", ["zh", "en"])
    words += ["--lang", ",".join(languages), "--rows", str(section.get("rows", 120))]
    subprocess.run(words, cwd=folder, check=True, capture_output=True)
    return "identity.jsonl"


def _without_paths(text: str, folder: Path) -> str:
    for path, name in ((folder, "."), (REPOSITORY, "..."), (Path(sys.prefix), "..."), (Path.home(), "~")):
        text = text.replace(str(path), name)
    return text


def page(corpus: Sequence[Pitfall], results: Mapping[str, Any]) -> str:
    """docs/pitfalls.md."""
    measured = results["pitfalls"]
    checks = [measured[each.slug]["check"] for each in corpus]
    runs = [measured[each.slug]["swift"] for each in corpus if measured[each.slug].get("swift")]
    intro = _INTRO.format(
        pitfalls=len(corpus),
        median=f"{statistics.median(each['median_s'] for each in checks):.2f}",
        worst=f"{max(each['worst_s'] for each in checks):.2f}",
        version=results["ms_swift"],
        runs=len(runs),
        waited=f"{statistics.median(run['seconds'] for run in runs):.0f}",
        silent=sum(run["exit"] == 0 for run in runs),
        cpus=results["machine"]["cpus"],
    )
    lines = intro.splitlines()
    for group in GROUPS:
        members = [each for each in corpus if each.group == group]
        if members:
            lines += ["", f"## {_HEADINGS[group]}", "", _COLUMNS, "|---|---|---|"]
            lines += [_line(each, measured[each.slug]) for each in members]
    return "\n".join(lines) + "\n"


_INTRO = """\
# What goes wrong, and when you are told · 常见的坑，以及何时知道

{pitfalls} ways in which a fine-tune fails or trains something wrong. Each is a folder of `tests/pitfalls`, and the
tests hold `sft-kit check` to what it says of it. That takes {median} s (median; worst {worst} s) with the start of the
process; nothing of torch is imported, and no model loaded. Plain `swift sft` (ms-swift {version}) was given {runs} of
the same configs: it took {waited} s (median) to end, and {silent} times it ended with exit 0 all the same. Measured by
`scripts/bench/pitfalls.py` on {cpus} CPU cores without a network, with a model of 1M parameters; a real one takes
longer to load.

{pitfalls} 种让微调失败或训出错误结果的情况，每种对应 `tests/pitfalls` 里的一个文件夹，
由测试保证 `sft-kit check` 给出的结论。`check` 用时 {median} 秒（中位数，含进程启动；最长 {worst} 秒），
不导入 torch，也不加载模型。其中 {runs} 个配置直接交给 `swift sft`（ms-swift {version}）：
中位数要 {waited} 秒才结束，有 {silent} 次退出码仍为 0。数据由 `scripts/bench/pitfalls.py` 测得。
"""
_COLUMNS = "| pitfall · 坑 | `sft-kit check` | ms-swift alone · 直接用 ms-swift |"
_HEADINGS = {
    "config": "The config · 配置",
    "data": "The data · 数据",
    "hub": "The hubs · 模型库",
    "model": "The model · 模型",
    "machine": "The machine · 机器",
    "security": "Security · 安全",
    "memory": "Memory · 显存",
}


def _line(pitfall: Pitfall, result: Mapping[str, Any]) -> str:
    codes = " ".join(f"`{code}`" for code in dict.fromkeys(pitfall.expected)) or "put right by itself · 自动改正"
    told = f"{codes}, exit {pitfall.exit}, {result['check']['median_s']:.2f} s"
    run = result.get("swift")
    if run:
        ended = "still at it" if run["exit"] is None else f"exit {run['exit']}"
        instead = f"{run['seconds']:.0f} s, {ended}: {pitfall.instead}"
    else:
        instead = f"(not run here) {pitfall.instead}"
    source = f" ({pitfall.source.removeprefix('modelscope/ms-swift')})" if "#" in pitfall.source else ""
    return f"| {_cell(pitfall.title_en + source)}<br>{_cell(pitfall.title_zh)} | {told} | {_cell(instead)} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--only", action="append", metavar="SLUG", default=[])
    parser.add_argument("--no-swift", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    corpus = read_corpus()
    results: Result = json.loads(options.out.read_bytes()) if options.out.is_file() else {"pitfalls": {}}
    results |= {
        "command": "scripts/bench/pitfalls.py",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "ms_swift": importlib.metadata.version("ms-swift"),
        "limit_s": LIMIT_S,
    }
    measured = results["pitfalls"] = {each.slug: results["pitfalls"].get(each.slug, {}) for each in corpus}
    for pitfall in () if options.page else corpus:
        if options.only and pitfall.slug not in options.only:
            continue
        found = measured[pitfall.slug]
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place) / "run"
            folder.mkdir()
            environ = lay_out(pitfall, folder)
            found["check"] = check(pitfall, folder, environ, options.repeat)
            if not pitfall.swift:
                found.pop("swift", None)
            elif not options.no_swift and (options.again or "swift" not in found):
                found["swift"] = swift(pitfall, folder, environ)
        print(f"{pitfall.slug:<40} {found}", flush=True)
        options.out.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    lacking = [slug for slug, found in measured.items() if "check" not in found]
    if lacking:
        print(f"no page yet: {len(lacking)} pitfalls are not measured, such as {lacking[0]}")
    elif options.out == RESULTS:
        PAGE.write_text(page(corpus, results), encoding="utf-8")


if __name__ == "__main__":
    main()
