"""The loss curve: as an SVG that stands alone, and as one line of a terminal.

Owns the drawing, without matplotlib: importing it costs a launcher a second and 60 MB, and its SVG cannot follow the
reader's light or dark mode. Does not own what the values mean (see `msswift.logs`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

from sft_kit.msswift.logs import StepLog, smooth

_WIDTH, _HEIGHT = 800, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 40, 56, 52  # margins around the plotting area
_TITLE_CHARACTERS = 50  # what fits beside the legend
_MAX_LOSS = 3e38  # the end of float32: what is beyond is an overflow, not a loss
_POINTS = 600  # more than one a pixel cannot be seen

# Plain rules and no CSS variables: previewers that are not browsers (librsvg) draw everything black otherwise.
_STYLE = """\
.loss text{font:13px system-ui,-apple-system,"Segoe UI","Noto Sans","Noto Sans CJK SC",sans-serif;fill:#59636e}
.loss .title{font-size:16px;font-weight:600;fill:#1f2328}
.loss .value{font-weight:600;fill:#d9480f;stroke:#fff;stroke-width:5;paint-order:stroke}
.loss .ground{fill:#fff}
.loss .grid{stroke:#d8dee4}
.loss path{fill:none;stroke-linejoin:round;stroke-linecap:round}
.loss .raw{stroke:#f2b8a0;stroke-width:1.25}
.loss .bold{stroke:#d9480f;stroke-width:2.5}
.loss circle{fill:#d9480f}
@media(prefers-color-scheme:dark){
.loss text{fill:#9198a1}
.loss .title{fill:#e6edf3}
.loss .value{fill:#ff8a5c;stroke:#0d1117}
.loss .ground{fill:#0d1117}
.loss .grid{stroke:#2b323b}
.loss .raw{stroke:#96573e}
.loss .bold{stroke:#ff8a5c}
.loss circle{fill:#ff8a5c}
}"""

_BLOCKS = "▁▂▃▄▅▆▇█"


def loss_svg(steps: Sequence[StepLog], *, title: str, styled: bool = True) -> str:
    """A self-contained SVG document of the loss of `steps`: every value pale, the 0.9-smoothed curve bold.

    No script, no font and no address in it, so it can be put into an HTML page as it is, or without its style
    (`styled`) into one that has its own rules for `.loss`. Steps without a loss are left out; a loss beyond float32
    leaves a gap. Above 600 points, neighbours are drawn as their lowest and highest (raw) or their last (smoothed), so
    that no spike is lost.
    """
    logged = [(step.step, step.loss) for step in steps if step.loss is not None]
    xs = [float(step) for step, _ in logged]
    raw = [_number_or_nan(loss) for _, loss in logged]
    smoothed = smooth(raw)
    drawn = [loss for loss in raw if not math.isnan(loss)]

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="loss" viewBox="0 0 {_WIDTH} {_HEIGHT}"'
        f' role="img" aria-label="{escape(title)}">',
        *([f"<style>{_STYLE}</style>"] if styled else []),
        f'<rect class="ground" width="{_WIDTH}" height="{_HEIGHT}" rx="6"/>',
        f'<text class="title" x="{_LEFT}" y="32">{escape(_shortened(title))}</text>',
    ]
    if not drawn:
        parts.append(_text(_WIDTH / 2, _HEIGHT / 2, "no loss was logged", anchor="middle"))
        return "\n".join([*parts, "</svg>\n"])

    x_axis = _Axis.around(xs, start=_LEFT, end=_WIDTH - _RIGHT, whole=True)
    y_axis = _Axis.around(drawn, start=_HEIGHT - _BOTTOM, end=_TOP, whole=False)
    parts += _grid(x_axis, y_axis)
    if len(drawn) > 1:
        parts.append(f'<path class="raw" d="{_path(_extremes(xs, raw), x_axis, y_axis)}"/>')
        parts.append(f'<path class="bold" d="{_path(_last_of_each(xs, smoothed), x_axis, y_axis)}"/>')
    parts += _final_value(xs, smoothed, x_axis, y_axis)
    parts += _legend()
    return "\n".join([*parts, "</svg>\n"])


def sparkline(values: Iterable[float | None], width: int) -> str:
    """The values as at most `width` block characters, from the lowest to the highest; a gap where there is none.

    Where there are more values than characters, each character is the mean of its share.
    """
    series = [_number_or_nan(value) for value in values]
    count = min(width, len(series))
    shares = [series[index * len(series) // count : (index + 1) * len(series) // count] for index in range(count)]
    means = [_mean_of_finite(share) for share in shares]
    finite = [mean for mean in means if not math.isnan(mean)]
    if not finite:
        return " " * len(means)
    low, span = min(finite), max(finite) - min(finite)

    def block(mean: float) -> str:
        if math.isnan(mean):
            return " "
        return _BLOCKS[round((mean - low) / span * (len(_BLOCKS) - 1))] if span else _BLOCKS[len(_BLOCKS) // 2]

    return "".join(map(block, means))


@dataclass(frozen=True)
class _Axis:
    """A linear scale from values to pixels, and the values that are marked on it."""

    low: float
    high: float
    start: float
    end: float
    ticks: tuple[float, ...]

    @classmethod
    def around(cls, values: Sequence[float], *, start: float, end: float, whole: bool) -> _Axis:
        """Steps (`whole`) fill the axis; losses are given the full tick below and above them."""
        low, high = min(values), max(values)
        if high - low <= 1e-12 * max(abs(low), abs(high), 1.0):  # one point, or a constant: put it in the middle
            room = abs(low) * 0.1 if abs(low) > 1e-12 and not whole else 1.0
            low, high = low - room, high + room
        gap = _nice_gap((high - low) / 6)
        if whole:
            gap = max(1.0, gap)
        else:
            low, high = math.floor(low / gap) * gap, math.ceil(high / gap) * gap
        first, last = math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9)
        ticks = tuple(index * gap for index in range(first, last + 1))
        return cls(low, high, start, end, ticks)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _nice_gap(rough: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * (1 - 1e-9))


def _grid(x_axis: _Axis, y_axis: _Axis) -> list[str]:
    right, bottom = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
    parts = []
    for tick in y_axis.ticks:
        y = y_axis(tick)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(_LEFT - 8, y + 4.5, f"{tick:.6g}", anchor="end"))
    for tick in x_axis.ticks:
        x = x_axis(tick)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{bottom}" y2="{bottom + 5}"/>')
        parts.append(_text(x, bottom + 20, f"{tick:,.0f}", anchor="middle"))
    parts.append(f'<text class="axis" x="{(_LEFT + right) / 2}" y="{_HEIGHT - 10}" text-anchor="middle">step</text>')
    middle = (_TOP + bottom) / 2
    parts.append(
        f'<text class="axis" x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">loss</text>'
    )
    return parts


def _legend() -> list[str]:
    right = _WIDTH - _RIGHT
    return [
        '<g class="key">',
        f'<path class="raw" d="M{right - 196} 28h22"/>',
        _text(right - 168, 32, "logged"),
        f'<path class="bold" d="M{right - 112} 28h22"/>',
        _text(right - 84, 32, "smoothed 0.9"),
        "</g>",
    ]


def _final_value(xs: Sequence[float], smoothed: Sequence[float], x_axis: _Axis, y_axis: _Axis) -> list[str]:
    step, value = next((x, y) for x, y in zip(reversed(xs), reversed(smoothed), strict=True) if not math.isnan(y))
    x, y = x_axis(step), y_axis(value)
    above = y - 12 if y > _TOP + 24 else y + 22
    text = f'<text class="value" x="{x:.1f}" y="{above:.1f}" text-anchor="end">{value:.4g}</text>'
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>', text]


def _shortened(title: str) -> str:
    return title if len(title) <= _TITLE_CHARACTERS else title[: _TITLE_CHARACTERS - 1] + "…"


def _text(x: float, y: float, content: str, *, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(content)}</text>'


def _path(points: Iterable[tuple[float, float]], x_axis: _Axis, y_axis: _Axis) -> str:
    commands, pen_up = [], True
    for x, y in points:
        if math.isnan(y):
            pen_up = True
            continue
        commands.append(f"{'M' if pen_up else 'L'}{x_axis(x):.1f} {y_axis(y):.1f}")
        pen_up = False
    return "".join(commands)


def _shares(count: int) -> list[range]:
    shares = min(count, _POINTS)
    return [range(index * count // shares, (index + 1) * count // shares) for index in range(shares)]


def _extremes(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    """The lowest and the highest point of each share, in their order."""
    points = []
    for share in _shares(len(xs)):
        finite = [index for index in share if not math.isnan(ys[index])]
        kept = {min(finite, key=ys.__getitem__), max(finite, key=ys.__getitem__)} if finite else {share[0]}
        points += [(xs[index], ys[index]) for index in sorted(kept)]
    return points


def _last_of_each(xs: Sequence[float], ys: Sequence[float]) -> list[tuple[float, float]]:
    return [(xs[share[-1]], ys[share[-1]]) for share in _shares(len(xs))]


def _number_or_nan(loss: float | None) -> float:
    return loss if loss is not None and abs(loss) <= _MAX_LOSS else math.nan


def _mean_of_finite(values: Sequence[float]) -> float:
    finite = [value for value in values if not math.isnan(value)]
    return sum(finite) / len(finite) if finite else math.nan
