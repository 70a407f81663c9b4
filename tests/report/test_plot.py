from __future__ import annotations

import math
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from sft_kit.msswift.logs import StepLog
from sft_kit.report.plot import loss_svg, sparkline

SVG = "{http://www.w3.org/2000/svg}"


def steps_of(losses: Sequence[float | None]) -> list[StepLog]:
    return [StepLog(step, len(losses), loss=loss) for step, loss in enumerate(losses, start=1)]


def drawn(losses: Sequence[float | None]) -> ElementTree.Element:
    return ElementTree.fromstring(loss_svg(steps_of(losses), title="a run"))  # noqa: S314 - our own text


def texts(svg: ElementTree.Element) -> list[str]:
    return [element.text or "" for element in svg.iter(f"{SVG}text")]


def curve(svg: ElementTree.Element, name: str) -> list[list[tuple[float, float]]]:
    """The points of a curve in pixels, one list for each piece without a gap; without the legend's sample."""
    path = next(path.get("d", "") for path in svg.iter(f"{SVG}path") if path.get("class") == name)
    pieces = [re.split("L", piece) for piece in path.split("M")[1:]]
    return [[tuple(map(float, point.split())) for point in piece] for piece in pieces]  # type: ignore[misc]


def test_no_steps_say_so() -> None:
    assert texts(drawn([])) == ["a run", "no loss was logged"]


def test_losses_that_are_all_nan_say_so() -> None:
    assert texts(drawn([math.nan, math.inf, None])) == ["a run", "no loss was logged"]


def test_one_step_is_a_dot_with_its_value() -> None:
    svg = drawn([2.5])
    assert len(list(svg.iter(f"{SVG}circle"))) == 1
    assert "2.5" in texts(svg)


def test_the_axes_carry_round_numbers_names_and_the_final_smoothed_value() -> None:
    assert texts(drawn([3.0, 1.0, 0.5, 0.25, 0.4, 0.1])) == [
        "a run",
        *("0", "0.5", "1", "1.5", "2", "2.5", "3"),
        *("1", "2", "3", "4", "5", "6"),
        *("step", "loss"),
        "0.7373",
        *("logged", "smoothed 0.9"),
    ]


def test_every_loss_is_drawn_at_its_place() -> None:
    ((first, second, third),) = curve(drawn([2.0, 0.0, 1.0]), "raw")
    assert (first, second, third) == ((70.0, 56.0), (415.0, 368.0), (760.0, 212.0))


def test_the_smoothed_curve_is_calmer_than_the_logged_one() -> None:
    svg = drawn([1.0, 2.0] * 20)
    (raw,), (bold,) = curve(svg, "raw"), curve(svg, "bold")
    assert len(raw) == len(bold) == 40
    heights = [max(y for _, y in part) - min(y for _, y in part) for part in (raw[20:], bold[20:])]
    assert heights[1] < heights[0] / 5


def test_a_nan_leaves_a_gap() -> None:
    svg = drawn([2.0, 1.9, math.nan, 1.7, 1.6])
    assert [len(piece) for piece in curve(svg, "raw")] == [2, 2]
    assert [len(piece) for piece in curve(svg, "bold")] == [2, 2]


def test_a_step_without_a_loss_leaves_no_gap() -> None:
    assert [len(piece) for piece in curve(drawn([2.0, None, 1.7]), "raw")] == [2]


def test_a_hundred_thousand_steps_stay_small_and_keep_their_spike() -> None:
    losses = [1.0] * 100_000
    losses[54_321] = 9.0
    svg = loss_svg(steps_of(losses), title="long")
    assert len(svg) < 40_000
    (raw,) = curve(ElementTree.fromstring(svg), "raw")  # noqa: S314 - our own text
    assert len(raw) <= 1200
    # The spike at its step (70 to 760 pixels for steps 1 to 100,000), reaching up to its 9 of 0 to 10.
    top = min(raw, key=lambda point: point[1])
    assert top == (444.8, 87.2)


def test_the_document_stands_alone_and_follows_dark_mode() -> None:
    svg = loss_svg(steps_of([1.0, 0.5]), title="a run")
    assert re.findall(r"https?://[^\"]+", svg) == ["http://www.w3.org/2000/svg"]
    assert re.findall(r"<script|@import|url\(|href", svg) == []
    assert svg.count("@media(prefers-color-scheme:dark)") == 1


def test_a_title_cannot_break_the_document_and_is_cut_where_the_legend_begins() -> None:
    title = '</text><script>"&' + "长" * 60
    svg = ElementTree.fromstring(loss_svg(steps_of([1.0]), title=title))  # noqa: S314 - our own text
    assert texts(svg)[0] == title[:49] + "…"
    assert svg.get("aria-label") == title


@settings(deadline=None)
@example([8.98e307, 8.99e307, -1.7e308], 1)
@example([5e-324, 1e-323, 0.0], 3)
@given(st.lists(st.none() | st.floats(), max_size=30), st.integers(0, 12))
def test_any_losses_give_a_document_inside_its_frame(losses: list[float | None], width: int) -> None:
    svg = drawn(losses)
    for point in re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", " ".join(path.get("d", "") for path in svg.iter())):
        assert 0 <= float(point[0]) <= 800
        assert 0 <= float(point[1]) <= 420
    assert len(sparkline(losses, width)) == min(width, len(losses))


def test_a_sparkline_goes_from_the_lowest_to_the_highest_block() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], 8) == "█▇▆▅▄▃▂▁"


def test_a_sparkline_averages_what_does_not_fit() -> None:
    assert sparkline([1, 1, 8, 8, 1, 1], 3) == "▁█▁"


def test_a_sparkline_shows_gaps_and_constants() -> None:
    assert sparkline([1, None, math.nan, 2], 10) == "▁  █"
    assert sparkline([5, 5, 5], 10) == "▅▅▅"
    assert sparkline([None, math.inf], 10) == "  "
    assert sparkline([], 10) == ""


def test_drawing_needs_nothing_beyond_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
import sft_kit.report.plot
print(sorted({name.partition(".")[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout == "['sft_kit']\n"
