"""The mix of a run: its sources with their rows, repeats, tokens and shares, and what is doubtful about it.

Owns how sources are counted and shown. The arithmetic is `plan.mix`'s, the counts of files `data_check`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from sft_kit.config.schema import RunConfig
from sft_kit.findings import Finding
from sft_kit.plan.mix import MOST_REPEATS, Source, epochs_of, rows_for_share
from sft_kit.run.data_check import DataFile

SMALL_SHARE = 0.05
FEW_PASSES = 2.0


def sample_size(entry: str) -> int | None:
    """N of ms-swift's `data.jsonl#N`."""
    count = entry.rpartition("#")[2]
    return int(count) if "#" in entry and count.isdigit() else None


def user_sources(config: RunConfig, files: Sequence[DataFile]) -> list[Source]:
    """A source for each entry of `dataset`; what lies on a hub has as many rows as its `#N` says."""
    sources = []
    for index, entry in enumerate(config.dataset or []):
        own = [file for file in files if (file.key, file.index) == ("dataset", index)]
        rows = sum(file.kept for file in own) if own else None
        trained = _after_sampling(own, sample_size(entry)) if own else sample_size(entry)
        sources.append(Source(entry, rows, trained, _tokens(own, trained)))
    return sources


def mix_of(config: RunConfig, files: Sequence[DataFile], replay_rows: int | None = None) -> list[Source]:
    """All sources, in the order in which ms-swift gets them: identity, replay (`replay_rows`, else as many as were
    asked for), the user's own."""
    others = user_sources(config, files)
    wanted = config.replay if replay_rows is None else replay_rows
    if wanted:
        others.insert(0, Source("replay", wanted, wanted))
    identity = next((file for file in files if file.key == "identity"), None)
    if identity is None or config.identity is None:
        return others
    trained = identity_rows(config.identity.share, identity.kept, others)
    return [Source("identity", identity.kept, trained, _tokens([identity], trained)), *others]


def _tokens(files: Sequence[DataFile], trained: int | None) -> int | None:
    """Tokens of `trained` rows of `files`, by the mean of those that were counted."""
    counted = [file for file in files if file.tokens]
    rows = sum(file.kept for file in counted)
    if not trained or not rows:
        return None
    return round(trained * sum(file.tokens.mean * file.kept for file in counted if file.tokens) / rows)


def _after_sampling(files: Sequence[DataFile], sample: int | None) -> int:
    """Rows trained of `sample` rows: ms-swift draws them before it leaves out those over max_length."""
    drawn_from, kept = sum(file.counts.rows for file in files), sum(file.kept for file in files)
    return kept if sample is None or not drawn_from else round(sample * kept / drawn_from)


def identity_sample(config: RunConfig, files: Sequence[DataFile], replay_rows: int) -> int | None:
    """N of `identity.jsonl#N` with which ms-swift repeats the rows up to `identity.share`; None where it need not."""
    source, *_ = mix_of(config, files, replay_rows)
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
        "on a hub" if source.rows is None else f"{source.rows:,}",
        "?" if source.trained is None else f"{source.trained:,}",
        "" if repeats is None else f"{repeats:.2g}",
        "" if share is None else f"{share:.1%}",
        "" if source.tokens is None else f"{source.tokens:,}",
    )


def mix_values(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """The mix as JSON values, shares included; it is also what the manifest of a run keeps."""
    return [{**asdict(source), "repeats": source.repeats, "share": source.share(sources)} for source in sources]


def mix_line(sources: Sequence[Source]) -> str:
    """`identity 384 rows (120 x 3.2, 50.0%), mine.jsonl 294 (38.3%)`"""
    parts = []
    for source in sources:
        share, repeats = source.share(sources), source.repeats
        details = [f"{source.rows:,} x {repeats:.2g}" if repeats is not None and repeats != 1 else "",
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
            message = f"{source.name}: has {source.rows} rows, so that each is trained {repeats:.2g} times an epoch"
            yield Finding("repeated-rows", "warning", "dataset", message, f"ask for #{source.rows} or fewer")
    identity = next((source for source in sources if source.name == "identity"), None)
    if identity is None or epochs is None or not identity.repeats:
        return
    seen, share = identity.repeats * epochs, identity.share(sources)
    if seen > MOST_REPEATS:
        message = f"each identity row is trained {seen:.2g} times; above {MOST_REPEATS:g} it takes over other answers"
        yield Finding("many-repeats", "warning", "identity", message, "more identity.rows and fewer epochs")
    elif share is not None and share < SMALL_SHARE and seen < FEW_PASSES * 2:
        message = f"{identity.trained} of {total} rows ({share:.1%}) are identity rows; it may not take"
        yield Finding("small-identity-share", "warning", "identity", message, "identity.share: 0.2 repeats them")
