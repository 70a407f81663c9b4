"""report.json holds the whole report, and says which format it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import pytest

from sft_kit.errors import UsageError
from sft_kit.msswift.logs import StepLog
from sft_kit.report.page import Report


def test_a_report_comes_back_from_its_json(report: Report) -> None:
    assert Report.from_json(json.loads(json.dumps(report.to_json()))) == report


def test_its_json_has_the_documented_keys(report: Report) -> None:
    keys = "schema title created facts command training evaluation shortfalls advice loss mix"
    assert list(report.to_json()) == keys.split()
    assert report.to_json()["schema"] == report.to_json()["evaluation"]["schema"] == 2


def test_a_loss_that_is_no_number_is_null(report: Report) -> None:
    broken = replace(report, loss=(StepLog(1, 3, loss=math.nan), StepLog(2, 3, loss=math.inf), StepLog(3, 3)))
    text = json.dumps(broken.to_json()["loss"], allow_nan=False)
    assert [step["loss"] for step in json.loads(text)] == [None, None, None]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": 1, "pairs": []}, "the report has schema 1, and this sft-kit reads 2"),
        ([], "the report has schema None, and this sft-kit reads 2"),
        ({"schema": 2}, "the report cannot be read: KeyError: 'title'"),
    ],
)
def test_another_schema_and_what_is_no_report_are_refused(values: object, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Report.from_json(values)  # type: ignore[arg-type]
    assert [problem.message for problem in caught.value.problems] == [message]


def test_a_broken_part_is_refused_with_its_fault(report: Report) -> None:
    values = report.to_json() | {"advice": [{"leaver": "replay"}]}
    with pytest.raises(UsageError, match="leaver"):
        Report.from_json(values)
