"""The paper's tables: their cells, computed by any number of processes, beside the paper's figures."""

from __future__ import annotations

from .cells import Cell, Protocol, Sources, lock, measure, plan, read_cells
from .summary import Summary, check_protocol, summarise, to_csv, to_markdown
from .tables import TABLES, Ordering, Row, Table
from .work import Outcome, Task, shard_of, work, work_in_parallel

__all__ = [
    "TABLES",
    "Cell",
    "Ordering",
    "Outcome",
    "Protocol",
    "Row",
    "Sources",
    "Summary",
    "Table",
    "Task",
    "check_protocol",
    "lock",
    "measure",
    "plan",
    "read_cells",
    "shard_of",
    "summarise",
    "to_csv",
    "to_markdown",
    "work",
    "work_in_parallel",
]
