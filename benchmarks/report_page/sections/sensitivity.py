"""Which layers INT8 hurts, and what leaving them out costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.report_page.blocks import Body, Chart, Charts, Prose, Table
from benchmarks.report_page.charts import INK, PRECISIONS, chart, shorten
from benchmarks.report_page.numbers import count, percent, plain, times
from benchmarks.report_page.sensitivity_files import NAME, Layer, Plan, Sensitivity
from benchmarks.report_page.topics import Context, Found, Topic

__all__ = ["TOPIC"]

SHOWN = 12  # layers


def build(found: Sequence[Found[Sensitivity]], context: Context) -> Body:
    """The first of the tables."""
    result = found[0].record
    left_out, chosen = _left_out(result), _chosen(result)
    told = (
        f"Each of {count(len(result.layers), 'layer')} was put into INT8 alone, and the image compared with "
        f"FP32's. The bundle leaves {count(len(left_out), 'layer')} out of INT8; its whole plan changes the "
        f"image by {plain(chosen.image_error, 2)} gray levels of 255 (root mean square) and measured "
        f"{times(chosen.speedup)} as fast as FP32. Each layer that is left out has its measured reason in "
        "the bundle."
    )
    if not result.is_of_bundle:
        told += (
            " The figures here are not those in the bundle: another run, or one of an earlier state of the "
            "model, left the same layers out."
        )
    charts = Charts((_layers(result.layers[:SHOWN], left_out), _plans(result)))
    return Body((Prose(told), charts, _table(result, left_out)))


def from_bundle(context: Context) -> Body | None:
    """The layers that the bundle leaves out of INT8, each with what was measured of it when it was made."""
    record = context.bundle.manifest.calibration
    if record is None or not record.excluded:
        return None
    told = (
        f"The bundle leaves {count(len(record.excluded), 'layer')} out of INT8, for what was measured when "
        f"it was made ({record.method} ranges over {count(record.images_used, 'image')}). The tables of all "
        f"layers are not among the results; this makes them: `{TOPIC.command}`."
    )
    named = [(*key.partition("/")[::-2], reason) for key, reason in record.excluded.items()]
    head = ("layer", "part", "why it is left out")
    table = Table("Layers left out of INT8, as the bundle records them.", head, tuple(named))
    return Body((Prose(told), table))


def _chosen(result: Sensitivity) -> Plan:
    return next(plan for plan in result.plans if plan.name == result.chosen)


def _left_out(result: Sensitivity) -> set[str]:
    return set(_chosen(result).reasons)


def _layers(layers: Sequence[Layer], left_out: set[str]) -> Chart:
    worst = layers[0]
    return chart(
        lambda axes: _draw_layers(axes, layers, left_out),
        key="layers",
        alt=f"The {len(layers)} most harmful layers; the worst, {worst.layer}, changes the image by "
        f"{plain(worst.image_error, 2)} gray levels.",
        caption="Change of the image by one layer in INT8 alone. Pale: left out of INT8 in the bundle.",
        height=3.2,
    )


def _draw_layers(axes: Any, layers: Sequence[Layer], left_out: set[str]) -> None:
    for place, layer in enumerate(layers):
        is_out = f"{layer.component}/{layer.layer}" in left_out
        axes.barh(place, layer.image_error, height=0.7, color=PRECISIONS["int8"], alpha=0.35 if is_out else 1)
    axes.set_yticks(range(len(layers)), [shorten(layer.layer) for layer in layers], fontsize=7)
    axes.invert_yaxis()
    axes.set_xlabel("gray levels of 255, root mean square")
    axes.set_title("Most harmful layers")
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)


def _plans(result: Sensitivity) -> Chart:
    chosen = _chosen(result)
    return chart(
        lambda axes: _draw_plans(axes, result.plans, chosen),
        key="plans",
        alt=f"Error and speed of {len(result.plans)} plans; the bundle's own: "
        f"{plain(chosen.image_error, 2)} gray levels, {plain(chosen.speedup, 2)} times as fast.",
        caption="Plans that leave out more and more layers; the star is the bundle's own.",
        height=3.2,
    )


def _draw_plans(axes: Any, plans: Sequence[Plan], chosen: Plan) -> None:
    for plan in plans:
        axes.plot(plan.speedup, plan.image_error, "o", color=PRECISIONS["int8"], markersize=4, alpha=0.7)
    axes.plot(chosen.speedup, chosen.image_error, "*", color=INK, markersize=11)
    axes.annotate(
        chosen.name, (chosen.speedup, chosen.image_error), xytext=(7, 4), textcoords="offset points"
    )
    axes.set_ylim(0)
    axes.set_xlabel("times as fast as FP32")
    axes.set_ylabel("gray levels of 255")
    axes.set_title("Plans: error against speed")
    axes.grid()


def _table(result: Sensitivity, left_out: set[str]) -> Table:
    rows = [
        (
            layer.layer,
            layer.component,
            plain(layer.image_error, 3),
            percent(layer.work_share, 2),
            "no" if f"{layer.component}/{layer.layer}" in left_out else "yes",
        )
        for layer in result.layers[:SHOWN]
    ]
    head = ("layer", "part", "change of the image, gray levels", "share of the work", "in INT8")
    return Table(f"The {len(rows)} layers that INT8 hurts most, of {len(result.layers)}.", head, tuple(rows))


TOPIC: Topic[Sensitivity] = Topic(
    name=NAME,
    kind="",  # two tables without one: see `benchmarks.report_page.sensitivity_files`
    model=Sensitivity,
    title="Where INT8 hurts",
    what="which layers INT8 hurts",
    command="python -m calibration sensitivity --bundle BUNDLE --recording REC --images PAIRS --out FOLDER",
    asks=(),
    build=build,
    from_bundle=from_bundle,
)
