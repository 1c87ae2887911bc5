"""The papers' tables: their cells, computed by any number of processes, beside the papers' figures."""

from __future__ import annotations

from .cells import Cell, Protocol, Sources, lock, measure, plan, read_cells
from .inversion import (
    INVERSION,
    INVERSION_METHODS,
    INVERSION_TASKS,
    InversionBench,
    InversionCell,
    InversionProtocol,
    InversionTask,
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
    "INVERSION",
    "INVERSION_METHODS",
    "INVERSION_TASKS",
    "TABLES",
    "Cell",
    "InversionBench",
    "InversionCell",
    "InversionProtocol",
    "InversionSummary",
    "InversionTask",
    "Ordering",
    "Outcome",
    "Protocol",
    "Row",
    "Sources",
    "Summary",
    "Table",
    "Task",
    "Work",
    "check_inversion_protocol",
    "check_protocol",
    "fits",
    "lock",
    "measure",
    "plan",
    "plan_inversion",
    "read_cells",
    "read_inversion_cells",
    "shard_of",
    "summarise",
    "summarise_inversion",
    "to_csv",
    "to_markdown",
    "work",
    "work_in_parallel",
]
