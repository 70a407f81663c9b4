"""What counts as a secret, and that it is hidden wherever it is shown or saved."""

from __future__ import annotations

import pytest

from sft_kit.secrets import hide_in_argv, hide_in_env, is_secret


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("MODELSCOPE_API_TOKEN", True),
        ("hub_token", True),
        ("swanlab_secret", True),
        ("WANDB_API_KEY", True),
        ("DB_PASSWORD", True),
        ("max_new_tokens", False),
        ("new_special_tokens", False),
        ("keyboard", False),
        ("USE_HF", False),
    ],
)
def test_secrets_are_told_by_their_names(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


def test_a_password_in_a_proxy_is_hidden_and_the_rest_of_it_shown() -> None:
    env = {"HTTPS_PROXY": "http://me:pw@proxy:3128", "HF_TOKEN": "hf_1", "USE_HF": "1"}
    assert hide_in_env(env) == {"HTTPS_PROXY": "http://***@proxy:3128", "HF_TOKEN": "***", "USE_HF": "1"}


def test_the_words_behind_a_secret_flag_are_hidden() -> None:
    argv = ["python", "sft.py", "--swanlab_token", "abc", "--hub_token=abc", "--dataset", "a", "b"]
    hidden = ("python", "sft.py", "--swanlab_token", "***", "--hub_token=***", "--dataset", "a", "b")
    assert hide_in_argv(argv) == hidden
