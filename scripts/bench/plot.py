"""The ratios of a benchmark as a picture."""

from pathlib import Path

from report import Line, shown


def plot(lines: list[Line], path: Path) -> None:
    """Draw a bar for each ratio, from 1 to its median, with its range and its goal as a mark."""
    from matplotlib.figure import Figure

    ratios = [line for line in lines if line.unit == "x"]
    figure = Figure(figsize=(9, 1.2 + 0.34 * len(ratios)), layout="constrained")
    axes = figure.subplots()
    for y, line in enumerate(ratios):
        colour = {True: "tab:green", False: "tab:red", None: "tab:grey"}[line.met]
        axes.barh(y, line.median - 1, left=1, height=0.6, color=colour, alpha=0.6)
        axes.plot([line.low, line.high], [y, y], color="black", linewidth=1.2)
        axes.text(line.high, y, f"  {shown(line.median)}", va="center", fontsize=8)
        if line.goal:
            axes.plot(line.goal.number, y, "|", color="black", markersize=15)
    names = [f"{one.row}: {one.what}\n{one.case.split(';')[0]}".strip() for one in ratios]
    axes.set_yticks(range(len(ratios)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.axvline(1, color="black", linewidth=0.8)
    axes.margins(x=0.12)
    axes.set_xlabel(
        "ratio of medians; line: range, mark: goal; green: met, red: not, grey: no goal"
    )
    figure.savefig(path, dpi=120)
