"""Where a file comes from: every step that made it from others, oldest first, recorded in its header.

`about.lineage` is a list of steps, each an object: operation, with (its options), from (the content digests
of its sources), digest (the content digest of what it made, at that time), made_by. It is information for people, as
all of `about`: nothing depends on it, and whoever writes a file may claim anything.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from ..embeddings.format.layout import UNKNOWN_SHA256

_MOST_STEPS = 64  # older ones are forgotten: the header has an end
_MOST_SOURCES = 1000


def descended(
    abouts: Sequence[Mapping[str, Any]], digests: Sequence[str], operation: str, options: Mapping[str, Any]
) -> dict[str, Any]:
    """The `about` of what `operation` makes of files that say `abouts` and have the content `digests`.

    Where sources say different things of one kind (licence, catalogue), all of them are kept. The step's own digest
    is UNKNOWN_SHA256 until `with_digest`.
    """
    steps: list[Any] = []
    for about in abouts:
        earlier = about.get("lineage")
        # the list of an untrusted file may be as long as a header
        recent = earlier[-_MOST_STEPS:] if isinstance(earlier, list) else []
        steps += [step for step in recent if step not in steps[-_MOST_STEPS:]]
    step: dict[str, Any] = {"operation": operation}
    step |= {"with": dict(options)} if options else {}
    step |= {
        "from": list(digests)[:_MOST_SOURCES],
        "digest": UNKNOWN_SHA256,
        "made_by": f"cinefuse {version('cinefuse')}",
    }
    merged: dict[str, Any] = {}
    for key in dict.fromkeys(key for about in abouts for key in about if key != "lineage"):
        merged[key] = _together([about[key] for about in abouts if key in about])
    return merged | {"lineage": [*steps[1 - _MOST_STEPS :], step]}


def _together(values: Sequence[Any]) -> Any:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    if len(distinct) > 1 and all(isinstance(value, str) for value in distinct):
        return "; ".join(distinct[:_MOST_STEPS])
    return distinct[0]


def with_digest(about: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """`about` whose last step names the content digest of what it made; as it is where there is no such step."""
    steps = about.get("lineage")
    if not (isinstance(steps, list) and steps and isinstance(steps[-1], dict)):
        return dict(about)
    if steps[-1].get("digest") != UNKNOWN_SHA256:
        return dict(about)
    return dict(about) | {"lineage": [*steps[:-1], steps[-1] | {"digest": digest}]}


def steps_of(about: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The steps recorded in a header, which is untrusted: entries that are no objects are left out."""
    steps = about.get("lineage")
    return [step for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []


def lineage_lines(about: Mapping[str, Any]) -> list[str]:
    """Each step as a line that a person reads: what was done, how, from what."""
    return [_line(step) for step in steps_of(about)]


def _line(step: Mapping[str, Any]) -> str:
    options, sources = step.get("with"), step.get("from")
    how = (
        f" ({', '.join(f'{key} {_short(value)}' for key, value in options.items())})"
        if isinstance(options, dict)
        else ""
    )
    names = [str(source)[:16] for source in sources] if isinstance(sources, list) else []
    more = f" and {len(names) - 3:,} more" if len(names) > 3 else ""
    of = f" of {', '.join(names[:3])}{more}" if names else ""
    return f"{step.get('operation')}{how}{of}, by {step.get('made_by')}"


def _short(value: Any) -> str:
    text = " + ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 60 else text[:57] + "..."
