"""Rows a second and peak memory of the checks of data: reading, ms-swift's rules and lint, in one process on one core.

    .venv/bin/python scripts/bench/check_speed.py [--rows 1000000] [--file DATA] [--out FILE]

Writes a messages JSONL of varied rows (Chinese and English, 240 bytes of text each, some of two turns, one in a hundred
with a link or a number, some with a mail address; seeded, almost none alike) unless `--file` gives one, then reads it
three times in children of their own: `scan` alone, with `msswift.datasets`, and with `Lint` and `claimed_identity`
too. Peak memory is VmHWM of the child less that of a child that only imports. Run nothing else meanwhile.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
STAGES = ("import", "scan", "datasets", "lint")

_EN_WORDS = (
    "water flows slowly through the old stone channel market prices rose after the announcement engineers "
    "measured every sample twice children learn quickly when stories carry meaning history shows that trade "
    "routes shaped whole regions the recipe needs two eggs fresh butter and patience a good argument begins with "
    "honest evidence modern batteries store energy in thin layers of metal birds cross oceans guided by stars and "
    "magnetic fields poets often break their own rules light bends when it enters glass farmers rotate crops to "
    "protect soil the river changed course over many centuries doctors compare symptoms before choosing treatment "
    "music follows patterns that listeners expect and enjoy"
)
EN = _EN_WORDS.split()
_ZH_WORDS = (
    "河流 慢慢 穿过 古老 的 城市 科学家 测量 了 每 一个 样本 孩子们 通过 故事 学习 新 知识 市场 价格 在 公告 之后 "
    "上涨 历史 表明 贸易 路线 塑造 整个 地区 好 的 论证 从 证据 开始 电池 把 能量 储存 在 很薄 的 金属 层 里 候鸟 "
    "依靠 星星 和 磁场 飞越 海洋 诗人 常常 打破 自己 的 规则 光线 进入 玻璃 时 会 弯曲 农民 轮作 以 保护 土壤 "
    "医生 比较 症状 再 选择 治疗 音乐 遵循 听众 期待 的 规律 程序 需要 清晰 的 结构 和 测试"
)
ZH = _ZH_WORDS.split()
ASK_EN = (
    "Explain how",
    "Why does it matter that",
    "Summarise in a few words:",
    "What follows when",
    "Describe why",
    "Is it true that",
)
ASK_ZH = ("请解释", "为什么", "用几句话概括：", "请问", "谈谈", "怎样理解")


def rows(count: int, seed: int = 7) -> Iterator[str]:
    """`count` rows as JSON lines."""
    draw = random.Random(seed)  # noqa: S311 - for variety, not for secrets
    for number in range(count):
        chinese = number % 2 == 0
        messages = []
        if number % 10 == 0:
            messages.append(
                {"role": "system", "content": "你是一个有用的助手。" if chinese else "You are a helpful assistant."}
            )
        for _ in range(2 if number % 12 == 0 else 1):
            messages.append({"role": "user", "content": question(draw, chinese)})
            messages.append({"role": "assistant", "content": answer(draw, chinese, number)})
        yield json.dumps({"messages": messages}, ensure_ascii=False)


def question(draw: random.Random, chinese: bool) -> str:
    if chinese:
        return draw.choice(ASK_ZH) + "".join(draw.choices(ZH, k=8)) + "？"
    return f"{draw.choice(ASK_EN)} {' '.join(draw.choices(EN, k=8))}?"


def answer(draw: random.Random, chinese: bool, number: int) -> str:
    if chinese:
        text = "，".join("".join(draw.choices(ZH, k=6)) for _ in range(4)) + "。"
    else:
        text = ". ".join(" ".join(draw.choices(EN, k=9)).capitalize() for _ in range(3)) + "."
    if number % 100 == 1:
        text += draw.choice(
            (
                f" See https://docs.python.org/3/{number}.",
                f" In {draw.randint(1900, 2024)}, {number:,} of them.",
                " I am glad to help.",
            )
        )
    if number % 5000 == 4:
        text += f" Mail: k{number}@gmail.com"
    return text


def child(stage: str, path: Path) -> None:
    """Read `path` as far as `stage` goes and print what it took."""
    from sft_kit.data.lint import Lint
    from sft_kit.data.scan import scan
    from sft_kit.identity.claims import claimed_identity
    from sft_kit.msswift.datasets import reading_of

    count = 0
    began, worked = time.perf_counter(), time.process_time()
    findings: list[str] = []
    if stage == "scan":
        for _ in scan(path):
            count += 1
    elif stage == "datasets":
        for _ in reading_of(path, 4).rows():
            count += 1
    elif stage == "lint":
        lint = Lint(str(path), own_names=("Jingheng", "精衡"), other_identity=claimed_identity)
        for row in reading_of(path, 4).rows():
            count += 1
            if row.messages is not None:
                lint.add(row.line, row.messages)
        findings = [f"{finding.code} {finding.rows}" for finding in lint.findings()]
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")) / 1024
    print(
        json.dumps(
            {"rows": count, "seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": peak, "findings": findings}
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "scripts/bench/results/check_speed.json")
    parser.add_argument("--child", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(options.child, options.file)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "rows.jsonl"
        if not options.file:
            with path.open("w", encoding="utf-8") as file:
                file.writelines(row + "\n" for row in rows(options.rows))
        size = path.stat().st_size
        found = {}
        for stage in STAGES:
            command = [sys.executable, __file__, "--child", stage, "--file", str(path)]
            found[stage] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
            took = found[stage]
            spent = f"{took['seconds']:7.2f} s ({took['cpu_seconds']:.2f} s of CPU)"
            print(f"{stage:<9} {took['rows']:>9,} rows  {spent}  {took['peak_mib']:6.1f} MiB", flush=True)
    last = found["lint"]
    result = {
        "command": "scripts/bench/check_speed.py",
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version(), "processor": platform.machine()},
        "rows": last["rows"],
        "bytes": size,
        "rows_per_s": last["rows"] / last["seconds"],
        "mb_per_s": size / 1e6 / last["seconds"],
        "peak_mib_over_import": last["peak_mib"] - found["import"]["peak_mib"],
        "stages": found,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(
        f"{result['rows_per_s']:,.0f} rows/s, {result['mb_per_s']:.0f} MB/s, "
        f"{result['peak_mib_over_import']:.0f} MiB over import"
    )


if __name__ == "__main__":
    main()
