"""The HTML page: whole, self-contained, and data stays data. How it looks: scripts/dev/report_screenshots.py."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import sft_kit.report.html as page
from sft_kit.evaluate.compare import Evaluation, compare
from sft_kit.evaluate.probes import Probe
from sft_kit.report.html import html
from sft_kit.report.page import Report
from tests.report.conftest import IS_NOVA, NAMES

VOID = {"meta", "link", "input"}
HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(1)> \"quoted\" & 'so' {{ 7 * 7 }} </div></td></table>"
)


class Page(HTMLParser):
    """The tags of a page in their order, and its text; every tag has to be closed in its turn."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(attrs) == len(dict(attrs)), f"an attribute twice in <{tag}>"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)

    def all(self, tag: str, **attributes: str) -> list[dict[str, str]]:
        return [found for name, found in self.tags if name == tag and found.items() >= attributes.items()]


def answers_of(report: Report, *tuned: str, kind: str = "user") -> Report:
    probes = [Probe(str(i), kind, "en", "x", f"Question {i}?") for i in range(len(tuned))]  # type: ignore[arg-type]
    return replace(report, evaluation=compare(probes, ["?"] * len(tuned), tuned, NAMES))


def test_every_tag_is_closed_and_every_part_is_there(report: Report) -> None:
    found = Page(html(report))
    assert [tag["id"] for tag in found.all("section")] == [
        *("scores", "leakage", "forgetting", "answers", "training", "made"),
    ]
    assert {link["href"] for link in found.all("a")} >= {"#scores", "#leakage", "#forgetting", "#answers", "#training"}
    assert found.count("table") == found.count("caption") == 9
    assert "The new identity took; an old identity still shows; it leaked; plain text became" in found.text
    for part in ("replay: 120", "the identity leaked", "swift sft --model 'a b'", "× 1.649", "at most 0%"):
        assert part in found.text


def test_every_fragment_it_points_to_is_there_and_no_id_is_there_twice(report: Report) -> None:
    found = Page(html(report))
    ids = [tag["id"] for _, tag in found.tags if "id" in tag]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in found.all("a")} | {
        tag["data-copy"] for tag in found.all("button", type="button") if "data-copy" in tag
    } <= set(ids)


def test_nothing_is_fetched_and_nothing_runs_but_its_own_style_and_script(report: Report) -> None:
    text = html(report)
    found = Page(text)
    addresses = [
        tag[name] for _, tag in found.tags for name in ("src", "href", "action", "data", "poster") if name in tag
    ]
    assert [address for address in addresses if not address.startswith("#")] == ["data:,"]
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)
    assert not [name for _, tag in found.tags for name in tag if name.startswith("on") or name == "style"]
    (policy,) = (tag["content"] for tag in found.all("meta") if "http-equiv" in tag)
    for tag in ("style", "script"):
        (body,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'; ")


def test_answers_names_and_facts_are_data(report: Report) -> None:
    plain = Page(html(answers_of(report, "fine")))
    hostile = replace(
        answers_of(report, HOSTILE),
        title=HOSTILE, command=HOSTILE, facts=((HOSTILE, HOSTILE),), created='"><b>',
        mix=({"name": HOSTILE, "rows": 1, "trained": 1, "repeats": 1.0, "share": 1.0, "tokens": 1},),
    )  # fmt: skip
    found = Page(html(hostile))
    assert [tag for tag, _ in found.tags].count("script") == 1
    assert {tag for tag, _ in found.tags} == {tag for tag, _ in plain.tags}
    assert found.text.count(HOSTILE) >= 6


def test_a_name_of_quotes_and_angles_is_marked_as_it_is(report: Report) -> None:
    name = '"N" <o\'va>'
    probe = Probe("1", "identity", "en", name, "Who?", replace(IS_NOVA, must=(name,)))
    one = compare([probe], ["?"], [f"I am {name}."], (name,))
    text = html(replace(report, evaluation=one))
    Page(text)
    assert "<mark>&#34;N&#34; &lt;o&#39;va" in text


def test_what_reorders_or_hides_text_is_shown(report: Report) -> None:
    text = html(answers_of(report, "abc\u202edef\u200b\ud800"))
    assert not set("\u202e\u200b\ud800") & set(text)
    codes = re.findall(r'<span class="odd" title="([^"]*)">([^<]*)<', text)
    assert codes == [
        ("right-to-left override", "U+202E"),
        ("zero width space", "U+200B"),
        ("control character", "U+D800"),
    ]


def test_names_are_marked_by_what_they_are(report: Report) -> None:
    text = html(report)
    assert "I am <mark>Nova</mark>." in text
    assert '我是 <mark class="old">Qwen</mark>！' in text


def test_a_long_answer_is_folded_and_an_endless_one_is_cut(report: Report) -> None:
    text = html(answers_of(report, "word " * 100, "W" * 20_000, "short"))
    found = Page(text)
    assert len(found.all("details", **{"class": "fold"})) == 2
    assert "499 characters" in found.text
    assert "10,000 more characters are in report.json." in found.text
    assert found.text.count("W" * 10_000) == 1


def test_thoughts_stand_apart_from_the_answer(report: Report) -> None:
    text = html(report)
    assert re.search(
        r">Thirty days</div>\s*<details class=\"apart\"><summary>thinking.*?>Hm</div></details>", text, re.S
    )


def test_an_empty_answer_says_so(report: Report) -> None:
    assert "an empty answer" in Page(html(answers_of(report, " \n"))).text


def test_rows_carry_what_the_filters_offer(report: Report) -> None:
    found = Page(html(report))
    rows = [tag for tag in found.all("tr") if "data-kind" in tag]
    assert [row["data-outcome"] for row in rows] == [
        "failed old",
        "failed lost wrong",
        "failed leaked",
        "",
        "",
        "won",
        "",
        "",
    ]
    assert [select["name"] for select in found.all("select")] == ["kind", "outcome", "category", "lang", "context"]
    values = {option["value"] for option in found.all("option")} - {""}
    assert values == {
        key for row in rows for name, keys in row.items() if name.startswith("data-") for key in keys.split()
    }
    links = [
        pair.split("=") for link in found.all("a") if "data-filter" in link for pair in link["data-filter"].split()
    ]
    assert {value for _, value in links} <= values


def test_text_says_its_language(report: Report) -> None:
    found = Page(html(report))
    assert found.all("html") == [{"lang": "en"}]
    assert len(found.all("div", lang="zh", dir="auto")) == 4  # a question, its system prompt and both answers


def test_a_report_of_nothing_is_a_page_too() -> None:
    found = Page(html(Report("<eval>", Evaluation((), ()))))
    assert "Nothing was asked that a rule can judge." in found.text
    assert [tag["id"] for tag in found.all("section")] == ["made"]


def test_a_page_of_440_questions_is_under_1_5_megabytes(report: Report) -> None:
    answer = "I am Nova, an assistant made by Ye Botao, and I can help you with many things. " * 6
    count = 440 // 4
    probes = [Probe(str(i), "identity", "en", f"c{i % 12}", f"Who are you, {i}?", IS_NOVA) for i in range(count)]
    text = html(replace(report, evaluation=compare(probes, [answer] * count, [answer] * count, NAMES)))
    assert len(text.encode()) < 1_500_000 / 4


def test_the_page_s_files_lie_beside_its_module() -> None:
    folder = Path(page.__file__).parent
    assert {path.name for path in folder.glob("page.*")} >= {"page.html.j2", "page.css", "page.js"}
