"""The arithmetic of a data mix."""

from __future__ import annotations

import pytest

from sft_kit.plan.mix import Source, epochs_of, rows_for_share


@pytest.mark.parametrize(
    ("share", "rows", "others", "trained"),
    [(0.5, 100, 300, 300), (0.3, 120, 1000, 429), (0.25, 120, 60, 120), (0.5, 120, 0, 120), (0.9, 10, 90, 810)],
)
def test_identity_rows_are_repeated_until_they_are_the_share_asked_for(
    share: float, rows: int, others: int, trained: int
) -> None:
    assert rows_for_share(share, rows, others) == trained


def test_a_share_below_what_is_there_leaves_no_row_out() -> None:
    assert rows_for_share(0.1, 120, 120) == 120


def test_shares_are_of_the_rows_of_one_epoch() -> None:
    sources = [Source("identity", 120, 360), Source("mine.jsonl", 640, 640)]

    assert [source.share(sources) for source in sources] == [0.36, 0.64]
    assert sources[0].repeats == 3.0


def test_no_share_is_told_while_one_source_is_not_counted() -> None:
    sources = [Source("identity", 120, 120), Source("owner/on-the-hub", None, None)]

    assert [source.share(sources) for source in sources] == [None, None]


def test_epochs_follow_max_steps_then_the_config_then_ms_swift() -> None:
    assert epochs_of(10, 75, 16, 600) == 2.0
    assert epochs_of(10, -1, 16, 600) == 10
    assert epochs_of(None, None, 16, 600) == 3.0
    assert epochs_of(None, 75, 16, None) is None
