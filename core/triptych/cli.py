"""The entry point of the command `triptych`."""

from __future__ import annotations

from triptych.commands import app, comparing, edits, generating, pipelines, placing, porting, reports, sharing

__all__ = ["comparing", "edits", "generating", "main", "pipelines", "placing", "porting", "reports", "sharing"]


def main() -> None:
    """Run the command line."""
    app(prog_name="triptych")
