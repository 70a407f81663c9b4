"""A pasted ms-swift command in the keys of a config: what it trains, what was changed, and what is no training."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from sft_kit.config.shell import read_script
from sft_kit.msswift.install import find_installation
from sft_kit.msswift.launchers import LeftOut
from sft_kit.msswift.model_types import model_types
from sft_kit.msswift.pasted import NotTraining, Training, model_of_2, read_pasted

HERE = find_installation()
SECRET = "a secret is not written into a file: set it in the environment"


@pytest.fixture(autouse=True)
def _empty_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # names are looked for here, as files


def pasted(text: str) -> list[Training | NotTraining]:
    return [read_pasted(command, HERE) for command in read_script(text, environ={}).commands]


def training(text: str) -> Training:
    (found,) = [one for one in pasted(text) if isinstance(one, Training)]
    return found


def values(text: str) -> dict[str, Any]:
    return {entry.key: entry.value for entry in training(text).entries}


def comments(text: str) -> dict[str, str]:
    return {entry.key: entry.comment for entry in training(text).entries if entry.comment}


def todos(text: str) -> dict[str, str]:
    return {entry.key: entry.todo for entry in training(text).entries if entry.todo}


# --- which command it is ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("start", "gpus", "env"),
    [
        ("swift sft", 1, {}),
        ("/opt/venv/bin/swift sft", 1, {}),
        ("python -m swift.cli.sft", 1, {}),
        ("python3.10 -u -m swift.cli.main sft", 1, {}),
        ("python /x/swift/cli/sft.py", 1, {}),
        ("python swift/cli/main.py sft", 1, {}),
        ("python examples/pytorch/llm/llm_sft.py", 1, {}),
        ("uv run swift sft", 1, {}),
        ("CUDA_VISIBLE_DEVICES=3 swift sft", 1, {"CUDA_VISIBLE_DEVICES": "3"}),
        ("CUDA_VISIBLE_DEVICES=0,1 swift sft", 1, {"CUDA_VISIBLE_DEVICES": "0,1"}),
        ("NPROC_PER_NODE=1 MASTER_PORT=29501 swift sft", 1, {}),
        ("NPROC_PER_NODE=2 NNODES=1 swift sft", 2, {}),
        ("torchrun --nproc_per_node=2 --standalone --master_port 29500 swift/cli/sft.py", 2, {"MASTER_PORT": "29500"}),
        ("torchrun --nproc-per-node 4 -m swift.cli.sft", 4, {}),
        ("python -m torch.distributed.run --nproc_per_node 2 llm_sft.py", 2, {}),
        ("accelerate launch --multi_gpu --num_processes 4 --num_machines 2 --machine_rank 0 swift/cli/sft.py", 1,
         {"NPROC_PER_NODE": "2", "NNODES": "2", "NODE_RANK": "0"}),
        ("deepspeed --include localhost:2,3 swift/cli/sft.py", 2, {"CUDA_VISIBLE_DEVICES": "2,3"}),
        ("deepspeed --num_gpus=2 llm_sft.py", 2, {}),
        ("NNODES=2 NODE_RANK=0 MASTER_ADDR=10.0.0.1 NPROC_PER_NODE=4 swift sft", 1,
         {"NNODES": "2", "NODE_RANK": "0", "MASTER_ADDR": "10.0.0.1", "NPROC_PER_NODE": "4"}),
    ],
)  # fmt: skip
def test_a_training_command_is_known_however_it_is_started(start: str, gpus: int, env: dict[str, str]) -> None:
    found = training(f"{start} --lora_rank 8")
    assert ({entry.key: entry.value for entry in found.entries}, found.gpus, found.env) == ({"lora_rank": 8}, gpus, env)


@pytest.mark.parametrize(
    ("command", "kind", "message"),
    [
        ("swift rlhf --rlhf_type dpo", "refused", "is preference or reinforcement training"),
        ("python llm_dpo.py", "refused", "is preference or reinforcement training"),
        ("megatron sft --x 1", "refused", "trains in Megatron's own format, which sft-kit does not"),
        ("torchrun swift/cli/_megatron/sft.py", "refused", "trains in Megatron's own format, which sft-kit does not"),
        ("llamafactory-cli train a.yaml", "refused", "is LLaMA-Factory, not ms-swift"),
        ("if true; then swift sft; fi", "refused", "stands inside if (line 1), which is not decided here"),
        ("swift infer --adapters x", "elsewhere", "`sft-kit infer --adapter latest` asks the trained model"),
        ("swift infer --model Qwen2.5-7B-Instruct", "elsewhere",
         "`sft-kit infer --model Qwen/Qwen2.5-7B-Instruct` asks the model"),
        ("swift export --merge_lora true", "elsewhere", "`sft-kit export --adapter latest` does it after training"),
        ("swift merge_lora --ckpt_dir x", "elsewhere", "`sft-kit export --adapter latest` does it after training"),
        ("swift web-ui", "elsewhere",
         "a config replaces the form; run `swift web-ui` itself if you want the page"),
        ("pip install ms-swift", "ignored", "is not done"),
        ("python train.py --x 1", "ignored", "is not done"),
        ("python -c 'import swift'", "ignored", "is not done"),
    ],
)  # fmt: skip
def test_what_is_no_training_says_what_it_is(command: str, kind: str, message: str) -> None:
    found = [one for one in pasted(command) if isinstance(one, NotTraining)][-1]
    assert (found.kind, found.message) == (kind, message)
    assert found.fix or kind != "refused"


@pytest.mark.parametrize(
    ("words", "generation", "why"),
    [
        ("--sft_type lora --train_type lora", "2.x", "--sft_type"),
        ("--model_type qwen2_5-7b-instruct", "2.x", "--model_type qwen2_5-7b-instruct"),
        ("--train_type lora", "3.x", "--train_type"),
        ("--tuner_type lora", "4.x", "--tuner_type"),
        ("--model_type qwen2_5 --lora_rank 8", "3.x or 4.x", "arguments that both have"),
    ],
)  # fmt: skip
def test_the_generation_is_seen_from_the_words(words: str, generation: str, why: str) -> None:
    found = training(f"swift sft {words}")
    assert (found.generation, found.why) == (generation, why)


# --- words and values ------------------------------------------------------------------------------------------------


def test_values_have_the_types_of_their_arguments() -> None:
    text = (
        "swift sft --model=x/y --dataset a.jsonl 'b c.jsonl#5' --lora_rank 8 --learning_rate 1e-4 --packing --strict "
        "True --system=--x --report_to wandb --max_grad_norm -1 --lr_scheduler_kwargs '{\"min_lr\": 1e-6}' "
        "--deepspeed zero2 --save_strategy no --model_name 7 --seed 08"
    )
    assert values(text) == {
        "model": "x/y", "dataset": ["a.jsonl", "b c.jsonl#5"], "lora_rank": 8, "learning_rate": 1e-4, "packing": True,
        "strict": True, "system": "--x", "report_to": "wandb", "max_grad_norm": -1,
        "lr_scheduler_kwargs": {"min_lr": 1e-6}, "deepspeed": "zero2", "save_strategy": "no", "model_name": "7",
        "seed": 8,
    }  # fmt: skip
    assert (comments(text), todos(text), training(text).left_out) == ({}, {}, ())


def test_a_text_that_begins_with_dashes_is_no_argument_where_argparse_takes_it_for_text() -> None:
    assert values("swift sft --system '--no=such thing' --run_name '-x y' --loss_scale=--a=b") == {
        "system": "--no=such thing", "run_name": "-x y", "loss_scale": "--a=b",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "key", "value", "comment"),
    [
        ("--train_type lora", "tuner_type", "lora", "was --train_type in 3.x"),
        ("--sft_type lora", "tuner_type", "lora", "was --sft_type in 2.x"),
        ("--evaluation_strategy steps", "eval_strategy", "steps", "was --evaluation_strategy"),
        ("--torch_dtype bf16", "torch_dtype", "bfloat16", "was bf16"),
        ("--dtype bf16", "torch_dtype", "bfloat16", "was --dtype in 2.x, bf16"),
        ("--lora_target_modules ALL", "target_modules", "all-linear", "was --lora_target_modules in 2.x, ALL"),
        ("--use_flash_attn true", "attn_impl", "flash_attn", "was --use_flash_attn true"),
        ("--lora_r 8", "lora_rank", 8, "was --lora_r, which ms-swift takes for it"),
        ("--lora-rank 8", "lora_rank", 8, ""),
        ("--no_load_from_cache_file", "load_from_cache_file", False, "was --no_load_from_cache_file"),
        ("--model Qwen2.5-7B-Instruct", "model", "Qwen/Qwen2.5-7B-Instruct",
         "was Qwen2.5-7B-Instruct: the hub needs the owner"),
        ("--model_id_or_path qwen/Qwen2.5-7B-Instruct", "model", "Qwen/Qwen2.5-7B-Instruct",
         "was --model_id_or_path in 2.x, qwen/Qwen2.5-7B-Instruct: its owner's name changed"),
        ("--sft_type lora --deepspeed ds_config/zero3.json", "deepspeed", "zero3",
         "was ds_config/zero3.json, a file of 2.x"),
        ("--sft_type lora --deepspeed default-zero2", "deepspeed", "zero2", "was default-zero2"),
        ("--dataset alpaca-zh#500", "dataset", "AI-ModelScope/alpaca-gpt4-data-zh#500", "was alpaca-zh#500 in 2.x"),
        ("--sft_type lora --dataset alpaca-zh,a.jsonl", "dataset", ["AI-ModelScope/alpaca-gpt4-data-zh", "a.jsonl"],
         "was alpaca-zh in 2.x"),
        ("--dataset a.jsonl --self_cognition_sample 500", "dataset", ["a.jsonl", "swift/self-cognition#500"],
         "self-cognition was --self_cognition_sample 500"),
        ("--dataset a.jsonl --train_dataset_sample 90", "dataset", "a.jsonl#90", "#90 was --train_dataset_sample"),
        ("--custom_train_dataset_path a.jsonl --dataset b.jsonl", "dataset", ["a.jsonl", "b.jsonl"],
         "was --custom_train_dataset_path in 2.x"),
        ("--model_type qwen2_5-7b-instruct", "model", "Qwen/Qwen2.5-7B-Instruct",
         "was --model_type qwen2_5-7b-instruct in 2.x"),
        ("--system You are a bot", "system", "You are a bot", "its quotes were missing"),
    ],
)  # fmt: skip
def test_what_is_called_otherwise_now_is_translated_and_said(words: str, key: str, value: object, comment: str) -> None:
    text = f"swift sft {words}"
    assert (values(text)[key], comments(text).get(key, "")) == (value, comment)


@pytest.mark.parametrize(
    ("words", "left_out"),
    [
        ("--hub_token hf_abc", LeftOut("--hub_token ***", f"{SECRET} (HF_TOKEN or MODELSCOPE_API_TOKEN)")),
        ("--swanlab_token=abc", LeftOut("--swanlab_token ***", f"{SECRET} (SWANLAB_API_KEY)")),
        ("--dtype AUTO", LeftOut("--dtype AUTO", "torch_dtype AUTO is what ms-swift does when it is left out")),
        ("--template_type AUTO", LeftOut("template AUTO", "AUTO is what happens without it; the model brings its own")),
        ("--template_type qwen1half", LeftOut("template qwen1half", "a name that is no more; the model brings its own",
                                              doubt=True)),
        ("--fsdp_num 2", LeftOut("--fsdp_num 2", "torchacc support was taken out of ms-swift", doubt=True)),
        ("--save_steps 5 --save_steps 10", LeftOut("--save_steps 5", "given again later, and the last one counts",
                                                   doubt=True)),
        ("--model a/b --model_type qwen1half-7b", LeftOut("--model_type qwen1half-7b",
         "no model type of the installed ms-swift; it is found from the model")),
        ("model=x", LeftOut("model=x", "a word that belongs to no argument", doubt=True)),
        ("--system hello ...", LeftOut("...", "the page left arguments out here", doubt=True)),
        ("--dataset", LeftOut("--dataset", "it has no value", doubt=True)),
        ("--- x", LeftOut("-- x", "is no argument", doubt=True)),
    ],
)  # fmt: skip
def test_what_is_not_carried_over_is_said_with_its_reason(words: str, left_out: LeftOut) -> None:
    assert training(f"swift sft {words}").left_out == (left_out,)


def test_the_modules_that_2_x_chose_by_default_are_a_doubt() -> None:
    found = training("swift sft --lora_target_modules DEFAULT --num_train_epochs 1 --dataset_test_ratio 0")
    assert [(left.shown, left.doubt) for left in found.left_out] == [("--lora_target_modules DEFAULT", True)]
    assert "target_modules: [q_proj, k_proj, v_proj]" in found.left_out[0].reason
    assert [entry.key for entry in found.entries] == ["num_train_epochs", "split_dataset_ratio"]


def test_defaults_of_2_x_that_train_otherwise_are_remarked() -> None:
    assert training("swift sft --sft_type lora --lora_target_modules ALL").remarks == (
        "num_train_epochs is not in the command: 2.x took 1, now it is 3",
        "split_dataset_ratio is not in the command: 2.x took 0.01, now it is 0",
    )
    assert training("swift sft --train_type lora").remarks == ()


@pytest.mark.parametrize(
    ("words", "key", "todo"),
    [
        ("--learnig_rate 1", "learnig_rate",
         f"ms-swift {HERE.version} has no such argument; did you mean learning_rate?"),
        ("--lr 1e-4", "lr", f"ms-swift {HERE.version} has no such argument; did you mean learning_rate?"),
        ("--lora_rank eight", "lora_rank", "takes a whole number, not 'eight'"),
        ("--lora_rank 8 16", "lora_rank", "takes one value, not 8 16"),
        ("--output_dir out/$(date)", "output_dir", "$(date) is not run; write the value"),
        ("--model '' --output_dir <where to>", "output_dir", "<where to> is a placeholder; write the value"),
        ("--model_type no-such-7b", "model",
         "2.x found the model by --model_type no-such-7b; write its hub id or directory"),
        ("--sft_type lora --dataset hc3-zh a/b", "dataset",
         "hc3-zh: a data set's name in 2.x; write its hub id or a file"),
        ("", "model", "the command names no model; write its hub id or directory"),
        ("gone.yaml --lora_rank 8", "model", "gone.yaml, which holds the arguments, is not read (no such file); "
         "write its keys here"),
    ],
)  # fmt: skip
def test_what_only_the_user_can_decide_is_a_todo(words: str, key: str, todo: str) -> None:
    assert todos(f"swift sft {words}") == {key: todo}


def test_a_variable_that_is_not_known_is_a_todo() -> None:
    found = training("MASTER_ADDR=$IP swift sft")
    assert (found.env, found.env_todo) == (
        {"MASTER_ADDR": "$IP"},
        {"MASTER_ADDR": "$IP is not set in what was pasted; write the value"},
    )


def test_variables_that_are_secret_or_not_for_the_run_are_left_out() -> None:
    found = training("HF_TOKEN=hf_abc HTTPS_PROXY=http://me:pw@x PYTHONPATH=../.. WANDB_MODE=offline swift sft")
    assert found.env == {"WANDB_MODE": "offline"}
    assert found.left_out == (
        LeftOut("HF_TOKEN=***", SECRET),
        LeftOut("HTTPS_PROXY=***", SECRET),
        LeftOut("PYTHONPATH=../..", "the installed ms-swift is run"),
    )
    assert "hf_abc" not in repr(found) and "pw" not in repr(found)


def test_swift_pt_trains_all_tokens_without_a_chat_template() -> None:
    assert values("swift pt --model x/y") == {"use_chat_template": False, "loss_scale": "all", "model": "x/y"}
    assert values("swift pt --loss_scale default")["loss_scale"] == "default"


@pytest.mark.parametrize("given", ["c.yaml --lora_rank 4", "--config c.yaml --lora_rank 4"])
def test_a_yaml_file_gives_the_arguments_and_the_command_line_comes_after(given: str) -> None:
    Path("c.yaml").write_text(
        "model: x/y\ntrain_type: lora\nlora_rank: 8\ndataset: [a.jsonl, b.jsonl]\nlearning_rate: 1e-4\npacking: true\n"
        "lr_scheduler_kwargs: {min_lr: 1e-6}\nENV: {USE_HF: 1}\n",
        encoding="utf-8",
    )
    found = training(f"swift sft {given}")
    assert {entry.key: entry.value for entry in found.entries} == {
        "model": "x/y", "tuner_type": "lora", "dataset": ["a.jsonl", "b.jsonl"], "learning_rate": 1e-4, "packing": True,
        "lr_scheduler_kwargs": {"min_lr": 1e-6}, "lora_rank": 4,
    }  # fmt: skip
    assert (found.env, found.generation) == ({"USE_HF": "1"}, "3.x")


def test_a_file_that_is_there_is_taken_for_one(tmp_path: Path) -> None:
    for name in ("alpaca-zh", "Qwen2.5-7B-Instruct"):
        (tmp_path / name).mkdir()
    text = "swift sft --model Qwen2.5-7B-Instruct --dataset alpaca-zh"
    assert values(text) == {"model": "Qwen2.5-7B-Instruct", "dataset": "alpaca-zh"}


@pytest.mark.parametrize(
    ("model_type", "model"),
    [
        ("qwen2_5-7b-instruct", "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen2-0_5b-instruct-int4", "Qwen/Qwen2-0.5B-Instruct-GPTQ-Int4"),
        ("qwen1half-7b-chat", "Qwen/Qwen1.5-7B-Chat"),
        ("llama3_1-8b-instruct", "LLM-Research/Meta-Llama-3.1-8B-Instruct"),
        ("llama3-8b-instruct", "LLM-Research/Meta-Llama-3-8B-Instruct"),
        ("llama2-7b-chat", "modelscope/Llama-2-7b-chat-ms"),
        ("internlm2_5-7b-chat", "Shanghai_AI_Laboratory/internlm2_5-7b-chat"),
        ("internlm2-7b-chat", "Shanghai_AI_Laboratory/internlm2-chat-7b"),
        ("gemma2-9b-instruct", "LLM-Research/gemma-2-9b-it"),
        ("baichuan2-7b", "baichuan-inc/Baichuan2-7B-Base"),
        ("deepseek-7b-chat", "deepseek-ai/deepseek-llm-7b-chat"),
        ("glm4-9b-chat", "ZhipuAI/glm-4-9b-chat"),
        ("internlm2-math-7b", None),  # was the base model; the hub's model of that name is another
        ("chinese-llama-2-13b", "AI-ModelScope/chinese-llama-2-13b"),  # not 1.3b
        ("openbuddy-llama3-8b-chat", None),
    ],
)
def test_a_2_x_model_type_is_translated_only_where_it_is_certain(model_type: str, model: str | None) -> None:
    assert model_of_2(model_type, model_types(HERE)) == model


def test_every_data_word_of_a_quoted_command_arrives() -> None:
    given = ["中 文.jsonl", "it's", 'say "x"', "a\nb", "$HOME", "back\\slash", "#5", "a=b"]
    assert values("swift sft " + shlex.join(["--dataset", *given])) == {"dataset": given}


@pytest.mark.parametrize("text", ['{"a": 1, "a": 2}', '{"": 1}', '{"a": NaN}', '{"a": 1e999}', "{a}", "[1]"])
def test_json_that_a_config_cannot_say_stays_text(text: str) -> None:
    assert values(f"swift sft --lr_scheduler_kwargs '{text}'") == {"lr_scheduler_kwargs": text}


@pytest.mark.parametrize(
    "word",
    [
        "https://me:pa55@host/a.jsonl",
        "sk-proj-Ab3dEf9hIjKlMnOpQrStUvWx01",
        '\'{"x":[{"api_key":"Zx81kfjfjJJfkdkfj9912"}]}\'',
    ],
)
def test_a_secret_inside_a_word_is_neither_written_nor_shown(word: str) -> None:
    secret = word.strip("'")
    found = training(f"X='{secret}' swift sft --model a/b --dataset {word} --lr_scheduler_kwargs {word} --foo={word}")
    assert [entry.key for entry in found.entries] == ["model"]
    reason = "it holds a secret, which is not written into a file"
    assert found.left_out == (
        *(LeftOut(f"{flag} ***", reason, doubt=True) for flag in ("--dataset", "--lr_scheduler_kwargs", "--foo")),
        LeftOut("X=***", SECRET),
    )
    (other,) = (read_pasted(command, HERE) for command in read_script(f"echo {word}").commands)
    assert isinstance(other, NotTraining)
    assert (other.shown, repr(other).count(secret)) == ("echo ***", 0)


def test_names_of_tokens_and_numbers_of_them_are_no_secrets() -> None:
    assert values('swift sft --model_kwargs \'{"pad_token": "<pad>", "api_key": null}\'') == {
        "model_kwargs": {"pad_token": "<pad>", "api_key": None}
    }


@pytest.mark.parametrize("long", ["a" * 5000, "a/" * 2500])
def test_a_text_that_is_too_long_for_a_path_is_none(long: str) -> None:
    found = values(f"swift sft --sft_type lora --model {long} --dataset {long},b --deepspeed {long}")
    assert (found["model"], found["dataset"], found["deepspeed"]) == (long, [long, "b"], long)


@pytest.mark.parametrize("number", ["²", "9" * 5000])
def test_what_is_no_usable_number_stays_text(number: str) -> None:
    found = training(f"accelerate launch --num_processes {number} swift sft --train_dataset_sample {number}")
    assert (found.gpus, found.env) == (1, {"NPROC_PER_NODE": number})
    assert values(f"swift sft --lora_rank {number}") == {"lora_rank": number}


def test_a_command_of_hundreds_of_arguments_is_refused() -> None:
    (command,) = read_script("swift sft " + " ".join(f"--a{n} 1" for n in range(401))).commands
    assert read_pasted(command, HERE) == NotTraining(
        1, "refused", "swift sft", "has more than 400 arguments, which no command has", "paste the command by itself"
    )
