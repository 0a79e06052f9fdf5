"""Settings of a daemon: flags go before environment variables, these before the file, this before the defaults.

    flag        variable       shoal.toml in the data folder
    --listen    SHOAL_LISTEN   listen = "0.0.0.0:4001"          where peers connect
    --api       SHOAL_API      api = "127.0.0.1:4454"           the control API, loopback only
    --peer      SHOAL_PEERS    peers = ["10.0.0.5:4001"]        peers to dial beside those discovered
    --announce  SHOAL_ANNOUNCE announce = ["10.0.0.7:4001"]     what peers are told, behind NAT or in a container
    --no-mdns   SHOAL_MDNS     mdns = true                      announce and discover by mDNS
    --fish      SHOAL_FISH     fish = ["module:NAME"]           fish to host
    --upcasters …_UPCASTERS    upcasters = "module:NAME"       what older events look like today (docs/evolution.md)
                               [[routes]]                       what is not kept for ever (docs/retention.md)

Lists in variables are separated by commas.
"""

import ipaddress
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lamport.routes import Route
from shoal.errors import ConfigurationError
from shoal.folder import DEFAULT_LISTEN, SETTINGS_NAME
from shoal.routing import read_routes
from transport.errors import InvalidAddress
from transport.network import Address

_WILDCARDS = {"0.0.0.0", "::"}  # noqa: S104 - refused

DEFAULT_API = Address("127.0.0.1", 4454)


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a daemon is told."""

    data: Path
    listen: Address = DEFAULT_LISTEN
    api: Address = DEFAULT_API
    peers: tuple[Address, ...] = ()
    announce: tuple[Address, ...] = ()
    mdns: bool = True
    fish: tuple[str, ...] = ()
    upcasters: str = ""
    routes: tuple[Route, ...] = ()


def load_settings(data: Path, flags: Mapping[str, Any], environment: Mapping[str, str]) -> Settings:
    """Merge the sources; `flags` holds only what was given on the command line.

    Raises:
        ConfigurationError: a value makes no sense, or a setting in the file is unknown.
    """
    merged = _from_file(data / SETTINGS_NAME) | _from_environment(environment)
    merged |= {name: _checked(name, value, _FLAGS[name]) for name, value in flags.items()}
    return Settings(data, **merged)


def _from_file(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        values = tomllib.loads(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"{path}: {error}") from error
    unknown = sorted(values.keys() - _READERS.keys())
    if unknown:
        raise ConfigurationError(
            f"{path}: unknown settings {unknown}; there are {sorted(_READERS)}"
        )
    return {name: _checked(name, value, f"{path}, {name}") for name, value in values.items()}


def _from_environment(environment: Mapping[str, str]) -> dict[str, Any]:
    found = {name: environment.get(f"SHOAL_{name.upper()}", "") for name in _FLAGS}
    return {
        name: _checked(
            name,
            text.split(",") if name in {"peers", "announce", "fish"} else text,
            f"SHOAL_{name.upper()}",
        )
        for name, text in found.items()
        if text
    }


def _checked(name: str, value: Any, where: str) -> Any:
    try:
        return _READERS[name](value)
    except (InvalidAddress, ValueError) as error:
        raise ConfigurationError(f"{where}: {error}") from error


def _address(value: Any) -> Address:
    return value if isinstance(value, Address) else Address.parse(str(value).strip())


def _api_address(value: Any) -> Address:
    address = _address(value)
    try:
        is_loopback = address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(f"the control API listens on the loopback only, not at {address}")
    return address


def _peers(value: Any) -> tuple[Address, ...]:
    found = tuple(_address(item) for item in _items(value))
    for one in found:
        if not one.port:
            raise ValueError(f"nobody can be reached at {one}: port 0 is for who listens")
    return found


def _announced(value: Any) -> tuple[Address, ...]:
    found = _peers(value)
    for one in found:
        if one.host in _WILDCARDS:
            raise ValueError(f"nobody finds this node at {one}: name an address that peers reach")
    return found


def _names(value: Any) -> tuple[str, ...]:
    return tuple(str(item).strip() for item in _items(value))


def _name(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is due, not {value!r}")  # noqa: TRY004 - one kind of fault for all settings
    return value.strip()


def _items(value: Any) -> list[Any] | tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise ValueError(f"a list is due, not {value!r}")  # noqa: TRY004 - one kind of fault for all settings
    return value


def _switch(value: Any) -> bool:
    switches = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    text = str(value).lower()
    if text not in switches:
        raise ValueError(f"true or false is due, not {value!r}")
    return switches[text]


_FLAGS: Mapping[str, str] = {
    "listen": "--listen",
    "api": "--api",
    "peers": "--peer",
    "announce": "--announce",
    "mdns": "--no-mdns",
    "fish": "--fish",
    "upcasters": "--upcasters",
}

_READERS: Mapping[str, Callable[[Any], Any]] = {
    "listen": _address,
    "api": _api_address,
    "peers": _peers,
    "announce": _announced,
    "mdns": _switch,
    "fish": _names,
    "upcasters": _name,
    "routes": read_routes,
}
