"""The config as it is saved with a run: it repeats the run from any directory, and holds no secret."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft_kit.config.schema import OwnKeys, RunConfig
from sft_kit.models.catalog import is_own_model
from sft_kit.msswift.dataset_syntax import parse_entry
from sft_kit.resources import user_path
from sft_kit.secrets import HIDDEN, hide_in, hide_in_env, is_secret

_PATHS = (
    "model",
    "output_dir",
    "dataset",
    "val_dataset",
    "adapters",
    "resume_from_checkpoint",
    "deepspeed",
    "cached_dataset",
    "cached_val_dataset",
    "custom_dataset_info",
    "custom_register_path",
    "external_plugins",
)


def portable(config: RunConfig) -> RunConfig:
    """`config` with local paths made absolute and with its tokens and secret variables left out."""
    given: dict[str, Any] = {**config.model_dump(), **(config.model_extra or {})}
    changes: dict[str, Any] = {key: _absolute(given[key]) for key in _PATHS if given.get(key)}
    changes["output_dir"] = str(user_path(config.output_dir).absolute())
    changes |= {key: _without_secrets(key, changes.get(key, given[key])) for key in given.keys() - OwnKeys}
    if config.model and is_own_model(config.model):
        changes["model"] = config.model
    if config.identity and config.identity.template:
        changes["identity"] = config.identity.model_copy(update={"template": _absolute(config.identity.template)})
    if config.eval.file:
        changes["eval"] = config.eval.model_copy(update={"file": _absolute(config.eval.file)})
    if hide_in_env(config.launch.env) != config.launch.env:
        hidden = hide_in_env(config.launch.env)
        env = {name: value for name, value in config.launch.env.items() if value == hidden[name]}
        changes["launch"] = config.launch.model_copy(update={"env": env})
    return config.model_copy(update=changes)


def _without_secrets(key: str, value: Any) -> Any:
    """None under a secret's key; else `value`, without the secrets of a mapping, and with those in texts hidden."""
    if is_secret(key):
        return None
    hidden = hide_in(value)
    if isinstance(value, Mapping):
        return {name: each for name, each in hidden.items() if each != HIDDEN or value[name] == HIDDEN}
    return hidden if hidden != value else value


def _absolute(value: Any) -> Any:
    """`value`, or each item of it, made absolute where it names something that is there; `#N` stays behind it."""
    if isinstance(value, list):
        return [_absolute(item) for item in value]
    if not isinstance(value, str):
        return value
    name = parse_entry(value).name
    path = user_path(name)
    return value.replace(name, str(path.absolute()), 1) if name and path.exists() else value
