"""The config that a run keeps repeats it, and holds no secret."""

from __future__ import annotations

from pathlib import Path

import yaml

from sft_kit.config.load import load_config, resolved_yaml
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.keys import SwiftKeys
from sft_kit.run.saved_config import portable

CONFIG = """\
model: Qwen/Qwen2.5-7B-Instruct
output_dir: /runs
lazy_tokenize: true
include_num_input_tokens_seen: true
max_new_tokens: 9
hub_token: s3cret-1
swanlab_token: s3cret-2
swanlab_secret: s3cret-3
swanlab_webhook_url: https://hook/s3cret-4
model_kwargs: {fps: 2, video_api_key: s3cret-5}
hub_model_id: https://me:s3cret-6@host/name
launch:
  env:
    A: b
    IMAGE_MAX_TOKEN_NUM: '1024'
    TOKENIZERS_PARALLELISM: 'false'
    HF_TOKEN: s3cret-7
    HTTPS_PROXY: http://me:s3cret-8@proxy:1
"""


def test_secrets_are_left_out_and_all_else_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(CONFIG, encoding="utf-8")
    config = load_config(path, rules=SwiftKeys(find_installation())).config
    assert yaml.safe_load(resolved_yaml(portable(config))) == {
        "model": "Qwen/Qwen2.5-7B-Instruct",
        "output_dir": "/runs",
        "lazy_tokenize": True,
        "include_num_input_tokens_seen": True,
        "max_new_tokens": 9,
        "model_kwargs": {"fps": 2},
        "hub_model_id": "https://***@host/name",
        "launch": {"env": {"A": "b", "IMAGE_MAX_TOKEN_NUM": "1024", "TOKENIZERS_PARALLELISM": "false"}},
    }
