"""What reads a run directory takes anything that can lie in one (bytes of any kind: tests/hostile/test_files.py)."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sft_kit.errors import UsageError
from sft_kit.msswift.checkpoints import checkpoints, kind_of, trainer_state, why_not_resumable
from sft_kit.run.directory import Manifest, RunDirectory, create_run
from sft_kit.run.listing import show_run, show_runs
from sft_kit.run.results import read_with_results
from sft_kit.run.runs import list_runs
from tests.fuzz.machine import show_quietly

ANY = settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
TEXT = st.text(st.characters(), max_size=8)  # lone surrogates too
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=5,
)
FIELDS = sorted(set(Manifest.__dataclass_fields__) - {"schema", "status"})
WHOLE = Manifest("failed", "2026-01-01T00:00:00+00:00", "c.yaml")


def run_in(folder: Path) -> RunDirectory:
    found = list_runs(folder)
    if found:
        return found[0]
    run = create_run(folder, versioned=True)
    run.write(WHOLE)
    return run


@ANY
@given(st.dictionaries(st.sampled_from(FIELDS), JSON, min_size=1, max_size=3))
def test_a_manifest_with_any_value_in_any_field_is_shown_or_called_damaged(tmp_path: Path, odd: dict[str, Any]) -> None:
    run = run_in(tmp_path)
    values = {"status": "failed", "schema": 1, "created": "", "config": "", **odd}
    run.manifest_path.write_text(json.dumps(values), encoding="utf-8")
    for as_json in (True, False):
        show_quietly(show_run, run, as_json=as_json)
        show_quietly(show_runs, [run], tmp_path, as_json=as_json)
    assert list_runs(tmp_path) == [run]
    try:
        read_with_results(run)
    except UsageError as error:
        assert "is damaged" in str(error) or "is not a manifest" in str(error)


def test_a_value_of_another_kind_is_named(tmp_path: Path) -> None:
    run = run_in(tmp_path)
    odd = {"data": [1], "steps": "3", "seconds": {"train": None}, "versions": [], "created": "", "config": ""}
    run.manifest_path.write_text(json.dumps({"status": "failed", "schema": 1, **odd}), encoding="utf-8")
    try:
        run.read()
    except UsageError as error:
        assert str(error) == (
            f"{run.manifest_path}: is damaged: of another kind than sft-kit writes: versions, data, steps, seconds"
        )
    else:
        raise AssertionError("it was read")


@ANY
@given(TEXT, TEXT, st.floats())
def test_any_text_comes_back_from_a_manifest(tmp_path: Path, model: str, name: str, loss: float) -> None:
    run = run_in(tmp_path)
    manifest = replace(WHOLE, model=model, argv=(name,), scores={name: model}, final_loss=loss)
    run.write(manifest)
    finite = loss if loss - loss == 0 else None
    assert run.read() == replace(manifest, final_loss=finite)


NAMES = st.sampled_from([
    "checkpoint-1", "checkpoint-2", "checkpoint-02", "checkpoint-", "checkpoint-1x", "last-checkpoint", "args.json",
    "adapter_config.json", "adapter_model.safetensors", "config.json", "model.safetensors", "trainer_state.json",
    "model.safetensors.index.json", "optimizer.pt", "scheduler.pt", "rng_state.pth", "latest", "pytorch_model.bin",
])  # fmt: skip
CONTENT = st.one_of(
    st.binary(max_size=40),
    JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([
        b"", b"{}", b"[]", b"\x02" + bytes(7) + b"{}", b"\xff" * 9, b"PK\x05\x06" + bytes(18),
        b'{"global_step": 1, "max_steps": 2}', b'{"global_step": "1"}', b'{"weight_map": {"a": "../../x"}}',
        b'{"weight_map": [1]}', b'{"local_world_size": 1e99, "save_only_model": 1}',
    ]),
)  # fmt: skip


@ANY
@given(st.lists(st.tuples(st.lists(NAMES, min_size=1, max_size=2), st.one_of(st.none(), CONTENT)), max_size=12))
def test_any_files_are_checkpoints_or_none(tmp_path: Path, entries: list[tuple[list[str], bytes | None]]) -> None:
    folder = tmp_path / str(len(list(tmp_path.iterdir())))
    folder.mkdir()
    for names, content in entries:
        path = folder.joinpath(*names)
        if path.exists() or (not path.parent.exists() and path.parent.parent != folder) or path.parent.is_file():
            continue
        path.parent.mkdir(exist_ok=True)
        if content is None:
            path.symlink_to("/nowhere")
        else:
            path.write_bytes(content)
    for one in checkpoints(folder):
        assert (one.complete, why_not_resumable(one.path)) != (False, "")
        trainer_state(one.path)
        kind_of(one.path)
    kind_of(folder)
