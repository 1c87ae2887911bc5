"""Judging what was learned, and the pages that show it."""

from __future__ import annotations

from .findings import Drawn, Findings, inspect_degradation, noise_curve
from .folder import QUANTITIES, FolderFindings, inspect_folder
from .pages import Column, check_replaceable, comparison_page, folder_page, inspect_page
from .report import Record, report_page
from .verdicts import Share, Suggestion, Verdict

__all__ = [
    "QUANTITIES",
    "Column",
    "Drawn",
    "Findings",
    "FolderFindings",
    "Record",
    "Share",
    "Suggestion",
    "Verdict",
    "check_replaceable",
    "comparison_page",
    "folder_page",
    "inspect_degradation",
    "inspect_folder",
    "inspect_page",
    "noise_curve",
    "report_page",
]
