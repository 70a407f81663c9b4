"""Packages that do not work together, or with this machine's cards; by their names, versions and own requirements.

Each error is one that ends in an exception on import or at the first kernel. What ms-swift's authors merely have not
tried (its own Requires-Dist) is a warning: ms-swift 3.12.6 does import beside transformers 5.19 and 4.6.0 beside 4.57
(tried), and then fails here and there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from sft_kit.checks.environment import Environment, Torch, release, run_gpus
from sft_kit.checks.facts import Facts
from sft_kit.checks.gpus import trains_in
from sft_kit.findings import Finding, Severity
from sft_kit.plan.gpus import Gpu

_TESTED = ("transformers", "peft", "trl", "datasets", "modelscope")
_REFUSED_ON_IMPORT = (  # transformers/dependency_versions_check.py raises ImportError for these
    "accelerate", "filelock", "huggingface-hub", "numpy", "packaging", "pyyaml", "regex", "safetensors", "tokenizers",
    "tqdm",
)  # fmt: skip
_CUDA_OF_DRIVER = ((580, 13), (525, 12), (450, 11))
"""Oldest driver branch for a CUDA major version; within one, newer builds run on older drivers (NVIDIA's "minor
version compatibility", CUDA compatibility guide, table 1)."""


def version_findings(facts: Facts) -> Iterator[Finding]:
    """What is installed, judged for a run."""
    environment = facts.environment
    yield from installed_findings(environment)
    if environment.torch and not environment.other_accelerator:
        gpus = run_gpus(environment, facts.config, facts.processes)
        # without a GPU bfloat16 is refused; other types train on the CPU, which is hardly what was meant
        severity: Severity = "error" if trains_in(facts) == "bfloat16" else "warning"
        yield from card_findings(environment, environment.torch, gpus, severity)


def installed_findings(environment: Environment) -> Iterator[Finding]:
    """Packages that do not go together."""
    yield from _untested(environment)
    yield from _refused(environment)
    yield from _torch_and_its_parts(environment)
    yield from _known_bad(environment)


def allows(specifier: str, version: str) -> bool:
    """Whether a version lies in `>=4.33,<5.20`; pre-releases count as their release. An unknown form allows all.

    Not `packaging.specifiers`: importing it takes a tenth of what the whole of `check` may.
    """
    return all(_allows_one(each, release(version)) for each in specifier.split(",") if each)


def _allows_one(clause: str, have: tuple[int, ...]) -> bool:
    found = re.fullmatch(r"(<=|>=|==|!=|~=|<|>)\s*(\d+(?:\.\d+)*)(\.\*)?.*", clause)
    if not found or not have:
        return True
    operator, wanted = found[1], release(found[2])
    prefix = have[: len(wanted)] == wanted
    width = max(len(have), len(wanted))
    left, right = (each + (0,) * (width - len(each)) for each in (have, wanted))
    if operator == "~=":
        return left >= right and have[: len(wanted) - 1] == wanted[:-1]
    if operator in ("==", "!="):
        return (prefix if found[3] else left == right) == (operator == "==")
    return {"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[operator]


def _untested(environment: Environment) -> Iterator[Finding]:
    """Outside the range that ms-swift's own metadata gives; pip installs such a mix and only mentions it."""
    wanted, versions = environment.requires.get("ms-swift", {}), environment.versions
    for name in _TESTED:
        if name in versions and not allows(wanted.get(name, ""), versions[name]):
            message = f"{versions[name]} is outside what ms-swift {versions['ms-swift']} is made for ({wanted[name]})"
            yield Finding("untested-version", "warning", name, message, f'pip install "{name}{wanted[name]}"')


def _refused(environment: Environment) -> Iterator[Finding]:
    wanted, versions = environment.requires.get("transformers", {}), environment.versions
    for name in _REFUSED_ON_IMPORT:
        if name in versions and not allows(wanted.get(name, ""), versions[name]):
            message = f"transformers {versions['transformers']} refuses to be imported with {versions[name]}"
            message += f" (it needs {wanted[name]})"
            yield Finding("refused-version", "error", name, message, f'pip install "{name}{wanted[name]}"')
    torch = environment.release("torch")
    if torch and (environment.release("transformers") or ()) >= (5,) and not allows(wanted.get("torch", ""), _t(torch)):
        # transformers/utils/import_utils.py is_torch_available: "Disabling PyTorch because PyTorch >= 2.5 is required"
        message = f"transformers {versions['transformers']} works without torch {versions['torch']}, as if there was "
        message += f"none (it needs {wanted['torch']})"
        yield Finding("refused-version", "error", "torch", message, f'pip install "torch{wanted["torch"]}"')


def _t(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))


def _torch_and_its_parts(environment: Environment) -> Iterator[Finding]:
    """torchvision and torchaudio are built against one torch: `operator torchvision::nms does not exist` and the like,
    on import, which transformers does as soon as they are there."""
    torch = environment.release("torch")
    for name in ("torchvision", "torchaudio"):
        wanted = environment.requires.get(name, {}).get("torch", "")
        built_for = release(wanted.removeprefix("==")) if wanted.startswith("==") else ()
        if torch and built_for and torch[:2] != built_for[:2]:
            have, version = environment.versions["torch"], environment.versions[name]
            message = f"{version} is built for torch {_t(built_for)}, and {have} is installed; importing it fails"
            fix = f"pip install --upgrade torch {name} in one command, from one index; or uninstall {name}"
            yield Finding("torch-mismatch", "error", name, message, fix)


def _known_bad(environment: Environment) -> Iterator[Finding]:
    have = environment.release
    transformers, peft = have("transformers") or (), have("peft") or ()
    if transformers >= (5,) and peft and peft < (0, 18):
        # modelscope/ms-swift#8167, huggingface/peft#3333: peft_model.py imports HybridCache
        message = f"{environment.versions['peft']} cannot be imported with transformers {_t(transformers)}"
        message += " (cannot import name 'HybridCache')"
        yield Finding("refused-version", "error", "peft", message, 'pip install "peft>=0.18"')
    torch, numpy = have("torch") or (), have("numpy") or ()
    if numpy >= (2,) and torch and torch < (2, 3):
        # torch before 2.3 is compiled for numpy 1: "RuntimeError: Numpy is not available" (pytorch/pytorch#107302)
        message = f"{_t(numpy)} does not work with torch {environment.versions['torch']}, which is built for numpy 1"
        yield Finding("refused-version", "error", "numpy", message, 'pip install "numpy<2", or a torch of 2.3 or later')


def card_findings(environment: Environment, torch: Torch, gpus: Sequence[Gpu], severity: Severity) -> Iterator[Finding]:
    """Whether this torch can work on these cards; `severity` is that of a torch that sees no GPU."""
    if not gpus:
        return
    if torch.cuda is None:
        message = f"{torch.version} is built without CUDA, so it does not see {gpus[0].label}"
        fix = "install a torch with CUDA (pytorch.org/get-started), or set use_cpu: true"
        yield Finding("torch-without-cuda", severity, "torch", message, fix)
        return
    cuda = release(torch.cuda)
    driver = release(gpus[0].driver)
    newest = next((major for branch, major in _CUDA_OF_DRIVER if driver and driver[0] >= branch), None)
    if newest and cuda and cuda[0] > newest and "compat" not in environment.environ.get("LD_LIBRARY_PATH", ""):
        message = (
            f"{torch.version} is built for CUDA {torch.cuda}, and driver {gpus[0].driver} knows up to {newest}.x; "
        )
        message += "torch sees no GPU"
        fix = f"update the driver, or install a torch for CUDA {newest}"
        yield Finding("driver-too-old", severity, "torch", message, fix)
    if "+cu" in torch.version:  # a wheel of pytorch.org's; whoever builds torch chooses the cards himself
        for gpu in gpus:
            lacks = _lacks(cuda, gpu.capability)
            if lacks:
                message = (
                    f"{torch.version} has no code for {gpu.name} (compute capability {_t(gpu.capability or ())}): "
                )
                message += "no kernel image is available for execution on the device"
                yield Finding("torch-for-other-gpus", "error", gpu.label, message, f"install a torch {lacks}")
                return


def _lacks(cuda: tuple[int, ...], capability: tuple[int, int] | None) -> str:
    """Which torch would have code for such a card; "" where this one has. pytorch's RELEASE.md, support matrix, and
    dev-discuss.pytorch.org/t/3128: Maxwell and Pascal end with CUDA 12.6 builds, Volta before CUDA 13; Hopper begins
    with 11.8, Blackwell with 12.8."""
    if capability is None:
        return ""
    if capability[0] >= 10 and cuda < (12, 8):
        return "for CUDA 12.8 or later (cu128)"
    if capability[0] == 9 and cuda < (11, 8):
        return "for CUDA 11.8 or later"
    if (capability < (7, 0) and cuda >= (12, 8)) or (capability < (7, 5) and cuda >= (13,)):
        return "for CUDA 12.6 (cu126)"
    return ""
