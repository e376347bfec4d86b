"""Settings: pt5m's defaults, what a configuration may say, and how a wrong one is told."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from nightdesk.errors import SetupError
from nightdesk.group import Group
from nightdesk.settings import FromName, Given, Settings, default_settings, digest, load_settings

GROUP = Group(date(2026, 11, 21), "NGC5949", "R")


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("NIGHTDESK_CONFIG", "NIGHTDESK_DATA"):
        monkeypatch.delenv(variable, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "observatory.toml"


def load(file: Path, text: str) -> Settings:
    file.write_text(text, encoding="utf-8")
    return load_settings(file)


def test_the_defaults_are_those_of_pt5m() -> None:
    settings = Settings()
    assert settings.profile == "standard"
    assert settings.site.timezone == settings.site.zone.key == "Atlantic/Canary"
    assert {name: chosen.extinction for name, chosen in settings.filters.items()} == {"R": 0.0547, "H": 0.0541}
    watch = settings.watch
    assert (watch.observer, watch.settle_seconds, watch.stalled_seconds) == ("inotify", 20, 300)
    assert (watch.readout_seconds, watch.rescan_seconds, watch.watch_nights) == (10, 60, 3)
    assert settings.batch.frames_per_task == 1
    assert settings.sidecar.origin == 1
    assert settings.archive.from_night is None
    assert settings.files.extensions == (".fits", ".fit", ".fts", ".fits.fz", ".fits.gz")


def test_a_configuration_says_everything(file: Path) -> None:
    settings = load(
        file,
        """
        profile = "notebook"
        [site]
        timezone = "Australia/Sydney"
        [aliases.filters]
        "Filter 2" = "R"
        [filters.R]
        extinction = 0.1
        flat = "none"
        [archive]
        from = 2020-01-01
        nights_per_day = 2
        [instruments.sbig]
        max_pixels = 1000
        [instruments.sbig.keywords]
        gain = 2.3
        filter = ["FILTER", "FILTNAME", {value = "R"}]
        target = {file = '^([a-z]+)-'}
        """,
    )
    assert (settings.profile, settings.depth) == ("notebook", "float64")
    assert settings.archive.from_night == date(2020, 1, 1)
    assert settings.filter_of(GROUP).flat == "none"
    keywords = settings.instrument_of(GROUP).keywords
    assert keywords.gain == (Given(value=2.3),)
    assert keywords.filter_name == ("FILTER", "FILTNAME", Given(value="R"))
    assert keywords.target == (FromName(file="^([a-z]+)-"),)
    assert keywords.airmass == ("AIRMASS",)


def test_an_empty_configuration_is_right(file: Path) -> None:
    assert load(file, "").model_dump(exclude={"data"}) == Settings().model_dump(exclude={"data"})


def rest(line: str) -> str:
    """What else a repair needs."""
    lines = ("keyword = 'FILTER'", "value = 'R'", "reason = 'x'", "who = 'A'", "files = '*'")
    return "\n".join(other for other in lines if other.split()[0] != line.split()[0])


RIGHT = f"[[repairs]]\n{rest('-')}\n"
WRONG = [
    pytest.param('[sites]\nname = "x"', 1, "sites", "no such key; expected one of profile, data, site", id="table"),
    pytest.param('\n[site]\nzone = "UTC"', 3, "site.zone", "no such key; expected one of name, timezone", id="key"),
    pytest.param(
        '[filters]\nR = {extinction = 0.1, flats = "none"}',
        2,
        "filters.R.flats",
        "no such key; expected one of extinction",
        id="key of an inline table",
    ),
    pytest.param('[site]\n# c\n\ntimezone = "Canaries"', 4, "site.timezone", "IANA time zone", id="time zone"),
    pytest.param('[watch]\nsettle_seconds = "soon"', 2, "watch.settle_seconds", "a number, not 'soon'", id="text"),
    pytest.param("watch.settle_seconds = -1", 1, "watch.settle_seconds", "greater than or equal to 0", id="dotted"),
    pytest.param("[watch]\nwatch_nights = 1.5", 2, "watch.watch_nights", "a whole number, not 1.5", id="whole number"),
    pytest.param("[watch]\nsettle_seconds = inf", 2, "watch.settle_seconds", "a finite number, not inf", id="endless"),
    pytest.param("[filters.R]\nextinction = nan", 2, "filters.R.extinction", "a finite number, not nan", id="nan"),
    pytest.param('profile = "fast"', 1, "profile", "'standard' or 'notebook', not 'fast'", id="choice"),
    pytest.param('[watch]\nobserver = "magic"', 2, "watch.observer", "'inotify' or 'polling'", id="observer"),
    pytest.param('[ignore]\ntargets = "focus"', 2, "ignore.targets", "a list in brackets", id="text for a list"),
    pytest.param('[files]\nignore = [\n".*",\n3]', 2, "files.ignore", "a text in quotes, not 3", id="list"),
    pytest.param('[archive]\nfrom = "soon"', 2, "archive.from", "a date such as 2026-11-21", id="date"),
    pytest.param("site = 3", 1, "site", "a table, not 3", id="number for a table"),
    pytest.param("[[site]]", 1, "site", "a table", id="list of tables"),
    pytest.param(
        '[filters.V]\nflat = "none"', 1, "filters.V", "extinction (mag/airmass), or a wavelength", id="missing"
    ),
    *(
        pytest.param(
            f"{RIGHT}[[repairs]]\n{line}\n{rest(line)}", 8, f"repairs.{line.split()[0]}", told, id=f"repair: {line}"
        )
        for line, told in (
            ("value = 'Ren\u00e9'", "text in ASCII, for a FITS header holds no other, not 'Ren\u00e9'"),
            ('value = "two\\nlines"', "one line of text, not 'two\\nlines'"),
            ('reason = "two\\nlines"', "one line of text"),
            ("keyword = 'end'", "a keyword that holds a value"),
            ("keyword = 'NAXIS1'", "a keyword that holds a value"),
            ("key = 'EGAIN'", "there is no such key; expected one of night, files, instrument, keyword"),
        )
    ),
    pytest.param("[[repairs]]\nreason = 'x'", 1, "repairs.keyword", "a value, which is missing.", id="missing key"),
    pytest.param(
        '[filters.R]\nextinction = 0.1\n[filters.V]\nextinction = "x"',
        4,
        "filters.V.extinction",
        "a number",
        id="table 2",
    ),
    pytest.param('[filters."R c"]\nextinction = 0.1', 1, "filters.R c", "such as 'Rc', not 'R c'", id="filter's name"),
    pytest.param("[filters.raws]\nextinction = 0.1", 1, "filters.raws", "reserved", id="reserved name"),
    pytest.param(
        "[filters.R]\nextinction = 0.1\n[filters.r]\nextinction = 0.2",
        1,
        "filters",
        "names that differ by more than case, as R and r do not",
        id="two filters that differ in case",
    ),
    pytest.param(
        '[aliases.filters]\n"F 2" = "R"\n"f  2" = "H"', 1, "aliases.filters", "stands for 'R'", id="alias twice"
    ),
    pytest.param("[files]\nextensions = []", 2, "files.extensions", "at least 1 item", id="no extension"),
    pytest.param('[aliases.filters]\n"Filter 2" = "///"', 2, "aliases.filters.Filter 2", "a name: '///'", id="alias"),
    pytest.param(
        '[instruments.a]\nmatch = {INSTRUME = "x"}\n[instruments.b]',
        1,
        "instruments",
        "a table match = {KEYWORD = 'pattern'} for each of several instruments; b has none",
        id="instruments that nothing tells apart",
    ),
    pytest.param("[instruments]", 1, "instruments", "at least one instrument", id="no instrument"),
    pytest.param("instruments.a.max_pixels = 0", 1, "instruments.a.max_pixels", "greater than 0", id="no pixels"),
    *(
        pytest.param(f"[instruments.a.keywords]\ngain = {value}", 2, "instruments.a.keywords.gain", told, id=id_)
        for value, told, id_ in [
            ("{val = 1}", "a header keyword, a number, {value = ...}", "source"),
            ('["EGAIN", true]', "a header keyword, a number", "yes for a number"),
            ('""', "a header keyword", "blank keyword"),
            ("[]", "at least one header keyword or value", "no source"),
            ("{file = '(('}", "a regular expression", "broken expression"),
            ("{file = 'abc'}", "with one group in parentheses", "expression without a group"),
        ]
    ),
    pytest.param('[calibs]\nflat = "{colour}.fits"', 2, "calibs.flat", "{binning} and {filter}", id="pattern"),
    pytest.param('[calibs]\nbias = "../b.fits"', 2, "calibs.bias", "a file name without a folder", id="folder"),
    pytest.param("[sidecar]\norigin = 2", 2, "sidecar.origin", "0 or 1", id="origin"),
    pytest.param(
        "[products]\nkeep = 0", 2, "products.keep", "'all' or 'stack' or greater than or equal to 1", id="either"
    ),
    pytest.param("[calibs]\nflat_limit = 0", 2, "calibs.flat_limit", "greater than 0", id="flat limit"),
    pytest.param("[quality]\nnoise_ratio = [1.1, 0.9]", 2, "quality.noise_ratio", "the lower first", id="limits"),
]


@pytest.mark.parametrize(("text", "line", "key", "expected"), WRONG)
def test_a_wrong_configuration_is_told_by_file_line_key_and_what_was_expected(
    file: Path, text: str, line: int, key: str, expected: str
) -> None:
    with pytest.raises(SetupError) as caught:
        load(file, text)
    told = str(caught.value)
    assert told.startswith(f"{file}, line {line}: {key}: ")
    assert expected in told
    assert "\n" not in told


def test_every_wrong_key_is_told(file: Path) -> None:
    with pytest.raises(SetupError) as caught:
        load(file, 'profile = "x"\n[watch]\nwatch_nights = 0\n[site]\ntimezone = "x"\n')
    assert re.findall(r"line (\d): ([a-z._]+):", str(caught.value)) == [
        ("1", "profile"),
        ("5", "site.timezone"),
        ("3", "watch.watch_nights"),
    ]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        pytest.param(b"[site\nname = 1", r"line 1", id="not TOML"),
        pytest.param(b'[site]\nname = "a"\nname = "b"\n', r"line 3", id="a key twice"),
        pytest.param(b'[site]\nname = "\xff"', r", line 2: the configuration is not UTF-8 text", id="not UTF-8"),
        pytest.param(None, r"cannot be read: No such file", id="not there"),
    ],
)
def test_a_file_that_is_no_configuration_is_told(file: Path, content: bytes | None, told: str) -> None:
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SetupError, match=re.escape(str(file)) + ".*" + told):
        load_settings(file)


def test_the_environment_names_the_configuration(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text('[site]\nname = "Siding Spring"\n')
    monkeypatch.setenv("NIGHTDESK_CONFIG", str(file))
    assert load_settings().site.name == "Siding Spring"


def test_without_a_configuration_the_variable_to_set_is_named() -> None:
    with pytest.raises(SetupError, match="set NIGHTDESK_CONFIG"):
        load_settings()


@pytest.mark.parametrize(
    ("configured", "moved", "root"),
    [
        pytest.param(None, None, "{here}/data", id="by default data beside the configuration"),
        pytest.param("nights", None, "{here}/nights", id="relative to the configuration"),
        pytest.param("/srv/nights", None, "/srv/nights", id="absolute"),
        pytest.param("~/nights", None, "{home}/nights", id="at home"),
        pytest.param("nights", "/srv/other", "/srv/other", id="NIGHTDESK_DATA before all"),
        pytest.param("nights", "~/other", "{home}/other", id="NIGHTDESK_DATA at home"),
        pytest.param("nights", "", "{here}/nights", id="an empty NIGHTDESK_DATA is none"),
    ],
)
def test_the_data_root(
    file: Path, monkeypatch: pytest.MonkeyPatch, configured: str | None, moved: str | None, root: str
) -> None:
    monkeypatch.setenv("HOME", str(file.parent / "home"))
    if moved is not None:
        monkeypatch.setenv("NIGHTDESK_DATA", moved)
    settings = load(file, f'[data]\nroot = "{configured}"' if configured else "")
    expected = Path(root.format(here=file.parent, home=file.parent / "home")).resolve()
    assert settings.root == expected


def test_the_environment_moves_the_root_and_no_number(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = load(file, "").numbers_of(GROUP)
    monkeypatch.setenv("NIGHTDESK_DATA", "/elsewhere")
    for name in ("PROFILE", "FILTERS", "COMBINE__METHOD", "NIGHTDESK_PROFILE"):
        monkeypatch.setenv(name, "notebook")
    assert load(file, "").numbers_of(GROUP) == before


def test_settings_are_frozen() -> None:
    settings = default_settings(Path("/data"))
    with pytest.raises(ValidationError):
        settings.profile = "notebook"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        settings.watch.settle_seconds = 0  # type: ignore[misc]


def test_a_filter_is_found_without_case_or_the_message_says_what_to_add() -> None:
    settings = Settings()
    assert settings.filter_of(Group(GROUP.night, "M31", "h")).extinction == 0.0541
    with pytest.raises(SetupError, match=re.escape("add [filters.V] with extinction")):
        settings.filter_of(Group(GROUP.night, "M31", "V"))


def changed(**tables: Any) -> Settings:
    return Settings.model_validate(tables)


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(changed(profile="notebook"), id="profile"),
        pytest.param(changed(filters={"R": {"extinction": 0.1}}), id="extinction"),
        pytest.param(changed(instruments={"pt5m": {"keywords": {"gain": 2.0}}}), id="gain"),
        pytest.param(changed(sidecar={"origin": 0}), id="origin of positions"),
        pytest.param(changed(combine={"method": "mean"}), id="method"),
        pytest.param(changed(calibs={"flat_limit": 0.3}), id="flat limit"),
        pytest.param(changed(calibs={"flat_level": "mean"}), id="flat level"),
        pytest.param(changed(site={"latitude": 31.0, "longitude": "111:36:00 W"}), id="place"),
        pytest.param(changed(instruments={"pt5m": {"trim": "[1:20,1:20]"}}), id="trim"),
        pytest.param(changed(products={"depth": "float64"}), id="depth"),
    ],
)
def test_the_numbers_of_a_group_know_what_touches_them(settings: Settings) -> None:
    assert digest(settings.numbers_of(GROUP)) != digest(Settings().numbers_of(GROUP))


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(changed(filters={"R": {"extinction": 0.0547}, "V": {"extinction": 0.3}}), id="another filter"),
        pytest.param(changed(watch={"settle_seconds": 99}), id="watch"),
        pytest.param(changed(site={**Settings().site.model_dump(), "name": "elsewhere"}), id="name of the site"),
        pytest.param(changed(calibs={"window": {"flat": 3}}), id="window"),
        pytest.param(changed(masters={"minimum_bias": 9}), id="masters"),
        pytest.param(changed(data={"root": "/elsewhere"}), id="root"),
        pytest.param(changed(batch={"frames_per_task": 9}), id="batch"),
        pytest.param(changed(archive={"nights_per_day": 9}), id="archive"),
    ],
)
def test_the_numbers_of_a_group_do_not_know_what_leaves_them_alone(settings: Settings) -> None:
    assert digest(settings.numbers_of(GROUP)) == digest(Settings().numbers_of(GROUP))


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1.0, "é"]}) == digest({"b": [1.0, "é"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
