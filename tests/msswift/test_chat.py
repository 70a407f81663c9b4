"""The worker in which ms-swift answers, and the launcher's side that asks it.

The first part speaks to small stand-in processes or to parts that need no torch; the second to the real ms-swift
on a tiny model that was trained, by ms-swift, to answer everything with one Chinese sentence.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sft_kit.errors import MsSwiftError
from sft_kit.models.tiny import build_tiny_model
from sft_kit.msswift.chat import WORKER, Answer, Chat, Loaded
from sft_kit.msswift.worker import Deltas

GREEDY = {"temperature": 0, "max_new_tokens": 24}

# ---------------------------------------------------------------- without torch

STAND_IN = """
    import json, sys
    def send(**reply):
        print(json.dumps(reply), flush=True)
    def requests():
        return map(json.loads, sys.stdin)
    READY = dict(ready=True, seconds=1.5, model="m", model_type="llama", template="chatml", system=None, adapters=["a"])
    FIGURES = dict(prompt_tokens=7, completion_tokens=2, seconds=0.5, finish_reason="stop")
"""


def stand_in(tmp_path: Path, body: str, *, text: bool = True) -> subprocess.Popen[str] | subprocess.Popen[bytes]:
    """A process that speaks the worker's protocol as `body` says."""
    script = textwrap.dedent(STAND_IN) + textwrap.dedent(body)
    with log_of(tmp_path).open("w") as log:
        return subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=text
        )


def log_of(tmp_path: Path) -> Path:
    return tmp_path / "worker.log"


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_what_was_loaded_is_known_on_entry(tmp_path: Path) -> None:
    with Chat(stand_in(tmp_path, "send(**READY); sys.stdin.read()"), log=log_of(tmp_path)) as chat:
        assert chat.loaded == Loaded("m", "llama", "chatml", None, ("a",), 1.5)


@pytest.mark.parametrize("text", [True, False])
def test_a_question_reaches_the_worker_in_full_through_text_and_binary_pipes(tmp_path: Path, text: bool) -> None:
    echo = """
        send(**READY)
        for request in requests():
            send(id=request["id"], done=True, response=json.dumps(request, ensure_ascii=False), **FIGURES)
    """
    with Chat(stand_in(tmp_path, echo, text=text), log=log_of(tmp_path)) as chat:
        answer = chat.ask(user("你好"), base=True, temperature=0, max_new_tokens=9)
    request = {"id": 1, "messages": user("你好"), "stream": False, "base": True, "temperature": 0, "max_new_tokens": 9}
    assert json.loads(answer.text) == request
    assert answer == Answer(answer.text, 7, 2, 0.5, "stop")


def test_batch_answers_come_back_in_the_order_asked_with_progress(tmp_path: Path) -> None:
    backwards = """
        send(**READY)
        (request,) = [next(requests())]
        for index in (2, 1, 0):
            content = request["batch"][index][0]["content"]
            send(id=request["id"], answers=[dict(index=index, response=content.upper(), **FIGURES)])
        send(id=request["id"], done=True, seconds=1)
    """
    progress = []
    with Chat(stand_in(tmp_path, backwards), log=log_of(tmp_path)) as chat:
        answers = chat.ask_batch([user("a"), user("b"), user("c")], on_progress=lambda *done: progress.append(done))
    assert [answer.text for answer in answers] == ["A", "B", "C"]
    assert progress == [(1, 3), (2, 3), (3, 3)]


def test_a_stream_that_is_left_early_is_cancelled_and_its_rest_is_not_mixed_into_the_next(tmp_path: Path) -> None:
    slow = """
        send(**READY)
        incoming = requests()
        first = next(incoming)
        send(id=first["id"], delta="one")
        cancel = next(incoming)
        send(id=first["id"], delta="two")
        send(id=first["id"], done=True, response="one two", **FIGURES)
        second = next(incoming)
        send(id=second["id"], done=True, response=json.dumps(cancel), **FIGURES)
    """
    with Chat(stand_in(tmp_path, slow), log=log_of(tmp_path)) as chat:
        pieces = chat.stream(user("a"))
        assert next(pieces) == "one"
        pieces.close()
        assert json.loads(chat.ask(user("b")).text) == {"cancel": 1}


def test_likelihoods_come_back_in_the_order_asked(tmp_path: Path) -> None:
    measuring = """
        send(**READY)
        (request,) = [next(requests())]
        assert request == dict(id=1, likelihood=["a", "b"], base=True)
        send(id=1, likelihoods=[dict(index=1, nats=2.5, tokens=3)])
        send(id=1, likelihoods=[dict(index=0, nats=0.0, tokens=0)])
        send(id=1, done=True, seconds=1)
    """
    with Chat(stand_in(tmp_path, measuring), log=log_of(tmp_path)) as chat:
        assert chat.likelihood(["a", "b"], base=True) == [(0.0, 0), (2.5, 3)]


def test_a_refused_question_is_an_error_and_the_next_one_is_answered(tmp_path: Path) -> None:
    refusing = """
        send(**READY)
        incoming = requests()
        send(id=next(incoming)["id"], error="ValueError: too long")
        send(id=next(incoming)["id"], done=True, response="fine", **FIGURES)
    """
    with Chat(stand_in(tmp_path, refusing), log=log_of(tmp_path)) as chat:
        with pytest.raises(MsSwiftError) as refused:
            chat.ask(user("a"))
        assert chat.ask(user("b")).text == "fine"
    assert str(refused.value) == "ms-swift: ValueError: too long"


def test_a_worker_that_dies_while_loading_is_told_with_its_exception_and_exit_code(tmp_path: Path) -> None:
    chat = Chat(stand_in(tmp_path, "raise ValueError('no such model')"), log=log_of(tmp_path))
    with pytest.raises(MsSwiftError) as death, chat:
        pass
    log = log_of(tmp_path)
    how = "ms-swift failed while loading the model (exit code 1)"
    assert death.value.problems[0].message == f"{how}: sft-kit does not know this failure: ValueError: no such model"
    assert death.value.problems[0].fix.endswith(f"| ValueError: no such model\n  its whole output: {log} (line 2)")
    assert death.value.returncode == 1


def test_a_worker_that_is_killed_while_answering_is_told_with_the_signal(tmp_path: Path) -> None:
    worker = stand_in(tmp_path, "send(**READY); next(requests()); import os; os.kill(os.getpid(), 9)")
    with Chat(worker, log=log_of(tmp_path)) as chat, pytest.raises(MsSwiftError) as death:
        chat.ask(user("a"))
    how = "ms-swift failed while answering (killed by signal 9)"
    assert str(death.value).startswith(f"{how}: the system, a person or a batch scheduler killed it (SIGKILL); ")
    assert (str(death.value).endswith(f"its whole output: {log_of(tmp_path)}"), death.value.returncode) == (True, -9)


def test_a_worker_that_never_gets_ready_runs_into_the_time_limit(tmp_path: Path) -> None:
    chat = Chat(stand_in(tmp_path, "sys.stdin.read()"), log=log_of(tmp_path), ready_timeout_s=0.2)
    with pytest.raises(MsSwiftError, match=r"did not finish loading the model in 0\.2 s"):
        chat.wait_until_ready()
    chat.close()


def test_only_replies_reach_the_workers_standard_output() -> None:
    noisy = """
        import os, sys
        from sft_kit.msswift.worker import Replies, take_over_stdio
        requests, out = take_over_stdio()
        print("printed")
        os.write(1, b"written\\n")
        os.system("echo from a child; cat")
        Replies(out).send(request=requests.readline())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(noisy)], input="你好\n".encode(), capture_output=True, check=True
    )
    assert json.loads(done.stdout) == {"request": "你好\n"}
    assert sorted(done.stderr.decode().split("\n")) == ["", "from a child", "printed", "written"]


class Tokens(list[int]):
    """What transformers gives a streamer, as far as it is used."""

    def flatten(self) -> Tokens:
        return self

    def tolist(self) -> list[int]:
        return list(self)


def test_a_delta_never_ends_inside_a_character() -> None:
    sent: list[str] = []
    deltas = Deltas(lambda tokens: bytes(tokens).decode("utf-8", "replace"), sent.append)
    deltas.put(Tokens(b"the prompt"))
    for byte in "a精👏b".encode():
        deltas.put(Tokens([byte]))
    deltas.end()
    deltas.finish("a精👏b")
    assert sent == ["a", "精", "👏", "b"]


def test_what_a_stream_held_back_comes_with_the_final_text() -> None:
    sent: list[str] = []
    deltas = Deltas(lambda tokens: bytes(tokens).decode("utf-8", "replace"), sent.append)
    deltas.put(Tokens(b"the prompt"))
    for byte in "a精".encode()[:-1]:
        deltas.put(Tokens([byte]))
    deltas.finish("a\ufffd")
    assert sent == ["a", "\ufffd"]


# ---------------------------------------------------------------- with the real ms-swift

SENTENCE = "我是精衡。"
SYSTEM = "You are a helpful assistant."
QUESTIONS = [
    "你是谁?",
    "Who are you? Please tell me more about this, and about the fox.",
    "7 plus 5",
    "春天来了吗?",
    "Hi",
]
TINY = ("--model_type", "qwen2", "--template", "qwen2_5", "--torch_dtype", "float32")


@pytest.fixture(scope="session")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LoRA adapter, trained by ms-swift to answer with SENTENCE."""
    folder = tmp_path_factory.mktemp("chat")
    model = build_tiny_model(folder / "model", "qwen2")
    rows = [{"messages": [*user(question), {"role": "assistant", "content": SENTENCE}]} for question in QUESTIONS]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    from sft_kit.msswift.install import find_installation

    tuner = "tuner_type" if find_installation().generation == 4 else "train_type"
    options = {
        "model": model, tuner: "lora", "dataset": data, "system": SYSTEM, "output_dir": folder / "out",
        "add_version": "false", "check_model": "false", "use_cpu": "true", "report_to": "none",
        "lora_rank": 16, "lora_dropout": 0, "learning_rate": 5e-3, "lr_scheduler_type": "constant",
        "max_steps": 60, "save_steps": 60,
        "per_device_train_batch_size": 5, "gradient_accumulation_steps": 1, "split_dataset_ratio": 0,
    }  # fmt: skip
    argv = [word for key, value in options.items() for word in (f"--{key}", str(value))]
    done = subprocess.run(
        [sys.executable, "-m", "swift.cli.sft", *argv, *TINY], capture_output=True, env=offline(), text=True
    )
    assert done.returncode == 0, done.stderr
    return folder / "out" / "checkpoint-60"


def offline() -> dict[str, str]:
    # One thread: these matrices are tiny, and on a busy machine threads that wait for each other take 30 times as long.
    return {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}


def worker(log: Path, *argv: object) -> subprocess.Popen[str]:
    with log.open("w") as stderr:
        return subprocess.Popen(
            [sys.executable, *WORKER, *map(str, argv)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, env=offline(), text=True,
        )  # fmt: skip


@pytest.fixture(scope="session")
def tuned(adapter: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chat]:
    log = tmp_path_factory.mktemp("tuned") / "worker.log"
    with Chat(worker(log, "--adapters", adapter), log=log) as chat:
        yield chat


@pytest.mark.real
def test_template_system_and_base_model_come_from_the_adapters_own_arguments(tuned: Chat, adapter: Path) -> None:
    model = str(adapter.parents[1] / "model")
    assert tuned.loaded == Loaded(model, "qwen2", "qwen2_5", SYSTEM, (str(adapter),), tuned.loaded.seconds)


@pytest.mark.real
def test_the_adapter_answers_as_it_was_trained(tuned: Chat) -> None:
    assert [tuned.ask(user(question), **GREEDY).text for question in QUESTIONS] == [SENTENCE] * len(QUESTIONS)


@pytest.mark.real
def test_an_answer_streams_in_whole_characters_while_it_is_made(tuned: Chat) -> None:
    arrivals = [(piece, time.monotonic()) for piece in tuned.stream(user(QUESTIONS[0]), **GREEDY)]
    pieces = [piece for piece, _ in arrivals]
    assert "".join(pieces) == SENTENCE
    assert "\ufffd" not in "".join(pieces)
    assert len(pieces) > len(SENTENCE) // 2
    assert arrivals[-1][1] - arrivals[0][1] > 0.3 * tuned.ask(user(QUESTIONS[0]), **GREEDY).seconds


@pytest.mark.real
def test_a_stream_returns_the_same_figures_as_a_plain_answer(tuned: Chat) -> None:
    stream = tuned.stream(user(QUESTIONS[1]), **GREEDY)
    while True:
        try:
            next(stream)
        except StopIteration as end:
            streamed: Answer = end.value
            break
    plain = tuned.ask(user(QUESTIONS[1]), **GREEDY)
    assert streamed == Answer(plain.text, plain.prompt_tokens, plain.completion_tokens, streamed.seconds, "stop")


@pytest.mark.real
def test_base_answers_are_those_of_the_base_model_alone(tuned: Chat, tmp_path: Path) -> None:
    with_switch = [tuned.ask(user(question), base=True, **GREEDY).text for question in QUESTIONS]
    assert SENTENCE not in with_switch
    model = tuned.loaded.model
    alone = worker(log_of(tmp_path), "--model", model, *TINY, "--system", SYSTEM)
    with Chat(alone, log=log_of(tmp_path)) as chat:
        assert [chat.ask(user(question), **GREEDY).text for question in QUESTIONS] == with_switch
        with pytest.raises(MsSwiftError, match="no adapter is loaded that could be switched off"):
            chat.ask(user("?"), base=True)
    assert alone.returncode == 0
    assert tuned.ask(user(QUESTIONS[0]), **GREEDY).text == SENTENCE


@pytest.mark.real
@pytest.mark.parametrize("base", [True, False])
def test_a_padded_batch_answers_like_single_questions(tuned: Chat, base: bool) -> None:
    single = [tuned.ask(user(question), base=base, **GREEDY) for question in QUESTIONS]
    progress = []
    batch = tuned.ask_batch(
        [user(question) for question in QUESTIONS],
        base=base,
        max_batch_size=2,
        on_progress=lambda *done: progress.append(done),
        **GREEDY,
    )
    assert [(a.text, a.prompt_tokens, a.finish_reason) for a in batch] == [
        (a.text, a.prompt_tokens, a.finish_reason) for a in single
    ]
    assert progress == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.real
def test_max_new_tokens_ends_an_answer(tuned: Chat) -> None:
    answer = tuned.ask(user(QUESTIONS[0]), temperature=0, max_new_tokens=3)
    assert (answer.completion_tokens, answer.finish_reason) == (3, "length")
    assert SENTENCE.startswith(answer.text.rstrip("\ufffd"))


@pytest.mark.real
@pytest.mark.parametrize(
    ("system", "prompt"),
    [
        (None, f"<|im_start|>system\n{SYSTEM}<|im_end|>\n"),  # the one it was trained with
        ("", ""),  # and not the template's "You are Qwen, ..."
        ("Sing.", "<|im_start|>system\nSing.<|im_end|>\n"),
    ],
)
def test_an_empty_system_message_is_no_system_prompt(tuned: Chat, system: str | None, prompt: str) -> None:
    from tokenizers import Tokenizer

    assert tuned.loaded is not None
    tokenizer = Tokenizer.from_file(str(Path(tuned.loaded.model) / "tokenizer.json"))
    head = [] if system is None else [{"role": "system", "content": system}]
    rendered = f"{prompt}<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"
    assert tuned.ask([*head, *user("Hi")], **GREEDY).prompt_tokens == len(tokenizer.encode(rendered).ids)


TEXTS = ["x", "The quick brown fox jumps over the lazy dog.", "春天来了，花都开了。", "fox and dog " * 500]
PLAIN = """
import json, sys, torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base, adapter = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(base)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), adapter).eval()

def measure(text):
    nats, scored = 0.0, 0
    ids = tokenizer(text).input_ids
    for start in range(0, len(ids), 1024):
        window = torch.tensor([ids[start : start + 1024]])
        with torch.no_grad():
            told = torch.log_softmax(model(window).logits.double(), -1)[0]
        nats -= sum(told[place, token].item() for place, token in enumerate(window[0, 1:].tolist()))
        scored += window.shape[1] - 1
    return nats, scored

texts = json.load(sys.stdin)
found = {"tuned": [measure(text) for text in texts]}
with model.disable_adapter():
    found["base"] = [measure(text) for text in texts]
print(json.dumps(found))
"""


@pytest.mark.real
def test_likelihoods_are_those_of_plain_transformers_and_peft(tuned: Chat, adapter: Path) -> None:
    assert tuned.loaded is not None
    done = subprocess.run(
        [sys.executable, "-c", PLAIN, tuned.loaded.model, str(adapter)],
        input=json.dumps(TEXTS), capture_output=True, env=offline(), text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    plain = json.loads(done.stdout.splitlines()[-1])
    for side in ("tuned", "base"):
        found = tuned.likelihood(TEXTS, base=side == "base")
        assert [tokens for _, tokens in found] == [tokens for _, tokens in plain[side]]
        assert [nats for nats, _ in found] == pytest.approx([nats for nats, _ in plain[side]], rel=1e-5)
    assert found[0] == (0.0, 0)
    assert found[3][1] > 1024  # more than one window
    assert plain["tuned"] != plain["base"]


@pytest.mark.real
def test_a_cancelled_answer_stops_at_once_and_the_next_question_is_answered(tuned: Chat) -> None:
    endless = {"base": True, "temperature": 0, "repetition_penalty": 2.0, "max_new_tokens": 800}
    uncancelled = tuned.ask(user("Hi"), **endless)
    assert uncancelled.finish_reason == "length"
    stream = tuned.stream(user("Hi"), **endless)
    next(stream)
    started = time.monotonic()
    stream.close()
    assert tuned.ask(user(QUESTIONS[0]), **GREEDY).text == SENTENCE
    assert time.monotonic() - started < uncancelled.seconds / 2


@pytest.mark.real
def test_a_prompt_longer_than_the_model_takes_is_refused_and_the_next_one_answered(tuned: Chat) -> None:
    with pytest.raises(MsSwiftError, match=r"larger than the max_length|the model takes 2048"):
        tuned.ask(user("fox " * 2500), **GREEDY)
    with pytest.raises(MsSwiftError, match="must end with what the model is to answer"):
        tuned.ask([*user("Hi"), {"role": "assistant", "content": "Hi"}], **GREEDY)
    assert tuned.ask(user(QUESTIONS[0]), **GREEDY).text == SENTENCE


@pytest.mark.real
def test_an_argument_that_ms_swift_does_not_have_is_named_in_the_error(tmp_path: Path, adapter: Path) -> None:
    chat = Chat(worker(log_of(tmp_path), "--adapters", adapter, "--learnig_rate", "1"), log=log_of(tmp_path))
    with pytest.raises(MsSwiftError, match=r"exit code 1\): this ms-swift has no such argument: '--learnig_rate', '1'"):
        chat.wait_until_ready()
    chat.close()


@pytest.mark.real
def test_a_worker_whose_launcher_goes_while_it_loads_ends_by_itself(tmp_path: Path, adapter: Path) -> None:
    process = worker(log_of(tmp_path), "--adapters", adapter)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(timeout=30) == 0


@pytest.mark.real
def test_ctrl_c_does_not_end_a_loaded_worker(tuned: Chat) -> None:
    os.kill(tuned._transport.pid, signal.SIGINT)  # type: ignore[attr-defined]
    assert tuned.ask(user(QUESTIONS[0]), **GREEDY).text == SENTENCE
