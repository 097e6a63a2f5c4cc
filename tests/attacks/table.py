"""The table of attacks, printed at the end of a run: what was tried, what came of it, and what it cost us."""

WIDEST_CELL = 72
HEADINGS = ("attack", "variation", "outcome", "CPU")
ATTACK = "attack"


def pytest_terminal_summary(terminalreporter, config):
    reports = terminalreporter.getreports("passed") + terminalreporter.getreports("failed")
    rows = [row for report in reports for name, row in report.user_properties if name == ATTACK]
    if not rows:
        return
    terminalreporter.section(f"attacks, drawn with --attack-seed={config.getoption('attack_seed')}")
    lines = [
        HEADINGS,
        *((kind, tried, outcome, f"{cost:.2f} s") for kind, tried, outcome, cost in sorted(rows)),
    ]
    cut = [
        [cell if len(cell) <= WIDEST_CELL else cell[: WIDEST_CELL - 1] + "…" for cell in line]
        for line in lines
    ]
    widths = [max(map(len, column)) for column in zip(*cut, strict=True)]
    for line in cut:
        cells = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        terminalreporter.line("  ".join(cells).rstrip())
