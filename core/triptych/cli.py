"""The entry point of the command `triptych`."""

from __future__ import annotations

from triptych.commands import app, edits, reports

__all__ = ["edits", "main", "reports"]


def main() -> None:
    """Run the command line."""
    app(prog_name="triptych")
