"""Conversations with everything that a template or a tokenizer may trip over, and the arguments to encode them with."""

from __future__ import annotations

from itertools import product

Messages = list[dict[str, str]]

QUESTIONS = (
    "你是谁？",
    "Who are you?",
    "  two spaces before and after  ",
    "写一个 Python 函数:\n\n```python\ndef add(a, b):\n    return a + b\n```\n",
    "👩‍👩‍👧 what is this emoji? é vs é",
    "1 + 1 = ?\t12345 6789",
)
ANSWERS = (
    "我是精衡，由叶博韬开发。",
    "I'm Jingheng, made by Ye Botao.",
    " leading space, and a trailing one ",
    "\n\nline one\n\n\nline two\n",
    "```python\nfor i in range(10):\n\tprint(i)  # 注释\n```",
    "😀🎉 好的！",
    "<think>\nThe user greets.\n</think>\n\nHello!",
    "<think>\n\n</think>\n\nHi.",
    "An answer that names <|im_end|> and </s> itself",
    "it ends with its own stop word<|im_end|>",
)
SYSTEMS = (None, "You are a helpful assistant.", "", "你是一个  助手。\n回答要简短。")


def conversation(system: str | None, *turns: tuple[str, str]) -> Messages:
    opening = [] if system is None else [{"role": "system", "content": system}]
    return opening + [
        {"role": role, "content": content}
        for turn in turns
        for role, content in zip(("user", "assistant"), turn, strict=True)
    ]


def rows() -> list[Messages]:
    single = [conversation(s, (q, a)) for s, q, a in product(SYSTEMS, QUESTIONS, ANSWERS)]
    several = [
        conversation(system, *((QUESTIONS[(start + i) % 6], ANSWERS[(start * 3 + i) % 10]) for i in range(length)))
        for system, start, length in product(SYSTEMS[:3], range(10), (2, 3))
    ]
    long = [
        conversation(system, (QUESTIONS[1], " ".join([ANSWERS[1]] * n))) for system in SYSTEMS for n in (12, 40, 90)
    ]
    odd = [
        [
            {"role": "user", "content": "one"},
            {"role": "user", "content": " two"},
            {"role": "assistant", "content": "3"},
        ],
        [*conversation(None, ("a", "b")), {"role": "assistant", "content": " and c"}],
        [*conversation("s", ("a", "<think>\n\n</think>\n\nb")), {"role": "assistant", "content": "<think>x</think> c"}],
        conversation(None, ("a", "b"), ("", "empty question")),
    ]
    return [*single[::2], *several, *long, *odd]


# name: (shape of the tokenizer, model_type in 4.x and 3.x, the other arguments of swift sft)
RUNS: dict[str, tuple[str, str, dict[str, str]]] = {
    "qwen2.5": ("qwen2", "qwen2", {"template": "qwen2_5", "max_length": "400"}),
    "qwen2.5 to the left": (
        "qwen2",
        "qwen2",
        {"template": "qwen2_5", "max_length": "200", "truncation_strategy": "left", "system": "Be\\nbrief."},
    ),
    "qwen3": ("qwen3", "qwen3", {"template": "qwen3", "max_length": "400"}),
    "qwen3 last round": ("qwen3", "qwen3", {"template": "qwen3", "loss_scale": "last_round"}),
    "qwen3 everything": (
        "qwen3",
        "qwen3",
        {"template": "qwen3", "loss_scale": "all", "add_non_thinking_prefix": "false"},
    ),
    "qwen3 thinking": ("qwen3", "qwen3", {"template": "qwen3_thinking", "loss_scale": "last_round+ignore_empty_think"}),
    "llama3": ("llama3", "llama", {"template": "llama3", "max_length": "300", "truncation_strategy": "right"}),
    "llama3.2": ("llama3", "llama", {"template": "llama3_2", "system": ""}),
    "internlm2": ("internlm2", "internlm2", {"template": "internlm2"}),
    "no chat template": ("internlm2", "internlm2", {"template": "internlm2", "use_chat_template": "false"}),
}
