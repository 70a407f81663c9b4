"""Which GPUs a run gets, by asking a real `nvidia-smi` process: a script that stands first on PATH."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from sft_kit.errors import ExitCode, MissingError
from sft_kit.plan.gpus import Gpu, Holder, gpu_environment, list_gpus, visible_gpus
from tests.plan.fake_nvidia_smi import A10, RTX4090, T4, App, Card, install, uuid

Install = Callable[[str], None]
TWO = "0, NVIDIA GeForce RTX 4090, 1024, 24564\n1, NVIDIA GeForce RTX 3090, 20000, 24576\n"
THREE = TWO + "2, NVIDIA A10, 22000, 23028\n"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a shell script called nvidia-smi on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    def install(body: str) -> None:
        script = tmp_path / "nvidia-smi"
        script.write_text(f"#!/bin/sh\n{body}\n")
        script.chmod(0o755)

    return install


@pytest.fixture
def shows(nvidia_smi: Install) -> Install:
    """The script prints this table."""
    return lambda table: nvidia_smi(f"cat <<'END'\n{table}END")


def refusal(wanted: int, environ: dict[str, str]) -> str:
    with pytest.raises(MissingError) as caught:
        gpu_environment(wanted, environ)
    assert caught.value.exit_code is ExitCode.MISSING
    return str(caught.value)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A machine with these cards and processes."""

    def make(cards: Sequence[Card], apps: Sequence[App] = ()) -> None:
        monkeypatch.setenv("PATH", f"{install(tmp_path, cards, apps)}{os.pathsep}{os.environ['PATH']}")

    return make


def test_every_card_is_listed_with_what_it_can_and_who_holds_it(machine: Callable[..., None]) -> None:
    machine([RTX4090, T4], [App(0, 4242, "/opt/conda/bin/python", 20000), App(0, 17, "[Not Found]", "[N/A]")])
    assert list_gpus() == [
        Gpu(0, "NVIDIA GeForce RTX 4090", 4214, 24564, uuid(0), (8, 9), "570.133.20",
            (Holder(4242, "python", 20000), Holder(17, "[Not Found]", None))),
        Gpu(1, "Tesla T4", 15010, 15360, uuid(1), (7, 5), "570.133.20", ()),
    ]  # fmt: skip


def test_an_old_driver_is_asked_again_for_what_it_knows(nvidia_smi: Install, tmp_path: Path) -> None:
    nvidia_smi(
        f'echo "$@" >> {tmp_path}/asked\n'
        'case "$1" in *compute_cap*) echo \'Field "compute_cap" is not a valid field to query.\'; exit 2;; esac\n'
        'case "$1" in --query-gpu*) echo "0, NVIDIA A10, 22000, 23028";; esac'
    )
    assert list_gpus() == [Gpu(0, "NVIDIA A10", 22000, 23028)]
    assert sorted((tmp_path / "asked").read_text().splitlines()) == [
        "--query-compute-apps=gpu_uuid,pid,name,used_memory --format=csv,noheader,nounits",
        "--query-gpu=index,name,memory.free,memory.total --format=csv,noheader,nounits",
        "--query-gpu=index,name,memory.free,memory.total,uuid,compute_cap,driver_version --format=csv,noheader,nounits",
    ]


def test_a_name_with_a_comma_is_read(shows: Install) -> None:
    shows("0, NVIDIA A100, PCIe, 40000, 40960\n")
    assert list_gpus() == [Gpu(0, "NVIDIA A100, PCIe", 40000, 40960)]


def test_a_card_without_memory_of_its_own_has_the_machines(machine: Callable[..., None]) -> None:
    machine([Card("NVIDIA GB10", "[N/A]", "12.1")])
    (gpu,) = list_gpus()
    assert (gpu.name, gpu.capability) == ("NVIDIA GB10", (12, 1))
    assert 0 < gpu.free_mib <= gpu.total_mib == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20


def test_rows_without_numbers_are_left_out(shows: Install) -> None:
    shows("0, NVIDIA A10, [Unknown Error], [Unknown Error]\n\nnonsense\n1, NVIDIA A10, 22000, 23028\n")
    assert list_gpus() == [Gpu(1, "NVIDIA A10", 22000, 23028)]


@pytest.mark.parametrize(
    ("visible", "indices"),
    [
        (None, [0, 1, 2]), ("1", [1]), ("2, 0", [2, 0]), ("", []), ("-1", []), ("0,7,1", [0]), ("1,1", []),
        ("GPU-00000002", [2]), ("GPU-0", []), ("MIG-4f2c", []),
    ],
)  # fmt: skip
def test_cuda_visible_devices_is_read_as_cuda_does(
    machine: Callable[..., None], visible: str | None, indices: list[int]
) -> None:
    machine([RTX4090, T4, A10])
    assert [gpu.index for gpu in visible_gpus(list_gpus(), visible)] == indices


def test_cards_that_are_known_already_are_not_asked_for_again(nvidia_smi: Install, tmp_path: Path) -> None:
    nvidia_smi(f"touch {tmp_path}/asked")
    two = [Gpu(0, "A", 100, 200), Gpu(1, "A", 150, 200)]
    assert gpu_environment(1, {}, two)["CUDA_VISIBLE_DEVICES"] == "1"
    assert not (tmp_path / "asked").exists()


def test_without_nvidia_smi_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert list_gpus() == []


def test_an_nvidia_smi_that_fails_means_no_gpus(nvidia_smi: Install) -> None:
    nvidia_smi("echo 'NVIDIA-SMI has failed because it could not talk to the driver'; exit 9")
    assert list_gpus() == []


def test_an_nvidia_smi_that_hangs_is_given_up(nvidia_smi: Install) -> None:
    nvidia_smi("exec sleep 60")
    began = time.monotonic()
    assert list_gpus(timeout_s=0.2) == []
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(("wanted", "devices"), [(1, "2"), (2, "1,2"), (3, "0,1,2")], ids=["one", "two", "all"])
def test_the_cards_with_most_free_memory_are_chosen_in_bus_order(shows: Install, wanted: int, devices: str) -> None:
    shows(THREE)
    assert gpu_environment(wanted, {}) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": devices}


def test_of_equal_cards_the_first_is_chosen(shows: Install) -> None:
    shows("0, A, 100, 200\n1, A, 100, 200\n")
    assert gpu_environment(1, {})["CUDA_VISIBLE_DEVICES"] == "0"


def test_the_only_card_needs_no_variable(shows: Install) -> None:
    shows("0, NVIDIA A10, 22000, 23028\n")
    assert gpu_environment(1, {}) == {}


def test_one_gpu_on_a_machine_without_any_means_the_cpu(shows: Install) -> None:
    shows("")
    assert gpu_environment(1, {}) == {}


def test_more_gpus_than_there_are_is_refused(shows: Install) -> None:
    shows(TWO)
    assert refusal(3, {}) == "launch.gpus: 3 GPUs asked for, 2 found; set launch.gpus to at most 2"


def test_zero_gpus_hides_them_all_even_those_the_user_made_visible(shows: Install) -> None:
    shows(TWO)
    assert gpu_environment(0, {}) == gpu_environment(0, {"CUDA_VISIBLE_DEVICES": "1"}) == {"CUDA_VISIBLE_DEVICES": ""}


@pytest.mark.parametrize("visible", ["1", "0,1", "", "GPU-8f3c", "-1"])
def test_cuda_visible_devices_of_the_user_is_left_alone(shows: Install, visible: str) -> None:
    shows(TWO)
    assert gpu_environment(1, {"CUDA_VISIBLE_DEVICES": visible}) == {}


def test_cuda_visible_devices_with_enough_cards_is_left_alone(shows: Install) -> None:
    shows(THREE)
    assert gpu_environment(2, {"CUDA_VISIBLE_DEVICES": "0, 2"}) == {}


@pytest.mark.parametrize(("visible", "shown"), [("0", 1), ("", 0)])
def test_more_gpus_than_the_user_made_visible_is_refused(shows: Install, visible: str, shown: int) -> None:
    shows(THREE)
    assert refusal(2, {"CUDA_VISIBLE_DEVICES": visible}) == (
        f"launch.gpus: 2 GPUs asked for, CUDA_VISIBLE_DEVICES shows {shown}; show more, or set launch.gpus lower"
    )
