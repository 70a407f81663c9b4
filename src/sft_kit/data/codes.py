"""What each finding on the rows of a file is called, how bad it is, and in which words it is told.

Owns the codes of `lint` that concern single rows, in the order in which they are shown. Those of the file as a whole
are beside their limits in `answers`. Codes that `msswift.datasets` notes too have the same name there.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from sft_kit.findings import Finding, Severity

_SHOWN_LINES = 5
_SHOWN_EXAMPLES = 3


@dataclass(frozen=True)
class Kind:
    """How a finding is told: `says` has {rows} and {example}; up to the share `rare` of the rows it is only a note."""

    severity: Severity
    says: str
    fix: str
    rare: float = 0.0


_REMOVE = "remove or mask it"
KINDS: dict[str, Kind] = {
    "empty-answer": Kind(
        "error",
        "{rows} with an empty answer",
        "write the answer or remove the row: the model would learn to say nothing",
    ),
    "empty-question": Kind("warning", "{rows} with an empty question", "write the question, or remove the row"),
    "answer-repeats-question": Kind("warning", "{rows} whose answer is the question: {example}", "write the answer"),
    "no-question": Kind(
        "warning",
        "{rows} with an answer before any question; ms-swift puts an empty question there",
        "add the question",
    ),
    "nothing-trained": Kind("warning", "{rows} without any answer; ms-swift trains nothing of them", "add the answers"),
    "unanswered-end": Kind(
        "warning",
        "{rows} ending with a question; ms-swift trains the answers before it only",
        "add the answer, or cut the row after its last answer",
    ),
    "joined-turns": Kind(
        "warning",
        "{rows} with two messages of one role in a row ({example}); ms-swift joins them without a space",
        "join them yourself, or add what is missing between them",
    ),
    "duplicate-rows": Kind(
        "warning", "{rows} equal to an earlier one", "keep one of each: repeats count as more epochs", 0.01
    ),
    "contradictory-answers": Kind(
        "warning", "{rows} with a question asked before, answered differently", "keep the answer you want", 0.01
    ),
    "near-duplicates": Kind(
        "warning",
        "{rows} with nearly the same question as an earlier one",
        "keep one of each, or ask in really different ways",
        0.02,
    ),
    "special-token": Kind(
        "error",
        "{rows} with a model's special token in the text: {example}",
        "remove it; the template adds the tokens itself",
    ),
    "prompt-in-text": Kind(
        "warning",
        "{rows} with another prompt format in the text: {example}",
        "keep the question and the answer only; the template adds the rest",
    ),
    "think-in-answer": Kind(
        "note", "{rows} with a <think> block in the answer", "right for a reasoning model only, and then in every row"
    ),
    "empty-think": Kind(
        "warning",
        "{rows} with an empty <think></think> in the answer",
        "remove it: templates of hybrid-thinking models add it themselves",
    ),
    "broken-think": Kind(
        "warning",
        "{rows} with a <think> that does not open the answer or is not closed: {example}",
        "put the whole thought at the start, between <think> and </think>",
    ),
    "unfilled-placeholder": Kind(
        "error",
        "{rows} with a placeholder that was never filled: {example}",
        "fill it in; `swift/self-cognition` is the only data set that ms-swift fills",
    ),
    "doubtful-placeholder": Kind(
        "warning", "{rows} with what looks like a placeholder: {example}", "fill it in, if it is one"
    ),
    "other-identity": Kind(
        "warning",
        "{rows} whose answer claims to be or to come from {example}",
        "remove these rows, or write your own name",
    ),
    "replacement-character": Kind(
        "warning",
        "{rows} with a character lost in a conversion (U+FFFD): {example}",
        "convert the file again from its source",
    ),
    "mojibake": Kind(
        "warning", "{rows} with text decoded by the wrong encoding: {example}", "convert the file again, as UTF-8"
    ),
    "control-character": Kind("warning", "{rows} with a control character ({example})", "remove it"),
    "invisible-character": Kind("note", "{rows} with an invisible character ({example})", "remove it"),
    "html-entity": Kind("warning", "{rows} with an HTML entity: {example}", "unescape the text (html.unescape)"),
    "mail-address": Kind("warning", "{rows} with a mail address: {example}", _REMOVE),
    "phone-number": Kind("warning", "{rows} with a phone number: {example}", _REMOVE),
    "id-number": Kind("warning", "{rows} with an identity card number: {example}", _REMOVE),
    "card-number": Kind("warning", "{rows} with a bank card number: {example}", _REMOVE),
    "secret": Kind(
        "warning", "{rows} with what looks like a key or token: {example}", "remove it, and revoke it if it is real"
    ),
    "other-language-answer": Kind(
        "warning",
        "{rows} asked in one language and answered in the other: {example}",
        "translate the answer, unless it is meant",
        0.03,
    ),
}


@dataclass
class Hits:
    """The rows that one code concerns: how many, the first few lines, and a few different examples."""

    rows: int = 0
    lines: list[int] = field(default_factory=list)
    examples: list[str] = field(default_factory=list)
    last: int = -1

    def add(self, row: int, line: int, example: str = "") -> None:
        """A row counts once, however often it has the same thing wrong; many rows may stand on one line."""
        if self.last != row:
            self.rows += 1
            self.last = row
            if len(self.lines) < _SHOWN_LINES:
                self.lines.append(line)
        if example and example not in self.examples and len(self.examples) < _SHOWN_EXAMPLES:
            self.examples.append(example)


def finding(code: str, place: str, hits: Hits, rows: int) -> Finding:
    """`hits` in words; `rows` is how many the file has."""
    kind = KINDS[code]
    severity = kind.severity if hits.rows > kind.rare * rows else "note"
    message = kind.says.format(rows=counted(hits.rows), example=", ".join(hits.examples))
    return Finding(code, severity, place, message, kind.fix, hits.rows, tuple(hits.lines))


def counted(rows: int) -> str:
    return f"{rows:,} row" if rows == 1 else f"{rows:,} rows"
