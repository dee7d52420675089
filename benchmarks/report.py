"""Table and figure of the results of the speed benchmark."""

import pathlib
from typing import Any

import numpy as np
import pandas as pd

from .contestants import BASELINES, WORKS

OURS = "sktransformers"
FIRST = f"{OURS}, first to reach it"
MOST_BUSY = 0.1  # CPU load from other processes above which a row gets a note
HEADER = (
    "set",
    "work",
    "contestant",
    "median",
    "min to max",
    "times ours",
    "times faster than the usual way",
    "accuracy",
    "notes",
)


def table(path: pathlib.Path) -> str:
    """Return the results in a CSV file as a Markdown table.

    Ratios are computed within each repeat; the table has their median and range.
    """
    frame = read(path)
    peaks = peak_rates(frame)
    lines = [HEADER, ("---",) * len(HEADER)]
    for (name, work, n), group in frame.groupby(["set", "work", "n"], sort=False):
        lines += [
            (f"{name}, {n}" if n > 1 else name, work, *cells)
            for cells in rows_of(group, work, peaks)
        ]
    where = frame[["device", "threads", "versions"]].drop_duplicates()
    heads = [
        f"{row.device}, {row.threads} threads, {row.versions}"
        for row in where.itertuples()
    ]
    usual = ", ".join(f"{name} ({work})" for work, name in BASELINES.items())
    body = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return "\n".join([*heads, f"The usual way: {usual}", "", body])


def read(path: pathlib.Path) -> pd.DataFrame:
    """Return the rows in the order of the configurations, with the race's winner."""
    frame = pd.read_csv(path)
    frame = pd.concat([frame, first_to_reach(frame)], ignore_index=True)
    order = [(w, c.name) for w, contestants in WORKS.items() for c in contestants]
    order.append(("race", FIRST))
    places = {key: place for place, key in enumerate(order)}
    keys = zip(frame.work, frame.contestant, strict=True)
    frame["place"] = [places.get(key, len(places)) for key in keys]
    return frame.sort_values(["set", "place", "repeat"], kind="stable")


def first_to_reach(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the fewest epochs that reach the accuracy of the Trainer, per repeat."""
    race = frame[frame.work == "race"]
    found = []
    for _, group in race.groupby(["set", "n", "repeat"]):
        goal = group.loc[group.contestant == BASELINES["race"], "accuracy"]
        ours = group[group.contestant.str.startswith(OURS)]
        reached = ours[ours.accuracy >= goal.min()].sort_values("epochs")
        found.append(reached.head(1).assign(contestant=FIRST))
    return pd.concat(found) if found else race


def peak_rates(frame: pd.DataFrame) -> dict[str, float]:
    """Return the peak rate of each precision, in FLOP/s."""
    rows = frame[frame.work == "roofline"]
    return (rows.flops / rows.seconds).groupby(rows.precision).max().to_dict()


def rows_of(
    group: pd.DataFrame, work: str, peaks: dict[str, float]
) -> list[tuple[str, ...]]:
    """Return the table rows of one task on one data set."""
    seconds = group.pivot(index="repeat", columns="contestant", values="seconds")
    ours = FIRST if work == "race" else OURS
    lines = []
    for contestant, rows in group.groupby("contestant", sort=False):
        own = seconds[contestant].dropna()
        faster = ratio(seconds, BASELINES.get(work), contestant)
        lines.append(
            (
                str(contestant),
                duration(own.median()),
                f"{duration(own.min())} to {duration(own.max())}"
                if own.size > 1
                else "",
                ratio(seconds, contestant, ours),
                faster,
                mean_and_range(rows.accuracy),
                notes(rows, peaks),
            )
        )
    return lines


def ratio(seconds: pd.DataFrame, above: Any, below: Any) -> str:
    """Format the ratio of the times of two configurations, computed per repeat."""
    if above == below or not {above, below} <= set(seconds):
        return ""
    ratios = (seconds[above] / seconds[below]).dropna()
    if ratios.empty:
        return ""
    text = f"{ratios.median():.3g}"
    if len(ratios) > 1:
        text += f" ({ratios.min():.3g} to {ratios.max():.3g})"
    return text


def mean_and_range(values: pd.Series) -> str:
    """Format mean and range of the accuracies."""
    values = values.dropna()
    if values.empty:
        return ""
    text = f"{values.mean():.3f}"
    if len(values) > 1:
        text += f" ({values.min():.3f} to {values.max():.3f})"
    return text


def duration(seconds: float) -> str:
    """Format a duration with its unit."""
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"


def notes(rows: pd.DataFrame, peaks: dict[str, float]) -> str:
    """Return the notes on a configuration: overhead, agreement, utilization, load."""
    parts = []
    if rows.contestant.iloc[0] == FIRST:
        parts.append(f"after {', '.join(f'{n:.0f}' for n in rows.epochs)} epochs")
    if rows.bare_seconds.notna().any():
        overhead = (rows.seconds / rows.bare_seconds - 1).median()
        bare = duration(rows.bare_seconds.median())
        parts.append(f"bare module {bare}, {overhead:+.0%}")
    if rows.agreement.notna().any() and rows.difference.max() > 0:
        parts.append(
            f"{rows.agreement.min():.1%} of float32's labels, probabilities within "
            f"{rows.difference.max():.2g}"
        )
    rates = rows.flops / rows.seconds
    if rates.notna().any():
        precision = rows.precision.iloc[0]
        text = f"{rates.median() / 1e9:,.0f} GFLOP/s"
        if precision in peaks and (rows.work != "roofline").all():
            text += f", {rates.median() / peaks[precision]:.0%} of {precision}'s peak"
        if rows.train_seconds.notna().any() and precision in peaks:
            inner = (rows.flops / rows.train_seconds).median() / peaks[precision]
            text += f" ({inner:.0%} in the steps)"
        parts.append(text)
    if rows.busy.max() > MOST_BUSY:
        parts.append(f"machine up to {rows.busy.max():.0%} busy before")
    return "; ".join(parts)


def drawing(path: pathlib.Path) -> Any:
    """Return a figure with one panel per task and set, one bar per configuration."""
    from matplotlib.figure import Figure

    frame = read(path)
    frame = frame[frame.work != "roofline"]
    groups = list(frame.groupby(["work", "set", "n"], sort=False))
    heights = [group.contestant.nunique() + 2 for _, group in groups]
    figure = Figure(figsize=(8, 0.3 * sum(heights)), layout="constrained")
    panels = figure.subplots(len(groups), 1, height_ratios=heights, squeeze=False)
    for ((work, name, n), group), ax in zip(groups, panels[:, 0], strict=True):
        times = group.groupby("contestant", sort=False).seconds
        middle = times.median()
        errors = np.stack([middle - times.min(), times.max() - middle])
        is_ours = middle.index.str.startswith(OURS)
        colors = ["C0" if own else "0.7" for own in is_ours]
        bars = ax.barh(middle.index, middle, xerr=errors, color=colors)
        ax.bar_label(bars, [duration(value) for value in middle], padding=3)
        ax.set_title(f"{work}: {name}" + (f", {n} texts" if n > 1 else ""), loc="left")
        ax.set_xlabel("seconds")
        ax.margins(x=0.15)
        ax.invert_yaxis()
        ax.spines[["top", "right"]].set_visible(False)
    return figure
