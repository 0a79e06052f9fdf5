"""Networks of this machine's own: hosts in network namespaces, on bridges that a switch routes between.

Multicast on the bridges is real, and ends at each; links can be pulled. It takes root and Linux.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.shoal.daemons import enrolled

LIMIT_S = 90.0
"""When to give up; no test waits for it unless something is wrong."""

PORT = 4001


def run(*command: str) -> str:
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
    return done.stdout


@dataclass
class Host:
    """A namespace with one interface, and the daemon in it."""

    name: str
    address: str
    folder: Path
    daemon: "subprocess.Popen[str] | None" = None

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def shoal(self, command: str, *arguments: str) -> str:
        python = self.inside(sys.executable, "-m", "shoal", command, "--data", str(self.folder))
        return run(*python, *arguments)

    def start(self, *arguments: str) -> None:
        """Start a daemon here, and wait until it listens."""
        command = ("-m", "shoal", "run", "--data", str(self.folder), *arguments)
        with (self.folder / "diary").open("w") as diary:
            self.daemon = subprocess.Popen(
                self.inside(sys.executable, *command),
                stdout=subprocess.PIPE,
                stderr=diary,
                text=True,
            )
        assert self.daemon.stdout is not None
        assert "listens" in self.daemon.stdout.readline(), (self.folder / "diary").read_text()

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.shoal("status", "--json"))
        return found

    def connected(self) -> int:
        return sum(peer["connected"] for peer in self.status()["peers"])

    def pull(self, *, out: bool) -> None:
        """Pull the plug of this host, or put it in again."""
        run(*self.inside("ip", "link", "set", "eth0", "down" if out else "up"))
        if not out:
            gateway = self.address.rsplit(".", 1)[0] + ".1"
            run(*self.inside("ip", "route", "replace", "default", "via", gateway))

    def resident(self) -> int:
        """Bytes of the daemon that are in memory."""
        assert self.daemon is not None
        lines = Path(f"/proc/{self.daemon.pid}/status").read_text().splitlines()
        [size] = [line.split()[1] for line in lines if line.startswith("VmRSS")]
        return int(size) * 1_024


@dataclass
class Plant:
    """Subnets, and hosts in them."""

    folder: Path
    stack: ExitStack
    prefix: str = field(default_factory=lambda: f"shoal{os.getpid()}")
    hosts: list[Host] = field(default_factory=list)

    def prepare(self) -> None:
        self._namespace(self.switch)
        run("ip", "netns", "exec", self.switch, "sysctl", "-q", "-w", "net.ipv4.ip_forward=1")

    @property
    def switch(self) -> str:
        return f"{self.prefix}sw"

    def subnet(self, number: int) -> None:
        """A bridge of its own, and an address of the switch on it that routes to the others."""
        name = f"br{number}"
        inside = ("ip", "-n", self.switch)
        # Without snooping, as a plain switch: every port gets all multicast.
        run(*inside, "link", "add", name, "type", "bridge", "mcast_snooping", "0")
        run(*inside, "address", "add", f"10.77.{number}.1/24", "dev", name)
        run(*inside, "link", "set", name, "up")

    def host(self, subnet: int) -> Host:
        number = len(self.hosts) + 10
        name, address = f"{self.prefix}h{number}", f"10.77.{subnet}.{number}"
        self._namespace(name)
        port, inside = f"p{number}", ("ip", "-n", name)
        run(
            *("ip", "-n", self.switch, "link", "add", port, "type", "veth"),
            *("peer", "name", "eth0", "netns", name),
        )
        run("ip", "-n", self.switch, "link", "set", port, "master", f"br{subnet}", "up")
        run(*inside, "address", "add", f"{address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "route", "add", "default", "via", f"10.77.{subnet}.1")
        self.hosts.append(Host(name, address, enrolled(self.folder / name)))
        return self.hosts[-1]

    def _namespace(self, name: str) -> None:
        run("ip", "netns", "add", name)
        self.stack.callback(run, "ip", "netns", "del", name)
        run("ip", "-n", name, "link", "set", "lo", "up")


@contextmanager
def plant(folder: Path) -> Iterator[Plant]:
    """Networks and hosts, gone with all their daemons at the end; skips the test where they cannot be had."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces take root")
    with ExitStack() as stack:
        made = Plant(folder, stack)
        try:
            made.prepare()
            made.subnet(0)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no network namespaces or bridges here: {error}")
        try:
            yield made
        finally:
            for host in made.hosts:
                if host.daemon is not None:
                    host.daemon.kill()
                    host.daemon.communicate()


def wait_until(claim: str, holds: Any) -> None:
    """Ask again and again; every question runs a command, and takes its time."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        assert time.monotonic() < deadline, f"not within {LIMIT_S:.0f} s: {claim}"
