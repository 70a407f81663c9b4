"""The cards of a run against its config."""

from __future__ import annotations

from typing import Any

import pytest

from sft_kit.checks.gpus import gpu_findings
from sft_kit.findings import Finding
from sft_kit.plan.gpus import Holder
from tests.checks.machine_facts import SMALL, card, directory, facts, machine, short

BF16 = {"torch_dtype": "bfloat16"}
A10 = card(1, "NVIDIA A10", (8, 6), total=23028)
T4 = card(0, "Tesla T4", (7, 5), total=15360)


def found(*cards: Any, keys: dict[str, Any] | None = None, **environ: str) -> list[tuple[str, str, str]]:
    return short(gpu_findings(facts(machine(*cards, environ=environ), keys or {})))


def test_a_free_card_that_can_do_it_is_silent() -> None:
    assert found(card(), A10, keys=BF16 | {"attn_impl": "flash_attn"}) == []


@pytest.mark.parametrize("visible", ["MIG-4f2c-11", "GPU-00000000,GPU-00000001", "0,1", "1,0"])
def test_every_form_of_visible_devices_is_silent_where_it_is_right(visible: str) -> None:
    assert found(card(), card(1), keys=BF16 | {"launch": {"gpus": 2}}, CUDA_VISIBLE_DEVICES=visible) == []


@pytest.mark.parametrize(
    ("keys", "cards", "environ", "severity"),
    [
        (BF16, [], {}, "warning"),
        (BF16 | {"launch": {"gpus": 0}}, [], {}, "error"),
        (BF16 | {"launch": {"gpus": 0}}, [card()], {}, "error"),
        (BF16, [card()], {"CUDA_VISIBLE_DEVICES": ""}, "error"),
        (BF16 | {"use_cpu": True}, [], {}, None),
        (BF16 | {"bf16": False}, [], {}, None),
        ({"torch_dtype": "float16"}, [], {}, None),
        ({"torch_dtype": "float32", "launch": {"gpus": 0}}, [], {}, None),
        ({}, [], {}, None),
    ],
    ids=["none-here", "gpus-0", "gpus-0-beside-one", "hidden", "use-cpu", "bf16-off", "fp16", "fp32", "model-fp32"],
)
def test_bfloat16_without_a_gpu(
    keys: dict[str, Any], cards: list[Any], environ: dict[str, str], severity: str | None
) -> None:
    codes = [each for each in found(*cards, keys=keys, **environ) if each[0] != "hidden-gpus"]
    assert codes == ([("bf16-without-gpu", severity, "torch_dtype")] if severity else [])


def test_the_models_own_type_counts_where_none_is_written() -> None:
    own = facts(machine(), {"launch": {"gpus": 0}}, directory=directory({**SMALL, "torch_dtype": "bfloat16"}))
    assert list(gpu_findings(own)) == [
        Finding(
            "bf16-without-gpu", "error", "model",
            "the model's own type is bfloat16, but GPUs are hidden from this run; ms-swift then ends with: Your setup "
            "doesn't support bf16/gpu", "on a CPU set torch_dtype: float32 (or use_cpu: true)",
        )
    ]  # fmt: skip


def test_nothing_is_said_about_other_makers_accelerators() -> None:
    assert list(gpu_findings(facts(machine(other_accelerator=True), BF16))) == []


@pytest.mark.parametrize(
    ("keys", "codes"),
    [
        (BF16, [("bf16-on-old-gpu", "warning", "torch_dtype")]),
        ({"torch_dtype": "float16", "attn_impl": "flash_attention_2"},
         [("flash-attention-on-old-gpu", "error", "attn_impl")]),
        ({"torch_dtype": "float16", "attn_impl": "sdpa"}, []),
    ],
)  # fmt: skip
def test_a_card_before_ampere(keys: dict[str, Any], codes: list[tuple[str, str, str]]) -> None:
    assert found(T4, keys=keys) == codes


def test_an_old_card_that_is_not_the_one_taken_is_silent() -> None:
    assert found(T4, card(1), keys=BF16) == []


def test_a_busy_card_says_who_holds_it_and_which_is_free() -> None:
    busy = card(0, free=4100, holders=[Holder(4242, "python", 20000), Holder(7, "Xorg", None)])
    environ = {"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}
    assert list(gpu_findings(facts(machine(busy, A10, environ=environ)))) == [
        Finding(
            "gpu-busy", "warning", "GPU 0 (NVIDIA GeForce RTX 4090)",
            "20.0 of 24.0 GiB are taken by python (pid 4242, 20,000 MiB), Xorg (pid 7)",
            "wait for them or end them, or set CUDA_VISIBLE_DEVICES=1 (22.1 GiB free)",
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("total", "taken", "busy"), [(24564, 2000, False), (24564, 2460, True), (81920, 8000, False), (8188, 1900, False)]
)
def test_a_desktop_is_no_alarm(total: int, taken: int, busy: bool) -> None:
    assert [code for code, *_ in found(card(total=total, free=total - taken))] == (["gpu-busy"] if busy else [])


@pytest.mark.parametrize(
    ("visible", "gpus", "expected"),
    [
        ("", 1, [("hidden-gpus", "warning", "")]),
        ("-1", 1, [("hidden-gpus", "warning", "")]),
        ("7", 1, [("bad-visible-devices", "error", "")]),
        ("0,7", 1, [("bad-visible-devices", "warning", "")]),
        ("0,0", 1, [("bad-visible-devices", "error", "")]),
        ("", 0, []),
        ("0,1", 1, [("spread-over-gpus", "note", "launch.gpus")]),
        ("0,1,2", 2, [("uneven-gpus", "error", "launch.gpus")]),
        ("0,1,2,3", 2, [("spread-over-gpus", "note", "launch.gpus")]),
        ("0,1", 2, []),
        ("0", 2, []),  # refused where the cards are chosen
    ],
)
def test_visible_devices(visible: str, gpus: int, expected: list[tuple[str, str, str]]) -> None:
    cards = [card(index) for index in range(4)]
    assert found(*cards, keys={"launch": {"gpus": gpus}}, CUDA_VISIBLE_DEVICES=visible) == expected


@pytest.mark.parametrize("key", ["deepspeed", "use_liger_kernel"])
def test_several_cards_for_one_process_where_ms_swift_refuses_that(key: str) -> None:
    keys = {key: "zero2" if key == "deepspeed" else True}
    expected = [("spread-over-gpus", "error", "launch.gpus")]
    assert found(card(0), card(1), keys=keys, CUDA_VISIBLE_DEVICES="0,1") == expected


def test_numbers_of_different_cards_need_an_order() -> None:
    expected = [("gpu-order", "warning", "")]
    assert found(card(), A10, CUDA_VISIBLE_DEVICES="1") == expected
    assert found(card(), A10, CUDA_VISIBLE_DEVICES="1", CUDA_DEVICE_ORDER="PCI_BUS_ID") == []
    assert found(card(), card(1), CUDA_VISIBLE_DEVICES="1") == []
