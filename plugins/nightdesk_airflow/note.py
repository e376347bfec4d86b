"""The note of a group's run: links to the desk, and the stack's small picture as it is when somebody looks."""

from __future__ import annotations

from urllib.parse import quote, urlsplit


def group_note(run_id: str) -> str:
    """Return a run's note in markdown.

    It holds no text from headers or file names: a run's id is made of cleaned names. The picture is served by the
    desk, so it shows the stack of now, not of when the run was started. All is in one paragraph, the links first:
    Airflow shows the first paragraph of a note, as high as a picture may be.
    """
    base = base_path()
    query = f"group={quote(run_id, safe='')}"
    picture = f"[![The stack]({base}/nightdesk/thumbnail?{query}&note=true)]({base}/nightdesk/stack?{query})"
    links = [f"[{page.capitalize()}]({base}/nightdesk/{page}?{query})" for page in ("stack", "frames")]
    return f"{' · '.join(links)} {picture}"


def base_path() -> str:
    """Return the path at which a proxy serves the web UI; mostly none."""
    from airflow.sdk.configuration import conf

    return urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
