"""A verification report as tables in a terminal."""

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.assessment.formula import RELEVANCE_WEIGHTS
from app.assessment.report import Report


def show(report: Report, console: Console) -> None:
    """Print the parts that the report has."""
    if report.technical:
        checks = _table("Technical checks", "check", "", "measured", "wanted", "points", "reason")
        for check in report.technical.checks:
            points = f"{check.weight if check.passed else 0:g} of {check.weight:g}"
            mark = "[green]passed[/]" if check.passed else "[red]failed[/]"
            checks.add_row(
                _plain(check.name), mark, *map(_plain, (check.value, check.threshold, points, check.reason))
            )
        console.print(checks)
    if report.quality:
        table = _table("Quality", "measure", "share", "let pass", "deduction")
        for deduction in report.quality.deductions:
            table.add_row(
                *map(_plain, (deduction.name, deduction.value, deduction.threshold, deduction.points))
            )
        console.print(table)
    if judge := report.judge:
        table = _table(f"Judge: {escape(judge.model)}, {escape(judge.prompt_version)}", "question", "score")
        for name in RELEVANCE_WEIGHTS:
            table.add_row(name, _plain(getattr(judge, name)))
        console.print(table, f"“{escape(judge.reasoning)}”")
    elif report.verdict is None:
        console.print(
            "The judge was not asked: VLM_API_URL is not set, so there is no relevance and no final score."
        )
    if verdict := report.verdict:
        table = _table("Final score", "part", "score", "weight", "points")
        for part in verdict.parts:
            table.add_row(*map(_plain, (part.name, part.score, part.weight, part.points)))
        table.add_row("final", "", "", _plain(verdict.final_score), style="bold")
        console.print(table)
        colour = "red" if verdict.rejection_reason else "green"
        console.print(f"[{colour}]{verdict.status}[/] {escape(verdict.rejection_reason or '')}")
    if report.stage_seconds:
        stages = report.stage_seconds.model_dump(exclude_none=True)
        console.print(f"[dim]{', '.join(f'{name} {seconds:g} s' for name, seconds in stages.items())}[/]")


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _plain(value: Any) -> str:
    """A value for a cell: without markup, floats short."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))
