"""What `cinefuse data enrich` shows: the plan before, the summary after."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..runtime.terminal import screen, size

if TYPE_CHECKING:
    from pathlib import Path

    from ..enrichment.job import EnrichReport
    from ..enrichment.plan import EnrichPlan


def show_plan(dataset: Path, plan: EnrichPlan) -> None:
    """Print what `plan_enrichment` counted."""
    out = screen()
    out.print(f"{dataset}: {plan.items:,} of {plan.of:,} items lack something")
    for way, items in plan.ways.items():
        out.print(f"  {items:,} by {way}")
    out.print(f"still to send: {plan.requests:,} requests, {plan.posters:,} posters")
    out.print(f"roughly {plan.megabytes:,.0f} MB and {max(1.0, plan.seconds / 60):,.0f} min; nothing was sent")


def show_report(report: EnrichReport) -> None:
    """Print what `enrich` did, what is missing and why, and the service's notice."""
    out = screen()
    names = {"text": "plots", "poster": "posters", "year": "years", "genres": "genres", "tags": "tags"}
    if not report.wanted:
        out.print(f"{report.dataset}: no item lacks anything; --overwrite would fetch all")
        return
    taken = ", ".join(f"{names[what]} {count:,}" for what, count in report.taken.items())
    out.print(f"{report.dataset}: of {report.looked_up:,} items {report.service} gave {taken or 'nothing'}")
    folder = report.dataset / "enrichment"
    if report.doubtful:
        out.print(f"{report.doubtful:,} matches are doubtful and were not taken: see {folder}")
    for why, count in list(report.missing.items())[:8]:
        out.print(f"  {count:,} without {why}")
    if report.missing:
        out.print(f"each with its reason in {folder}")
    traffic = report.traffic
    repeated = f", {traffic.repeated:,} of them repeated" if traffic.repeated else ""
    there = f"{report.cached:,} responses were there already"
    out.print(f"{traffic.requests:,} requests{repeated}, {size(traffic.received)}; {there}")
    out.print(f"{report.notice} (also in ATTRIBUTION.txt)")
