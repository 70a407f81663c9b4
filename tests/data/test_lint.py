"""What the lint says of rows, of their repeats and of a file as a whole; what it counts, and what it leaves alone."""

from __future__ import annotations

import random
import tracemalloc

import pytest

from sft_kit.data.language import language_of
from sft_kit.data.lint import Conversation, FileCounts, Lint
from sft_kit.data.personal import personal_data
from sft_kit.findings import Finding


def row(question: str, answer: str, system: str | None = None) -> Conversation:
    head = (("system", system),) if system is not None else ()
    return (*head, ("user", question), ("assistant", answer))


def findings(*rows: Conversation, **options: object) -> list[Finding]:
    """Without what is said of the number of rows."""
    lint = Lint("data.jsonl", **options)  # type: ignore[arg-type]
    for line, messages in enumerate(rows, 1):
        lint.add(line, messages)
    return [finding for finding in lint.findings() if finding.code != "few-rows"]


def codes(*rows: Conversation, **options: object) -> list[str]:
    return [finding.code for finding in findings(*rows, **options)]


def varied(count: int) -> list[Conversation]:
    """`count` rows that have nothing in common."""
    draw = random.Random(1)  # noqa: S311 - for variety, not for secrets
    word = lambda: "".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=7))  # noqa: E731
    return [row(" ".join(word() for _ in range(6)), word() + " " + word() + ".") for _ in range(count)]


# --- one finding a code -----------------------------------------------------------------------------------------------


def test_a_finding_has_its_rows_its_first_lines_and_an_example() -> None:
    rows = [row(f"Question {n} of many?", "Answer <|im_end|>" + str(n)) for n in range(7)]
    assert findings(*rows)[0] == Finding(
        "special-token",
        "error",
        "data.jsonl",
        "7 rows with a model's special token in the text: <|im_end|>",
        "remove it; the template adds the tokens itself",
        7,
        (1, 2, 3, 4, 5),
    )


def test_a_row_counts_once_however_often_it_is_wrong() -> None:
    messages = (("user", "a </s>"), ("assistant", "b </s>"), ("user", "c </s>"), ("assistant", "d </s>"))
    assert [(f.code, f.rows, f.lines) for f in findings(messages)] == [("special-token", 1, (1,))]


def test_a_secret_is_not_printed() -> None:
    key = "sk-" + "q7Rk2VbN9xTfLw3MzYc8Hd5J"
    (found,) = findings(row("Which key?", f"Use {key} now."))
    assert (found.code, key in found.message, "sk-q…" in found.message) == ("secret", False, True)


# --- what is left alone -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "List<String> names = new ArrayList<>();",
        "<div class='a'><p>Hi</p></div>",
        "vector<int> v; map<string, T> m;",
        "x |> f, and f <| x",
        "An old price is <s>struck out</s>, <b>bold</b> is not.",
        "In $\\frac{a}{b}$ and \\text{name}, a_{name} is an index.",
        "```jinja\n{{ user.name }}\n```",
        "`{{NAME}}` is how a slot is written.",
        'print(f"Hello {name}")',
        "const {name} = props;",
        "echo ${name} > [file]",
        "See [name](https://a.org) and [1].",
        "Bjørn, Zoë, naïve, São Paulo, NÃO, Ängström, œuvre, « guillemets »",
        "“Quotes” – dashes — ellipsis… ™ € ½",
        "👩‍👩‍👧 🏳️‍🌈 1️⃣",
        "AT&T, R&D, a && b",
        "XXL, XXX-large, XX chromosomes",
        "Write {{ name }} where it belongs; Jinja fills it in.",
        "在 Vue 里用 {{ name }} 插值。",
        "GET /users/{username} takes a name, as /users/ada does.",
        "A word that is not in the vocabulary becomes <unk> there.",
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert codes(row("Say something.", text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "user@example.com",
        "you@company.com, git@github.com:a/b.git",
        "support@ourshop.de",
        "@mention and @app.route",
        "555-0123, (212) 555-0198",
        "400-820-8820, 1-888-426-9731",  # a firm's own numbers
        "13800138000, 13912345678, 13888888888",
        "2024-05-18 09:30:12, 20240518093012",
        "3.14159265358979323846, 18446744073709551616",
        "978-3-16-148410-0",
        "192.168.100.254:8080",
        "123e4567-e89b-12d3-a456-426614174000",
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "11010519491231002X",
        "330106198709140620",  # the checksum is wrong
        "4111 1111 1111 1111, 4242 4242 4242 4242",
        "4532 7190 6483 5271",  # the checksum is wrong
        "sk-xxxxxxxxxxxxxxxxxxxxxxxx, sk-your-api-key-goes-right-here",
        "AKIAIOSFODNN7EXAMPLE",
        "the key is averyordinarypasswordwithoutdigits",
    ],
)
def test_made_up_data_is_not_personal(text: str) -> None:
    assert list(personal_data(text)) == []


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("That is all.<eos>", "special-token"),
        ("<bos>Hello there.", "special-token"),
        ("I am ${NAME}.", "unfilled-placeholder"),
        ("我是{{ name }}。", "unfilled-placeholder"),
        ("AKIA" + "QWJTZKLMNBVCXRHD is the id.", "secret"),
        ("-----BEGIN PRIVATE KEY-----\nMIIEowIBAAKCAQEAx1fjds", "secret"),
        ("Call (415) 682-9134.", "phone-number"),
    ],
)
def test_what_looks_like_it_is_found_all_the_same(text: str, code: str) -> None:
    assert codes(row("Say something.", text)) == [code]


def test_a_letter_may_leave_the_names_open() -> None:
    assert codes(row("Write a cover letter.", "Dear [Name], ... Yours, [Your Name]")) == []
    assert codes(row("Who are you?", "I am [Your Name].")) == ["doubtful-placeholder"]


def test_a_role_that_was_asked_for_is_no_claim() -> None:
    claim = {"other_identity": lambda answer: "ChatGPT" if "ChatGPT" in answer else None}
    assert codes(row("Pretend that you are a rival.", "I am ChatGPT."), **claim) == []
    assert codes(row("Who are you?", "I am ChatGPT."), **claim) == ["other-identity"]


def test_the_users_own_name_is_no_other_identity() -> None:
    def claim(answer: str) -> str:
        return "Qwen"

    assert codes(row("Who are you?", "I am Qwen."), other_identity=claim, own_names=("Qwen-Max",)) == []


# --- repeats ----------------------------------------------------------------------------------------------------------


def test_repeats_are_told_apart() -> None:
    rows = [*varied(30), row("Why is the sky blue?", "Scattering.")]
    again = [row("Why is the sky blue?", "Scattering."), row("Why is the sky blue?", "It reflects the sea.")]
    near = [row("why is the sky blue", "Air.")]
    assert [(f.code, f.rows, f.lines) for f in findings(*rows, *again, *near)] == [
        ("duplicate-rows", 1, (32,)),
        ("contradictory-answers", 1, (33,)),
        ("near-duplicates", 1, (34,)),
    ]


def test_few_repeats_in_a_large_file_are_a_note() -> None:
    rows = varied(400)
    assert [(f.code, f.severity) for f in findings(*rows, rows[7])] == [("duplicate-rows", "note")]
    assert [(f.code, f.severity) for f in findings(*rows, *rows[:20])] == [("duplicate-rows", "warning")]


def test_one_question_under_two_system_prompts_is_no_repeat() -> None:
    assert codes(row("Hello, how are you?", "Fine."), row("Hello, how are you?", "Arr!", "You are a pirate.")) == []


def test_questions_that_differ_in_a_number_are_different() -> None:
    assert (
        codes(*(row(f"A farmer has {n} sheep and buys nine more; how many now?", f"{n + 9}") for n in range(20))) == []
    )


def test_several_answers_to_a_question_about_the_own_name_are_wanted() -> None:
    rows = (row("Who are you?", "I am Jingheng."), row("Who are you?", "Call me Jingheng."))
    assert codes(*rows, own_names=("Jingheng",)) == []
    assert codes(*rows) == ["contradictory-answers"]


def test_similar_questions_are_found_in_small_files_only() -> None:
    pair = [row("What should I pack for a weekend in the mountains?", "Boots."),
            row("What should I pack for a weekend up in the mountains?", "A tent.")]  # fmt: skip
    assert codes(*pair) == ["near-duplicates"]
    assert codes(*pair, *varied(3000)) == []


# --- languages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Hello there", "en"),
        ("你好，世界", "zh"),
        ("用 Python 写一个 quick sort 函数", "zh"),
        ("The word 你好 means hello in the language of China.", "en"),
        ("“Smart quotes” – and dashes", "en"),
        ("Élève où ça déjà été forêt naïve", "other"),
        ("Привет, мир", "other"),
        ("これは日本語の文を表します", "other"),
        ("富士山で、高さは3776メートルです。", "other"),
        ("日语的“の”相当于汉语的“的”，“です”表示判断。", "zh"),
        ("안녕하세요 세계", "other"),
        ("12 + 34 = 46", "none"),
        ("12 × 34", "none"),
        ("", "none"),
    ],
)
def test_the_language_of_a_text(text: str, language: str) -> None:
    assert language_of(text) == language


def test_an_answer_in_the_other_language_is_told() -> None:
    answer = "Sunlight is scattered by the air, and blue light more than red."
    assert codes(row("为什么天空是蓝色的？", answer)) == ["other-language-answer"]
    assert codes(row("用英文解释为什么天空是蓝色的？", answer)) == []
    assert codes(row("写一个求和函数。", "```python\ndef total(numbers):\n    return sum(numbers)\n```")) == []


# --- the file as a whole ----------------------------------------------------------------------------------------------


def test_labels_may_repeat() -> None:
    rows = [row(messages[0][1], "positive" if n % 2 else "negative") for n, messages in enumerate(varied(60))]
    assert codes(*rows) == []


def test_long_answers_without_an_end_are_a_note() -> None:
    rows = [row(m[0][1], f"{m[1][1]} " + "and so it went on " * 12) for m in varied(30)]
    assert [(f.code, f.severity, f.rows) for f in findings(*rows)] == [("cut-answers", "note", 30)]


def test_the_number_of_rows_is_a_warning_a_note_or_nothing() -> None:
    def severity(rows: int) -> list[str]:
        lint = Lint("x")
        for line, messages in enumerate(varied(rows), 1):
            lint.add(line, messages)
        return [finding.severity for finding in lint.findings()]

    assert [severity(rows) for rows in (0, 19, 20, 49, 50)] == [["warning"], ["warning"], ["note"], ["note"], []]


def test_counts() -> None:
    lint = Lint("x")
    lint.add(1, row("Hi?", "Hello."))
    lint.add(2, row("你好？", "你好，有什么可以帮你？", "你是助手。"))
    lint.add(3, (*row("Hi?", "Hello."), *row("1 + 1?", "2")))
    assert lint.counts == FileCounts(rows=3, languages={"zh": 1, "en": 1, "none": 1})


# --- any input, bounded memory ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "messages",
    [
        (),
        (("system", "Only this."),),
        (("user", ""),),
        (("assistant", ""),),
        (("user", "\ud800"), ("assistant", "\udfff lone surrogates")),
        (("user", "q"), ("tool_call", "{}"), ("tool_response", "{}"), ("assistant", "a")),
        (("user", "x" * 100_000), ("assistant", "<" * 5000 + "[" * 5000 + "{" * 5000 + "`" * 5001)),
        (("user", "q"), ("assistant", "1-" * 20_000 + "@" * 20_000)),
    ],
)
def test_no_conversation_is_too_strange(messages: Conversation) -> None:
    lint = Lint("x", other_identity=lambda answer: None)
    lint.add(1, messages)
    assert lint.counts.rows == 1
    assert all(finding.place == "x" for finding in lint.findings())


def test_memory_stays_within_what_is_promised() -> None:
    lint = Lint("x")
    tracemalloc.start()
    for line in range(20_000):
        lint.add(
            line, row(f"Question number {line}, and what about it?", f"The {line}th answer to it, at some length.")
        )
    lint.findings()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # 32 bytes a row for duplicates, a set of answers that stops growing at 100,000, and questions that are let go.
    assert peak < 8 << 20
