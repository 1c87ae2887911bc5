"""Judging what was learned, and the pages that show it."""

from __future__ import annotations

from .before_after import BeforeAfter, Shown, before_after_page, most_changed, show
from .blind_page import (
    BlindPair,
    Trial,
    blind_page,
    blind_pair,
    page_digest,
    pair_digest,
    plan_trials,
)
from .cache import FeatureCache, default_folder
from .choices import Choices, Preference, preference, read_choices, sign_test, wilson
from .code_findings import CodeFindings, inspect_codes
from .codes import Entries, Traversal
from .estimate import Estimate, estimate_damage
from .findings import Drawn, Findings, inspect_degradation, noise_curve
from .folder import QUANTITIES, FolderFindings, inspect_folder
from .likelihoods import CONDITIONS, Likelihoods, LogisticLaw, judge_likelihood
from .pages import (
    Column,
    check_replaceable,
    codes_page,
    comparison_page,
    folder_page,
    inspect_page,
)
from .report import Record, report_page
from .robustness import CLEAN, STRENGTHS, Profile, robustness, robustness_grid
from .scores import (
    IMAGE_METRICS,
    PAIR_METRICS,
    SET_METRICS,
    Evaluation,
    Judges,
    Score,
    check_counts,
    pair_scores,
    set_scores,
)
from .sets import ImageSet, chosen, in_channels, prior_set, source_set
from .specimen import damaged_specimen, specimen
from .verdicts import Share, Suggestion, Verdict

__all__ = [
    "CLEAN",
    "CONDITIONS",
    "IMAGE_METRICS",
    "PAIR_METRICS",
    "QUANTITIES",
    "SET_METRICS",
    "STRENGTHS",
    "BeforeAfter",
    "BlindPair",
    "Choices",
    "CodeFindings",
    "Column",
    "Drawn",
    "Entries",
    "Estimate",
    "Evaluation",
    "FeatureCache",
    "Findings",
    "FolderFindings",
    "ImageSet",
    "Judges",
    "Likelihoods",
    "LogisticLaw",
    "Preference",
    "Profile",
    "Record",
    "Score",
    "Share",
    "Shown",
    "Suggestion",
    "Traversal",
    "Trial",
    "Verdict",
    "before_after_page",
    "blind_page",
    "blind_pair",
    "check_counts",
    "check_replaceable",
    "chosen",
    "codes_page",
    "comparison_page",
    "damaged_specimen",
    "default_folder",
    "estimate_damage",
    "folder_page",
    "in_channels",
    "inspect_codes",
    "inspect_degradation",
    "inspect_folder",
    "inspect_page",
    "judge_likelihood",
    "most_changed",
    "noise_curve",
    "page_digest",
    "pair_digest",
    "pair_scores",
    "plan_trials",
    "preference",
    "prior_set",
    "read_choices",
    "report_page",
    "robustness",
    "robustness_grid",
    "set_scores",
    "show",
    "sign_test",
    "source_set",
    "specimen",
    "wilson",
]
