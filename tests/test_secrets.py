"""What counts as a secret, and that it is hidden wherever it is shown or saved."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sft_kit import cli
from sft_kit.errors import Problem
from sft_kit.findings import Finding
from sft_kit.secrets import blot, hide, hide_in, hide_in_argv, hide_in_env, is_secret, known_values, remember

KEY = "hf_" + "aB3dE5gH7j" * 4  # of the shape of a token; nobody's


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("HF_TOKEN", True),
        ("MODELSCOPE_API_TOKEN", True),
        ("hub_token", True),
        ("push_to_hub_token", True),
        ("swanlab_secret", True),
        ("swanlab_webhook_url", True),
        ("api_key", True),
        ("WANDB_API_KEY", True),
        ("AWS_ACCESS_KEY_ID", True),
        ("DB_PASSWORD", True),
        ("MYSQL_PWD", True),
        ("PWD", False),
        ("max_new_tokens", False),
        ("new_special_tokens", False),
        ("pad_token", False),
        ("lazy_tokenize", False),
        ("include_tokens_per_second", False),
        ("include_num_input_tokens_seen", False),
        ("vera_projection_prng_key", False),
        ("TOKENIZERS_PARALLELISM", False),
        ("IMAGE_MAX_TOKEN_NUM", False),
        ("GENERATIVE_RERANKER_POSITIVE_TOKEN", False),
        ("keyboard", False),
        ("USE_HF", False),
    ],
)
def test_secrets_are_told_by_their_names(name: str, secret: bool) -> None:
    assert is_secret(name) is secret


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"a key {KEY} in a sentence", "a key *** in a sentence"),
        ("RunConfig(hub_token='s3', model='m')", "RunConfig(hub_token='***', model='m')"),
        ('{"api_key": "s 3", "n": 1}', '{"api_key": "***", "n": 1}'),
        ('"{\\"api_key\\": \\"s3\\"}"', '"{\\"api_key\\": \\"***\\"}"'),
        ("HF_TOKEN=s3 python sft.py", "HF_TOKEN=*** python sft.py"),
        ("write `hub_token: s3cret-of-9`", "write `hub_token: ***`"),
        ("https://me:pw@host/x", "https://***@host/x"),
        (
            "https://h/x?Expires=1&X-Amz-Signature=ab&token=c#d",
            "https://h/x?Expires=1&X-Amz-Signature=***&token=***#d",
        ),
        ("hub_token: must be text, not 5", "hub_token: must be text, not 5"),
        ("set HF_TOKEN in the shell's environment", "set HF_TOKEN in the shell's environment"),
        ("pad_token='<|im_end|>'", "pad_token='<|im_end|>'"),
        ("/data/sk-image-classification-set/v2", "/data/sk-image-classification-set/v2"),
    ],
)
def test_secrets_are_hidden_in_a_text_and_nothing_else_is(text: str, shown: str) -> None:
    assert hide(text) == shown
    assert hide(shown) == shown


def test_a_value_of_the_environment_is_hidden_wherever_it_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "of-no-known-shape")
    assert hide("Invalid header value b'Bearer of-no-known-shape\\n'") == "Invalid header value b'Bearer ***\\n'"


def test_a_value_once_read_from_a_config_is_hidden_from_then_on() -> None:
    remember({"hub_token": "only-in-a-config", "launch": {"env": {"A_SECRET": 1234567890, "A": "innocent-value"}}})
    assert hide("only-in-a-config 1234567890 innocent-value") == "*** *** innocent-value"


def test_problems_and_findings_hold_no_secret() -> None:
    texts = (f"x/{KEY}", f"not {KEY}", f"remove {KEY}")
    assert str(Problem(*texts)) == "x/***: not ***; remove ***"
    finding = Finding("secret", "error", *texts)
    assert (finding.place, finding.message, finding.fix) == ("x/***", "not ***", "remove ***")


def test_a_bugs_traceback_holds_no_secret(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("HF_TOKEN", "of-no-known-shape")

    def broken() -> None:
        raise ValueError(f"{KEY} of-no-known-shape hub_token='s3'")

    monkeypatch.setattr(cli, "app", lambda **_: broken())
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr().err
    assert ended.value.code == 1
    assert "ValueError: *** *** hub_token='***'" in shown
    assert KEY not in shown


def test_the_password_of_a_proxy_is_known_apart_from_its_url() -> None:
    environ = {"HTTPS_PROXY": "http://me:of-a-proxy@proxy:3128", "REPO": "ssh://git@host", "A": "x@y"}
    assert "me:of-a-proxy" in known_values(environ) and "git" not in known_values(environ)


def test_a_password_in_a_proxy_is_hidden_and_the_rest_of_it_shown() -> None:
    env = {"HTTPS_PROXY": "http://me:pw@proxy:3128", "HF_TOKEN": "hf_1", "USE_HF": "1"}
    assert hide_in_env(env) == {"HTTPS_PROXY": "http://***@proxy:3128", "HF_TOKEN": "***", "USE_HF": "1"}


def test_the_words_behind_a_secret_flag_are_hidden() -> None:
    argv = ["python", "sft.py", "--swanlab_token", "abc", "--hub_token=abc", "--dataset", "a", "b"]
    hidden = ("python", "sft.py", "--swanlab_token", "***", "--hub_token=***", "--dataset", "a", "b")
    assert hide_in_argv(argv) == hidden
    assert hide_in_argv(["--model_kwargs", '{"api_key": "s3"}']) == ("--model_kwargs", '{"api_key": "***"}')


def test_values_of_json_are_hidden_by_name_and_by_shape() -> None:
    value = {"hub_token": "s3", "argv": ["x", KEY], "steps": 3, "hub": {"api_key": None, "user": "me"}}
    hidden = {"hub_token": "***", "argv": ["x", "***"], "steps": 3, "hub": {"api_key": None, "user": "me"}}
    assert hide_in(value) == hidden
    assert json.loads(json.dumps(hidden)) == hidden


@given(st.text(), st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), min_size=8), st.text())
def test_a_known_value_is_gone_from_any_text(before: str, secret: str, after: str) -> None:
    environ = {"HF_TOKEN": secret}
    assert secret in known_values(environ)
    text = f"{before}{secret}{after}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_TOKEN", secret)
        assert secret.strip("*") == "" or secret not in hide(text)


@given(st.lists(st.sampled_from([b"x", b"\n", b"s3cret-1", b"longer-s3cret-1", b"\xff" * 5000]), max_size=40))
def test_a_file_is_blotted_in_place(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.mktemp("blot") / "log"
    path.write_bytes(b"".join(pieces))
    found = blot(path, ["s3cret-1", "longer-s3cret-1", "short"])
    assert found == sum(b"s3cret" in piece for piece in pieces)
    assert path.read_bytes() == b"".join(b"*" * len(piece) if b"s3cret" in piece else piece for piece in pieces)


def test_a_secret_across_two_blocks_is_blotted(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for cut in (1, 4, 7):
        path.write_bytes(b"-" * ((1 << 20) - cut) + b"s3cret-1" + b"-" * 100)
        assert blot(path, ["s3cret-1"]) == 1
        assert b"s3cret" not in path.read_bytes() and path.stat().st_size == (1 << 20) - cut + 108


def test_a_log_that_is_not_there_is_left_alone(tmp_path: Path) -> None:
    assert blot(tmp_path / "none", ["s3cret-1"]) == 0


LONG = 200_000
LONG_TEXTS = {
    "a word": "my token: x " + "a" * LONG,
    "a word of dashes": "token: " + "a-" * (LONG // 2),
    "colons": "token " + "a:" * (LONG // 2),
    "an address": "token ://" + "a" * LONG,
    "addresses": "token " + "a://b" * (LONG // 5),
    "quotes": "token='" + "\\'" * (LONG // 2),
    "names": "a_token " * (LONG // 8),
    "keys": "eyJ" * (LONG // 3) + " sk-" + "a" * LONG,
}


@pytest.mark.parametrize("name", LONG_TEXTS)
def test_a_long_text_is_read_once(name: str) -> None:
    began = time.process_time()
    hide(LONG_TEXTS[name])
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["HF_SECRET", "PASSWD", "Passphrase", "credentials", "WEBHOOK", "api-key", "x_pass",
                                  "x_pwd", "private_key", "hub_token", "Authorization", "ACCESS_KEY"])  # fmt: skip
def test_every_name_of_a_secret_is_looked_for_in_a_text(name: str) -> None:
    assert hide(f"{name}=0123456789abcdef") == f"{name}=***"
