"""Who sees and who writes: asked of the running server, without the manners of a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from nightdesk.desk.card import read_card
from nightdesk.desk.place import frame_card, frame_thumbnail, stack_card
from tests.browser.conftest import Night

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-ancestors 'self'"
)
PAGES = ("nights", "stack", "frames", "frame", "pick")


def addresses(night: Night) -> list[str]:
    group = f"group={night.run_id('NGC5949')}"
    name = night.served("NGC5949").names[0]
    return [
        "nights",
        f"stack?{group}",
        f"stack?dag=reduce_group&run={night.run_id('NGC5949')}",
        f"frames?{group}",
        f"frame?{group}&name={name}",
        f"pick?{group}",
        f"image?{group}&step=stack",
        f"tile?{group}&step=stack&level=0&row=0&column=0",
        f"pixel?{group}&step=stack&x=1&y=1",
        f"thumbnail?{group}",
        f"thumbnail?{group}&name={name}",
        f"thumbnail?dag=reduce_group&run={night.run_id('NGC5949')}&note=true",
        f"download?{group}&what=stack",
        f"download?{group}&what=picture",
        f"download?{group}&what=manifest",
        f"download?{group}&what=extinction&name={name}",
        f"report?night={night.date}",
        f"centroid?{group}&name={name}&x=10&y=10",
        f"propose?{group}&reference={name}&name={name}&x=10&y=10",
    ]


@pytest.fixture
def astro(night: Night) -> Iterator[httpx.Client]:
    with night.client() as client:
        yield client


def test_with_a_login_everything_is_there(astro: httpx.Client, night: Night) -> None:
    assert {address: astro.get(address).status_code for address in addresses(night)} == dict.fromkeys(
        addresses(night), 200
    )


def test_without_a_login_nothing_is(night: Night) -> None:
    with night.client(None) as nobody:
        for address in addresses(night):
            answer = nobody.get(address)
            assert answer.status_code == 401, address
            assert night.run_id("NGC5949") not in answer.text
        assert nobody.post("positions", json={}).status_code == 401


def test_a_bad_login_is_refused(night: Night) -> None:
    with httpx.Client(base_url=f"{night.url}/nightdesk/", cookies={"_token": "nonsense"}, timeout=60) as forger:
        for address in addresses(night):
            assert forger.get(address).status_code in (401, 403), address
    with httpx.Client(base_url=f"{night.url}/nightdesk/", headers={"Authorization": "Bearer x"}, timeout=60) as forger:
        assert forger.get("nights").status_code in (401, 403)


def test_every_answer_carries_the_policy(astro: httpx.Client, night: Night) -> None:
    strange = ["nothing", "static/none.js", "stack?group=x", "nights?page=-1", "static/desk.css"]
    for address in [*addresses(night), *strange]:
        headers = astro.get(address, headers={"accept": "text/html"}).headers
        assert headers["content-security-policy"].startswith(POLICY), address
        assert headers["x-content-type-options"] == "nosniff"
    with night.client(None) as nobody:
        assert nobody.get("nights").headers["content-security-policy"].startswith(POLICY)


def test_a_refusal_and_a_fault_of_the_server_carry_the_policy_too(astro: httpx.Client, night: Night) -> None:
    stale = astro.post("positions", json=positions(night) | {"seen": "another"}, headers=SAME)
    assert stale.status_code == 409
    assert stale.headers["content-security-policy"].startswith(POLICY)
    manifest = night.served("M51").layout.manifest
    kept = manifest.read_bytes()
    manifest.write_text(json.dumps(json.loads(kept) | {"raws": [{}]}))
    try:
        fault = astro.get(f"stack?group={night.run_id('M51')}")
    finally:
        manifest.write_bytes(kept)
    assert fault.status_code == 500
    assert fault.headers["content-security-policy"].startswith(POLICY)
    assert "Traceback" not in fault.text
    assert str(night.root) not in fault.text


def test_no_page_has_a_script_or_a_style_in_it_or_an_address_of_another_host(astro: httpx.Client, night: Night) -> None:
    for address in addresses(night)[:6]:
        text = astro.get(address).text
        assert "<style" not in text
        assert " style=" not in text
        assert "http://" not in text
        assert "https://" not in text
        for script in text.split("<script")[1:]:
            assert script.startswith((' src="static/', ' type="module" src="static/', ' type="application/json"'))


@pytest.mark.parametrize(
    "address",
    [
        "download?group={run}&what=../../../../etc/passwd",
        "download?group={run}&what=extinction&name=../../../../../etc/passwd",
        "download?group={run}&what=extinction&name=%2e%2e%2f%2e%2e%2fcombined%2fcombined",
        "download?group={run}&what=raw&name={name}",
        "download?group=../../../etc__passwd__R&what=stack",
        "download?group=2026-11-20__..%2f..%2f..__R&what=stack",
        "thumbnail?group={run}&name=../stack",
        "tile?group={run}&step=..%2fcombined&name={name}&level=0&row=0&column=0",
        "tile?group={run}&step=stack&level=0&row=4000&column=0",
        "image?group={run}&step=postISR&name=/etc/passwd",
        "static/../app.py",
        "static/%2e%2e/app.py",
        "static/..%2fapp.py",
        "static/..%2f..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
        "static/vendor/uPlot.LICENSE",
        "static/",
        "static/0123456789ab/../../app.py",
        "static/0123456789ab/..%2f..%2fapp.py",
        "thumbnail?dag=reduce_night&run={run}&note=true",
        "thumbnail?note=true",
    ],
)
def test_nothing_outside_the_served_names_is_reached(astro: httpx.Client, night: Night, address: str) -> None:
    names = {"run": night.run_id("NGC5949"), "name": night.served("NGC5949").names[0]}
    url = httpx.URL(f"{night.url}/nightdesk/{address.format(**names)}")
    answer = astro.get(url)
    assert answer.status_code in (404, 422), answer.text[:200]
    assert "root:" not in answer.text
    assert "import" not in answer.text


@pytest.fixture
def led_out(night: Night, tmp_path: Path) -> Iterator[Callable[[Path, bytes], None]]:
    """Put a link to a file outside in the place of one of M51's, for as long as the test is."""
    kept: dict[Path, bytes] = {}

    def lead(path: Path, secret: bytes) -> None:
        kept[path] = path.read_bytes()
        outside = tmp_path / path.name
        outside.write_bytes(secret)
        path.unlink()
        path.symlink_to(outside)

    yield lead
    for path, content in kept.items():
        path.unlink()
        path.write_bytes(content)


def test_a_link_out_of_the_products_is_not_served(
    astro: httpx.Client, night: Night, led_out: Callable[[Path, bytes], None]
) -> None:
    layout = night.served("M51").layout
    name = night.served("M51").names[0]
    manifest = json.loads(layout.manifest.read_bytes())
    manifest["reason"] = "secret"
    led_out(layout.picture, b"secret")
    led_out(layout.manifest, json.dumps(manifest).encode())
    led_out(frame_thumbnail(layout, name), b"secret")
    led_out(frame_card(layout, name), json.dumps(read_card(frame_card(layout, name)) | {"stars": 31415}).encode())
    led_out(stack_card(layout), json.dumps(read_card(stack_card(layout)) | {"noise_ratio": 31.415}).encode())
    group = f"group={night.run_id('M51')}"
    for address in ("download?what=picture&", "download?what=manifest&", f"thumbnail?name={name}&"):
        answer = astro.get(f"{address}{group}")
        assert answer.status_code == 404
        assert b"secret" not in answer.content
    for address in ("stack?", "frames?", f"frame?name={name}&"):
        text = astro.get(f"{address}{group}").text
        assert "secret" not in text
        assert "31415" not in text
        assert "31.415" not in text


def positions(night: Night) -> dict[str, object]:
    return {
        "group": night.run_id("M101"),
        "rows": [{"name": name, "x": 100.0, "y": 100.0, "use": True} for name in night.served("M101").names],
        "seen": "",
    }


def sidecar(night: Night) -> Path:
    return night.served("M101").layout.sidecars[0]


SAME = {"sec-fetch-site": "same-origin"}


def test_a_viewer_cannot_write(night: Night) -> None:
    with night.client("guest") as guest:
        assert guest.get("nights").status_code == 200
        before = _content(sidecar(night))
        assert guest.post("positions", json=positions(night), headers=SAME).status_code == 403
        assert _content(sidecar(night)) == before


@pytest.mark.parametrize("site", [None, "cross-site", "same-site", "none"])
def test_a_forged_request_is_refused(astro: httpx.Client, night: Night, site: str | None) -> None:
    headers = {"origin": "https://evil.example"} | ({"sec-fetch-site": site} if site else {})
    before = _content(sidecar(night))
    assert astro.post("positions", json=positions(night), headers=headers).status_code == 403
    assert _content(sidecar(night)) == before


def test_a_form_is_refused_even_from_our_own_pages(astro: httpx.Client, night: Night) -> None:
    before = _content(sidecar(night))
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        answer = astro.post("positions", content=json.dumps(positions(night)), headers=SAME | {"content-type": kind})
        assert answer.status_code in (415, 422), kind
    assert _content(sidecar(night)) == before


@pytest.mark.parametrize("change", [{"rows": []}, {"group": "x"}, {"rows": [{"name": "../x", "x": 1, "y": 1}]}])
def test_positions_that_are_none_are_refused(astro: httpx.Client, night: Night, change: dict[str, object]) -> None:
    before = _content(sidecar(night))
    answer = astro.post("positions", json=positions(night) | change, headers=SAME)
    assert answer.status_code in (404, 409, 422)
    assert _content(sidecar(night)) == before


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def test_tiles_are_sent_as_they_are_and_kept_by_the_browser(astro: httpx.Client, night: Night) -> None:
    asked = f"group={night.run_id('NGC5949')}&step=stack"
    version = astro.get(f"image?{asked}").json()["version"]
    address = f"tile?{asked}&level=0&row=0&column=0&version="
    answer = astro.get(address + version, headers={"accept-encoding": "gzip"})
    assert answer.headers["content-encoding"] == "identity"
    assert len(answer.content) == 2 * 256 * 256
    assert "immutable" in answer.headers["cache-control"]
    for other in ("", "1", version + "0"):
        assert astro.get(address + other).headers["cache-control"] == "no-store"
    assert "no-store" in astro.get("nights").headers["cache-control"]


def test_scripts_and_styles_are_kept_by_the_browser_until_they_change(astro: httpx.Client) -> None:
    text = astro.get("nights").text
    address = text.split('<link rel="stylesheet" href="')[1].split('"')[0]
    assert address.startswith("static/")
    packed = astro.get(address, headers={"accept-encoding": "gzip"})
    plain = astro.get(address, headers={"accept-encoding": "identity"})
    assert "immutable" in packed.headers["cache-control"]
    assert (packed.headers["content-encoding"], plain.headers["content-encoding"]) == ("gzip", "identity")
    assert packed.text == plain.text
    for other in ("static/desk.css", "static/0123456789ab/desk.css"):  # as a page of before an update asks
        assert astro.get(other).headers["cache-control"] == "no-cache"
        assert astro.get(other).text == plain.text
