"""The papers' tables: their cells, computed by any number of processes, beside the papers' figures."""

from __future__ import annotations

from .ablation import ABLATION, AblationBench, AblationCell, AblationProtocol, plan_ablation
from .ablation_rows import ABLATION_ROWS, AblationRow
from .ablation_summary import AblationSummary, check_ablation_protocol, summarise_ablation
from .cells import Cell, Protocol, Sources, lock, measure, plan, read_cells
from .documents import MeasuredTask, read_documents
from .inversion import (
    INVERSION,
    INVERSION_METHODS,
    INVERSION_TASKS,
    InversionBench,
    InversionCell,
    InversionProtocol,
    check_inversion_protocol,
    fits,
    plan_inversion,
    read_inversion_cells,
)
from .inversion_summary import InversionSummary, summarise_inversion
from .summary import Summary, check_protocol, summarise, to_csv, to_markdown
from .tables import TABLES, Ordering, Row, Table
from .work import Outcome, Task, Work, shard_of, work, work_in_parallel

__all__ = [
    "ABLATION",
    "ABLATION_ROWS",
    "INVERSION",
    "INVERSION_METHODS",
    "INVERSION_TASKS",
    "TABLES",
    "AblationBench",
    "AblationCell",
    "AblationProtocol",
    "AblationRow",
    "AblationSummary",
    "Cell",
    "InversionBench",
    "InversionCell",
    "InversionProtocol",
    "InversionSummary",
    "MeasuredTask",
    "Ordering",
    "Outcome",
    "Protocol",
    "Row",
    "Sources",
    "Summary",
    "Table",
    "Task",
    "Work",
    "check_ablation_protocol",
    "check_inversion_protocol",
    "check_protocol",
    "fits",
    "lock",
    "measure",
    "plan",
    "plan_ablation",
    "plan_inversion",
    "read_cells",
    "read_documents",
    "read_inversion_cells",
    "shard_of",
    "summarise",
    "summarise_ablation",
    "summarise_inversion",
    "to_csv",
    "to_markdown",
    "work",
    "work_in_parallel",
]
