"""Finding ms-swift without importing it, in this environment and in site-packages folders laid out by hand."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sft_kit.errors import ExitCode, MissingError
from sft_kit.msswift.install import Installation, find_installation


def lay_out(site: Path, *, version: str | None, files: tuple[str, ...] = ("cli/sft.py",)) -> Path:
    """A site-packages folder with a `swift` package, ms-swift's metadata if a version is given, and transformers."""
    for name in ("swift/__init__.py", *(f"swift/{file}" for file in files), "transformers/__init__.py"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text("")
    if version is not None:
        info = site / f"ms_swift-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.4\nName: ms-swift\nVersion: {version}\n\nVersion: 9\n")
    return site


def refusal(site: Path) -> str:
    with pytest.raises(MissingError) as caught:
        find_installation(site)
    assert caught.value.exit_code is ExitCode.MISSING
    return str(caught.value)


def test_this_environments_ms_swift_is_found() -> None:
    version = importlib.metadata.version("ms-swift")
    found = find_installation()
    assert (found.version, found.generation, found.python) == (version, int(version[0]), sys.executable)
    assert (found.package / "cli" / "sft.py").is_file()
    assert (found.transformers_package / "training_args.py").is_file()


def test_finding_imports_neither_swift_nor_transformers_nor_torch() -> None:
    code = (
        "import sys; from sft_kit.msswift.install import find_installation; find_installation();"
        "print([m for m in ('swift', 'transformers', 'torch', 'importlib.metadata') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_finding_takes_less_than_ten_milliseconds() -> None:
    took = []
    for _ in range(5):
        start = time.process_time()
        find_installation()
        took.append(time.process_time() - start)
    assert min(took) < 0.010


@pytest.mark.parametrize(("version", "generation"), [("3.12.0", 3), ("3.12.6", 3), ("4.0.0", 4), ("4.11.0.dev0", 4)])
def test_a_supported_version_is_taken(tmp_path: Path, version: str, generation: int) -> None:
    site = lay_out(tmp_path / "lib" / "python3.11" / "site-packages", version=version)
    assert find_installation(site) == Installation(
        version=version,
        generation=generation,  # type: ignore[arg-type]
        package=site / "swift",
        transformers_package=site / "transformers",
        python=str(tmp_path / "bin" / "python"),
    )


@pytest.mark.parametrize("version", ["3.11.3", "2.6.1", "5.0.0", "unknown"])
def test_an_unsupported_version_is_refused_with_the_range(tmp_path: Path, version: str) -> None:
    assert refusal(lay_out(tmp_path, version=version)) == (
        f"ms-swift {version} is not supported (sft-kit knows 3.12 and 4.x); "
        'change it with: pip install "ms-swift>=3.12,<5"'
    )


def test_no_ms_swift_is_refused_with_the_command_that_installs_it(tmp_path: Path) -> None:
    assert refusal(tmp_path) == 'ms-swift is not installed; install it with: pip install "ms-swift>=3.12,<5"'


def test_openstacks_swift_is_not_taken_for_ms_swift(tmp_path: Path) -> None:
    message = refusal(lay_out(tmp_path, version=None, files=("proxy/server.py",)))
    assert f"the Python package `swift` at {tmp_path / 'swift'} is not ms-swift (OpenStack Swift" in message


def test_a_folder_called_swift_that_is_no_package_is_not_taken(tmp_path: Path) -> None:
    (tmp_path / "swift").mkdir()
    assert refusal(tmp_path).startswith("ms-swift is not installed")


def test_a_checkout_without_metadata_is_known_by_its_version_file(tmp_path: Path) -> None:
    site = lay_out(tmp_path, version=None)
    (site / "swift" / "version.py").write_text("__version__ = '4.2.1.dev0'\n")
    assert find_installation(site).version == "4.2.1.dev0"


def test_ms_swift_without_transformers_is_refused(tmp_path: Path) -> None:
    site = lay_out(tmp_path, version="4.6.0")
    (site / "transformers" / "__init__.py").unlink()
    assert refusal(site).startswith("ms-swift 4.6.0 is installed without transformers")
