"""The mix of a run: its sources with their rows, repeats, tokens and shares, and what is doubtful about it.

Owns how sources are counted and shown. The arithmetic is `plan.mix`'s, the counts of files `data_check`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any

from sft_kit.config.schema import RunConfig
from sft_kit.findings import Finding
from sft_kit.msswift.dataset_syntax import parse_entry
from sft_kit.plan.mix import MOST_REPEATS, Source, epochs_of, rows_for_share
from sft_kit.resources import user_path
from sft_kit.run.data_check import DataFile

SMALL_SHARE = 0.05
FEW_PASSES = 2.0


def user_sources(config: RunConfig, files: Sequence[DataFile]) -> list[Source]:
    """A source for each entry of `dataset` and `cached_dataset`, before rows are held out for validation; what lies on
    a hub or in a cache has as many rows as its `#N` says."""
    sources = []
    for index, entry in enumerate(config.dataset or []):
        own = [file for file in files if (file.key, file.index) == ("dataset", index)]
        sample = parse_entry(entry).sample
        rows = sum(file.kept for file in own) if own else None
        trained = _after_sampling(own, sample, repeated=not config.streaming) if own else sample
        sources.append(Source(entry, rows, trained, _tokens(own, trained)))
    cached = (config.model_extra or {}).get("cached_dataset") or []
    for entry in cached if isinstance(cached, list) else [cached]:
        sources.append(Source(str(entry), None, parse_entry(str(entry)).sample))
    return sources


def mix_of(config: RunConfig, files: Sequence[DataFile], replay_rows: int | None = None) -> list[Source]:
    """All sources, in the order in which ms-swift gets them: identity, replay (`replay_rows`, else as many as were
    asked for), the user's own; without the rows that ms-swift holds out for validation."""
    ratio = held_out_ratio(config)
    return [_without_held_out(source, ratio) for source in _drawn(config, files, replay_rows)]


def _drawn(config: RunConfig, files: Sequence[DataFile], replay_rows: int | None) -> list[Source]:
    """The sources as they are drawn, before rows are held out."""
    sources = user_sources(config, files)
    wanted = config.replay if replay_rows is None else replay_rows
    if wanted:
        sources.insert(0, Source("replay", wanted, wanted))
    identity = next((file for file in files if file.key == "identity"), None)
    if identity is not None and config.identity is not None:
        trained = identity_rows(config.identity.share, identity.kept, sources)
        sources.insert(0, Source("identity", identity.kept, trained, _tokens([identity], trained)))
    if (config.model_extra or {}).get("interleave_prob") and len(sources) > 1:
        return [replace(source, trained=None, tokens=None) for source in sources]  # drawn by chance until one runs out
    return sources


def held_out_ratio(config: RunConfig) -> float:
    """The part of each source that ms-swift takes out for validation, which it does only without `val_dataset`."""
    if config.val_dataset or config.streaming or (config.eval_strategy or config.save_strategy) == "no":
        return 0.0
    return config.split_dataset_ratio or 0.0


def _without_held_out(source: Source, ratio: float) -> Source:
    drawn = source.trained
    if not ratio or not drawn:
        return source
    distinct = drawn if source.rows is None else min(source.rows, drawn)
    trained = max(drawn - max(int(distinct * ratio), 1), 0)
    return replace(source, trained=trained, tokens=source.tokens and round(source.tokens * trained / drawn))


def _tokens(files: Sequence[DataFile], trained: int | None) -> int | None:
    """Tokens of `trained` rows of `files`, by the mean of those that were counted."""
    counted = [file for file in files if file.tokens]
    rows = sum(file.kept for file in counted)
    if not trained or not rows:
        return None
    return round(trained * sum(file.tokens.mean * file.kept for file in counted if file.tokens) / rows)


def _after_sampling(files: Sequence[DataFile], sample: int | None, *, repeated: bool) -> int:
    """Rows trained of `sample` rows: ms-swift draws them before it leaves out those over max_length. It repeats rows
    where there are not as many, unless it reads them while it trains."""
    drawn_from, kept = sum(file.counts.rows for file in files), sum(file.kept for file in files)
    if sample is None or not drawn_from:
        return kept
    return round((sample if repeated else min(sample, drawn_from)) * kept / drawn_from)


def identity_sample(config: RunConfig, files: Sequence[DataFile], replay_rows: int) -> int | None:
    """N of `identity.jsonl#N` with which ms-swift repeats the rows up to `identity.share`; None where it need not."""
    source, *_ = _drawn(config, files, replay_rows)
    if source.name != "identity" or not source.rows or source.trained in (None, source.rows):
        return None
    drawn_from = next(file.counts.rows for file in files if file.key == "identity")
    return round((source.trained or 0) * drawn_from / source.rows)


def identity_rows(share: float | None, rows: int, others: Sequence[Source]) -> int | None:
    """Identity rows that an epoch trains; None when `share` is given and another source cannot be counted."""
    if share is None:
        return rows
    counts = [source.trained for source in others]
    return None if None in counts else rows_for_share(share, rows, sum(count or 0 for count in counts))


MIX_COLUMNS = ("source", "rows", "trained", "repeats", "share", "tokens")


def mix_rows(sources: Sequence[Source]) -> list[tuple[str, ...]]:
    """The cells of a table: one line for each source and one for all of them."""
    lines = [_cells(source, sources) for source in sources]
    counts = [source.trained for source in sources]
    if len(sources) > 1 and None not in counts:
        tokens = [source.tokens for source in sources]
        total = f"{sum(filter(None, tokens)):,}" if None not in tokens else ""
        lines.append(("all", "", f"{sum(filter(None, counts)):,}", "", "", total))
    return lines


def _cells(source: Source, sources: Sequence[Source]) -> tuple[str, ...]:
    share, repeats = source.share(sources), source.repeats
    return (
        source.name,
        "not counted" if source.rows is None else f"{source.rows:,}",
        "?" if source.trained is None else f"{source.trained:,}",
        "" if repeats is None else times(repeats),
        "" if share is None else f"{share:.1%}",
        "" if source.tokens is None else f"{source.tokens:,}",
    )


def times(repeats: float) -> str:
    """`1`, `3.2`, `150`: how often, as precisely as it is worth."""
    return f"{repeats:,.0f}" if repeats >= 10 or repeats == round(repeats) else f"{repeats:.1f}"


def mix_values(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The mix as JSON values, shares included; it is also what the manifest of a run keeps."""
    return [{**asdict(source), "repeats": source.repeats, "share": source.share(sources)} for source in sources]


def mix_line(sources: Sequence[Source]) -> str:
    """`identity 384 rows (120 x 3.2, 50.0%), mine.jsonl 294 (38.3%)`"""
    parts = []
    for source in sources:
        share, repeats = source.share(sources), source.repeats
        details = [f"{source.rows:,} x {times(repeats)}" if repeats is not None and repeats != 1 else "",
                   "" if share is None else f"{share:.1%}"]  # fmt: skip
        said = ", ".join(detail for detail in details if detail)
        count = "?" if source.trained is None else f"{source.trained:,}"
        parts.append(f"{source.name} {count} rows" + (f" ({said})" if said else ""))
    return "one epoch: " + ", ".join(parts)


def mix_findings(config: RunConfig, sources: Sequence[Source], rows_a_step: int) -> Iterator[Finding]:
    """What is doubtful about a mix; places are the config's keys, for the caller to find."""
    counts = [source.trained for source in sources]
    total = None if None in counts else sum(filter(None, counts))
    epochs = epochs_of(config.num_train_epochs, config.max_steps, rows_a_step, total)
    for source in sources:
        repeats = source.repeats
        if source.name != "identity" and repeats is not None and repeats > 1:
            message = f"{source.name}: has {source.rows} rows, so that each is trained {times(repeats)} times an epoch"
            yield Finding("repeated-rows", "warning", "dataset", message, f"ask for #{source.rows} or fewer")
    named = Counter(parse_entry(entry).name for entry in config.dataset or [])
    for name in (name for name, times in named.items() if times > 1 and user_path(name).exists()):
        message = f"{name}: named {named[name]} times, so that an epoch trains its rows more than once"
        yield Finding("repeated-rows", "warning", "dataset", message, "name it once; #N behind it says how many rows")
    identity = next((source for source in sources if source.name == "identity"), None)
    wanted, reached = config.identity and config.identity.share, identity.share(sources) if identity else None
    # over the size of the held-out part's rounding, so that only a share that cannot be had is told
    if identity and wanted and reached is not None and reached > wanted + 0.02:
        message = (
            f"{wanted:.0%} asked, but the {identity.rows} identity rows are {reached:.0%}; share only repeats rows"
        )
        yield Finding("share-exceeded", "warning", "identity.share", message, "lower identity.rows, or add other rows")
    if identity is None or epochs is None or not identity.repeats:
        return
    seen, share = identity.repeats * epochs, identity.share(sources)
    if seen > MOST_REPEATS:
        fix = "more identity.rows and fewer epochs" + (", or a smaller share" if wanted else "")
        message = (
            f"each identity row is trained {times(seen)} times; above {MOST_REPEATS:g} it takes over other answers"
        )
        yield Finding("many-repeats", "warning", "identity", message, fix)
    elif share is not None and share < SMALL_SHARE and seen < FEW_PASSES * 2:
        message = f"{identity.trained} of {total} rows ({share:.1%}) are identity rows; it may not take"
        yield Finding("small-identity-share", "warning", "identity", message, "identity.share: 0.2 repeats them")
