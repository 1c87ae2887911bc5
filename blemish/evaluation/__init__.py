"""Judging what was learned, and the pages that show it."""
