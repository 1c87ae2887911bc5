"""Judging what was learned, and the pages that show it."""

from __future__ import annotations

from .findings import Drawn, Findings, inspect_degradation, noise_curve
from .pages import Column, check_replaceable, comparison_page, inspect_page
from .report import Record, report_page

__all__ = [
    "Column",
    "Drawn",
    "Findings",
    "Record",
    "check_replaceable",
    "comparison_page",
    "inspect_degradation",
    "inspect_page",
    "noise_curve",
    "report_page",
]
