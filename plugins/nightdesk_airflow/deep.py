"""Which deep stacks a run of `stack_nights` is about, and the making of one."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, get_current_context

from nightdesk_airflow.task import nightdesk_errors


def stacks_to_deepen() -> list[dict[str, Any]]:
    """Return the deep stacks to make: that of the run's params, else those whose group stacks have changed.

    A target and filter with a single night is not among them.
    """
    from nightdesk.group import Group
    from nightdesk.settings import load_settings
    from nightdesk.steps.deep import FEWEST_NIGHTS, nights_of

    context = get_current_context()
    params = context["params"]
    with nightdesk_errors():
        settings = load_settings()
        if params.get("target") and params.get("filter_name"):
            return [_named(params)]
        wanted = []
        for parts in sorted(_announced(context.get("triggering_asset_events") or {})):
            *instruments, target, filter_name = parts
            instrument = instruments[0] if instruments else None
            group = Group.from_params(
                settings, target=target, filter_name=filter_name, night="2000-01-01", instrument=instrument
            )
            if len(nights_of(settings, group.parts)) >= FEWEST_NIGHTS:
                wanted.append({"target": target, "filter_name": filter_name, "instrument": instrument, "nights": None})
        return wanted


def _named(params: Any) -> dict[str, Any]:
    nights = [text.strip() for text in (params.get("nights") or "").split(",") if text.strip()]
    keys = ("target", "filter_name", "instrument")
    return {key: params.get(key) for key in keys} | {"nights": nights or None}


def _announced(events: Any) -> set[tuple[str, ...]]:
    """Return the parts of the assets (target and filter, an instrument before them) that started this run."""
    return {tuple(asset.name.split("/")) for asset in events if isinstance(asset, Asset)}  # not by the alias


def deepen(target: str, filter_name: str, instrument: str | None, nights: list[str] | None) -> dict[str, Any]:
    """Make one deep stack; skipped while there is a single night."""
    from nightdesk.errors import SetupError
    from nightdesk.night import parse_night
    from nightdesk.settings import load_settings
    from nightdesk.steps import deep

    with nightdesk_errors():
        try:
            chosen = [parse_night(text) for text in nights] if nights else None
        except ValueError as error:
            raise SetupError(f"nights: {error}.") from error
        return deep.run(load_settings(), target=target, filter_name=filter_name, nights=chosen, instrument=instrument)
