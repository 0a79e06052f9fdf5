"""Settings: who outranks whom, and what a wrong one is told."""

from pathlib import Path
from typing import Any

import pytest

from lamport.routes import Policy, Route
from lamport.tags import Tag
from shoal.errors import ConfigurationError
from shoal.folder import DEFAULT_LISTEN
from shoal.settings import DEFAULT_API, Settings, load_settings
from transport.network import Address

FILE = """
listen = "10.0.0.1:1001"
api = "127.0.0.1:2001"
peers = ["10.0.0.9:4001"]
mdns = false
fish = ["from_file:FISH"]
upcasters = "from_file:UPCASTERS"
"""
VARIABLES = {
    "SHOAL_LISTEN": "10.0.0.1:1002",
    "SHOAL_API": "127.0.0.1:2002",
    "SHOAL_PEERS": "10.0.0.7:4001,10.0.0.8:4001",
    "SHOAL_MDNS": "true",
    "SHOAL_FISH": "from_variable:ONE,from_variable:TWO",
    "SHOAL_UPCASTERS": " from_variable:UPCASTERS",
}
FLAGS: dict[str, Any] = {
    "listen": "10.0.0.1:1003",
    "api": "[::1]:2003",
    "peers": ["ten:4001"],
    "mdns": False,
    "fish": ["from_flag:FISH"],
    "upcasters": "from_flag:UPCASTERS",
}


def write(folder: Path, text: str) -> Path:
    path = folder / "shoal.toml"
    path.write_text(text, "utf-8")
    return path


def test_without_any_source_the_defaults_hold(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}, {}) == Settings(
        tmp_path, DEFAULT_LISTEN, DEFAULT_API, peers=(), mdns=True, fish=(), upcasters=""
    )
    assert str(DEFAULT_LISTEN) == "0.0.0.0:4001"
    assert str(DEFAULT_API) == "127.0.0.1:4454"


def test_the_file_goes_before_the_defaults(tmp_path: Path) -> None:
    write(tmp_path, FILE)
    assert load_settings(tmp_path, {}, {}) == Settings(
        tmp_path,
        Address("10.0.0.1", 1001),
        Address("127.0.0.1", 2001),
        (Address("10.0.0.9", 4001),),
        mdns=False,
        fish=("from_file:FISH",),
        upcasters="from_file:UPCASTERS",
    )


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    write(tmp_path, FILE)
    assert load_settings(tmp_path, {}, VARIABLES) == Settings(
        tmp_path,
        Address("10.0.0.1", 1002),
        Address("127.0.0.1", 2002),
        (Address("10.0.0.7", 4001), Address("10.0.0.8", 4001)),
        mdns=True,
        fish=("from_variable:ONE", "from_variable:TWO"),
        upcasters="from_variable:UPCASTERS",
    )


def test_flags_go_before_everything(tmp_path: Path) -> None:
    write(tmp_path, FILE)
    assert load_settings(tmp_path, FLAGS, VARIABLES) == Settings(
        tmp_path,
        Address("10.0.0.1", 1003),
        Address("::1", 2003),
        (Address("ten", 4001),),
        mdns=False,
        fish=("from_flag:FISH",),
        upcasters="from_flag:UPCASTERS",
    )


@pytest.mark.parametrize("name", ["listen", "api", "peers", "mdns", "fish", "upcasters"])
def test_each_setting_is_outranked_by_itself(tmp_path: Path, name: str) -> None:
    write(tmp_path, FILE)
    from_file = load_settings(tmp_path, {}, {})
    variable = f"SHOAL_{name.upper()}"
    from_variable = load_settings(tmp_path, {}, {variable: VARIABLES[variable]})
    different = [
        one for one in Settings.__slots__ if getattr(from_file, one) != getattr(from_variable, one)
    ]
    assert different == [name]


def test_an_empty_variable_says_nothing(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}, dict.fromkeys(VARIABLES, "")) == Settings(tmp_path)


def test_spaces_around_the_items_of_a_list_do_not_count(tmp_path: Path) -> None:
    variables = {"SHOAL_PEERS": "one:1, two:2", "SHOAL_FISH": "a:A, b:B"}
    settings = load_settings(tmp_path, {}, variables)
    assert settings.peers == (Address("one", 1), Address("two", 2))
    assert settings.fish == ("a:A", "b:B")


@pytest.mark.parametrize("text", ["true", "1", "yes", "TRUE"])
def test_a_switch_is_turned_on_by_a_few_spellings(tmp_path: Path, text: str) -> None:
    write(tmp_path, "mdns = false")
    assert load_settings(tmp_path, {}, {"SHOAL_MDNS": text}).mdns is True


@pytest.mark.parametrize("text", ["false", "0", "no", "No"])
def test_a_switch_is_turned_off_by_a_few_spellings(tmp_path: Path, text: str) -> None:
    assert load_settings(tmp_path, {}, {"SHOAL_MDNS": text}).mdns is False


ADDRESSES = ["4001", "host", ":4001", "host:", "host:port", "host:65536", "host:-1", "host:٣"]


@pytest.mark.parametrize("text", ADDRESSES)
def test_a_malformed_address_is_refused_and_its_source_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^--listen: not an address \(HOST:PORT"):
        load_settings(tmp_path, {"listen": text}, {})
    with pytest.raises(ConfigurationError, match=r"^--peer: not an address"):
        load_settings(tmp_path, {"peers": ["10.0.0.1:1", text]}, {})
    with pytest.raises(ConfigurationError, match=r"^SHOAL_API: not an address"):
        load_settings(tmp_path, {}, {"SHOAL_API": text})
    path = write(tmp_path, f'listen = "{text}"')
    with pytest.raises(ConfigurationError, match=rf"^{path}, listen: not an address"):
        load_settings(tmp_path, {}, {})


@pytest.mark.parametrize("text", ["0.0.0.0:4454", "192.168.1.2:4454", "[::]:4454", "shop:4454"])
def test_a_control_api_beyond_the_loopback_is_refused(tmp_path: Path, text: str) -> None:
    for flags, variables, source in (
        ({"api": text}, {}, "--api"),
        ({}, {"SHOAL_API": text}, "SHOAL_API"),
    ):
        with pytest.raises(ConfigurationError, match=rf"^{source}: .* on the loopback only"):
            load_settings(tmp_path, flags, variables)
    path = write(tmp_path, f'api = "{text}"')
    with pytest.raises(ConfigurationError, match=rf"^{path}, api: .* on the loopback only"):
        load_settings(tmp_path, {}, {})


@pytest.mark.parametrize("text", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_any_loopback_address_may_serve_the_control_api(tmp_path: Path, text: str) -> None:
    assert load_settings(tmp_path, {"api": text}, {}).api == Address.parse(text)


def test_a_malformed_switch_is_refused_and_its_source_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^SHOAL_MDNS: true or false is due, not 'maybe'"):
        load_settings(tmp_path, {}, {"SHOAL_MDNS": "maybe"})
    path = write(tmp_path, "mdns = []")
    with pytest.raises(ConfigurationError, match=rf"^{path}, mdns: true or false is due, not \[\]"):
        load_settings(tmp_path, {}, {})


@pytest.mark.parametrize("name", ["peers", "fish"])
def test_a_text_where_a_list_is_due_is_refused(tmp_path: Path, name: str) -> None:
    path = write(tmp_path, f'{name} = "10.0.0.5:4001"')
    with pytest.raises(ConfigurationError, match=rf"^{path}, {name}: a list is due"):
        load_settings(tmp_path, {}, {})


def test_upcasters_that_are_no_text_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, 'upcasters = ["one:UPCASTERS"]')
    with pytest.raises(ConfigurationError, match=rf"^{path}, upcasters: a text is due"):
        load_settings(tmp_path, {}, {})


def test_an_empty_item_in_a_list_of_peers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^SHOAL_PEERS: not an address .*''"):
        load_settings(tmp_path, {}, {"SHOAL_PEERS": "10.0.0.5:4001,"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("peers", "10.0.0.5:0"),
        ("announce", "10.0.0.5:0"),
        ("announce", "0.0.0.0:4001"),
        ("announce", "[::]:4001"),
    ],
)
def test_an_address_where_nobody_can_be_reached_is_refused(
    tmp_path: Path, name: str, text: str
) -> None:
    with pytest.raises(ConfigurationError, match=rf"SHOAL_{name.upper()}: nobody .* at "):
        load_settings(tmp_path, {}, {f"SHOAL_{name.upper()}": text})


def test_an_unknown_setting_in_the_file_is_refused_and_the_known_ones_named(tmp_path: Path) -> None:
    path = write(tmp_path, 'listem = "0.0.0.0:4001"')
    with pytest.raises(ConfigurationError) as raised:
        load_settings(tmp_path, {}, {})
    assert str(raised.value) == (
        f"{path}: unknown settings ['listem'];"
        " there are ['announce', 'api', 'fish', 'listen', 'mdns', 'peers', 'routes', 'upcasters']"
    )


def test_a_file_that_is_no_toml_is_refused_and_named(tmp_path: Path) -> None:
    path = write(tmp_path, "listen =")
    with pytest.raises(ConfigurationError, match=rf"^{path}: Invalid value"):
        load_settings(tmp_path, {}, {})
    path.write_bytes(b'listen = "\xff"')
    with pytest.raises(ConfigurationError, match=rf"^{path}: .*utf-8"):
        load_settings(tmp_path, {}, {})


ROUTES = """
[[routes]]
where = "'sensor' & 'press' | 'noise'"
stream = "sensors"
max_age_s = 604800
max_events = 1000

[[routes]]
where = "'debug'"
stream = "debug"
"""


def test_routes_stand_in_the_file(tmp_path: Path) -> None:
    write(tmp_path, ROUTES)
    assert load_settings(tmp_path, {}, {"SHOAL_ROUTES": "ignored"}).routes == (
        Route(
            Tag("sensor") & Tag("press") | Tag("noise"),
            "sensors",
            Policy(max_age_s=604_800, max_events=1_000),
        ),
        Route(Tag("debug"), "debug"),
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("routes = 7", "tables are due"),
        ("routes = [7]", "route 1: a table is due"),
        ("[[routes]]\nstream = 's'", "route 1: where = "),
        ("[[routes]]\nwhere = \"'a'\"", "route 1: stream = "),
        ("[[routes]]\nwhere = \"'a'\"\nstream = 's'\nmax_age = 7", r"unknown \['max_age'\]"),
        ("[[routes]]\nwhere = \"'a\"\nstream = 's'", "route 1: "),
        ("[[routes]]\nwhere = \"'a'\"\nstream = 'default'", "keeps everything"),
        ("[[routes]]\nwhere = \"'a'\"\nstream = ''", "may not be empty"),
        ("[[routes]]\nwhere = \"'a'\"\nstream = 's'\nmax_events = 0", "positive number"),
        ("[[routes]]\nwhere = \"'a'\"\nstream = 's'\nmax_events = 1.5", "positive number"),
        ("[[routes]]\nwhere = \"'a'\"\nstream = 's'\nmax_age_s = nan", "positive number"),
        ("[[routes]]\nwhere = \"'a'\"\nstream = 's'\nmax_size_bytes = true", "positive number"),
    ],
)
def test_a_route_that_makes_no_sense_is_refused_by_its_number(
    tmp_path: Path, text: str, fault: str
) -> None:
    write(tmp_path, text)
    with pytest.raises(ConfigurationError, match=fault):
        load_settings(tmp_path, {}, {})
