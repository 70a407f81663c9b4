"""A chat model of about 1M parameters with random weights, on which real ms-swift trains on a CPU in seconds.

For tests and CI: it needs no network, and everything but its answers is real: a transformers architecture, a
byte-level BPE tokenizer of its own, a ChatML chat template. Owns the recipe. Does not own the cache (see `catalog`).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal, cast, get_args

Family = Literal["qwen2", "qwen3", "llama"]

VOCAB_SIZE = 1280
CONTEXT_TOKENS = 2048
END_OF_TEXT, START_OF_TURN, END_OF_TURN = SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")

# What a ms-swift template puts in front when neither a row nor `system` says otherwise; the tokenizer's own chat
# template must agree with it, or the merged model would answer differently elsewhere.
_DEFAULT_SYSTEM = {"qwen2": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."}

# Qwen2's rule for splitting text before BPE. Transformers 5 applies this rule to every tokenizer of a Qwen2 model,
# whatever its tokenizer.json says, so another one would tokenize differently there.
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)

_TEXT = """\
You are a helpful assistant. Who are you? I am a language model, and I was trained to answer questions.
What is your name? My name is short. Who made you, who developed you, and who trained you? A small team did.
What can you do for me today? I can explain, translate, summarise, write code, and talk about many subjects.
The capital of France is Paris. Water boils at one hundred degrees Celsius. The sun rises in the east and sets in
the west. Seven plus five is twelve. There are twenty-four hours in a day and three hundred and sixty-five in a year.
Please write a short story about a fox who wanted to cross the river before winter came. Once upon a time there was
a fox. Every morning she looked at the cold water and thought about the other side. One day an old turtle said that
patience was a kind of bridge, so she waited until the ice was strong enough, and then she walked across.
def add(first, second): return first + second. for value in range(10): print(value). import json, import pathlib.
Training a model means changing its weights so that the loss falls. A learning rate that is too high makes the loss
jump; one that is too low wastes time. Gradient accumulation adds several small batches into one large batch.
Sorry, I cannot do that, but here is something that may help. Thank you very much! You are welcome. Good morning,
good evening, good night. How are you? Could you tell me more about this? First, second, third, finally. However,
because, although, therefore, between, without, under, over, again, another, important, different, people, world.
你好!我是一个人工智能助手,很高兴为你服务。你是谁?你叫什么名字?是谁开发了你?是谁训练了你?
我是由一个小团队训练出来的语言模型,可以回答问题、翻译文字、编写代码、整理资料,也可以陪你聊天。
请介绍一下你自己。你能做什么?你和其他模型有什么不同?你的开发者是哪家公司?你的名字是谁起的?
中国的首都是北京,法国的首都是巴黎。一年有三百六十五天,一天有二十四个小时。水在一百度时沸腾。
太阳从东方升起,从西方落下。春天来了,花开了,小河里的冰也化了。孩子们在公园里放风筝,老人们在树下下棋。
请写一个关于狐狸过河的小故事。从前有一只狐狸,它每天早上都站在河边,想着对岸的森林。乌龟告诉它,要有耐心。
训练模型就是调整权重,让损失下降。学习率太大,损失会跳动;学习率太小,时间会浪费。数据的质量比数量更重要。
对不起,我不能这样做,不过我可以给你一些建议。谢谢!不客气。早上好,晚上好,再见。首先,其次,最后,因此,但是。
如果你有任何问题,请随时告诉我,我会尽力帮助你解决。我们一起学习,一起进步,一起把事情做得更好。
0 1 2 3 4 5 6 7 8 9 10 100 2024 2025 3.14 50% http://example.com user@example.com # * - _ = + / \\ | ( ) [ ] { } < >
"""


def build_tiny_model(directory: Path, family: Family = "qwen2", *, seed: int = 0) -> Path:
    """Write a Hugging Face model directory of about 4 MB into `directory` and return it.

    The same `seed` and library versions give the same weights and tokenizer. Give ms-swift the model type and
    template of `catalog.own_model_types`, since the architecture alone is ambiguous to it. Build it with the
    environment that reads it: a tokenizer saved by transformers 5 does not load in transformers 4.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedTokenizerFast

    # The trainer of the tokenizer numbers the special tokens first, in order.
    end_of_text, _, end_of_turn = range(len(SPECIAL_TOKENS))
    config = AutoConfig.for_model(
        family,
        vocab_size=VOCAB_SIZE,
        hidden_size=128,
        intermediate_size=352,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        max_position_embeddings=CONTEXT_TOKENS,
        tie_word_embeddings=True,
        bos_token_id=end_of_text,
        eos_token_id=end_of_turn,
        pad_token_id=end_of_text,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.generation_config = GenerationConfig(
        do_sample=False, bos_token_id=end_of_text, eos_token_id=[end_of_turn, end_of_text], pad_token_id=end_of_text
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=_train_tokenizer(),
        bos_token=None,
        eos_token=END_OF_TURN,
        pad_token=END_OF_TEXT,
        model_max_length=CONTEXT_TOKENS,
        model_input_names=["input_ids", "attention_mask"],
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = chatml_template(_DEFAULT_SYSTEM.get(family))
    model.save_pretrained(directory)
    tokenizer.save_pretrained(directory)
    return directory


def chatml_template(default_system: str | None) -> str:
    """A ChatML chat template (Jinja); `default_system` opens a conversation that brings no system message itself."""
    opening = ""
    if default_system is not None:
        opening = (
            "{% if loop.first and message['role'] != 'system' %}"
            f"{{{{ '<|im_start|>system\\n{default_system}<|im_end|>\\n' }}}}{{% endif %}}"
        )
    turn = "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    answer = "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    return f"{{% for message in messages %}}{opening}{turn}{{% endfor %}}{answer}"


def _train_tokenizer() -> object:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE,
        min_frequency=1,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Line by line, each with its line end: BPE would otherwise never see how lines join.
    tokenizer.train_from_iterator(_TEXT.splitlines(keepends=True), trainer)
    return tokenizer


if __name__ == "__main__":
    directory, family = sys.argv[1:]
    if family not in get_args(Family):
        sys.exit(f"{family}: not one of {', '.join(get_args(Family))}")
    build_tiny_model(Path(directory), cast(Family, family))
