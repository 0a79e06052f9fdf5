"""Discovery on real networks: multicast that ends at the subnet, plugs that are pulled, and a prankster."""

import subprocess
import sys
from pathlib import Path

from tests.shoal.daemons import SWARM_KEY
from tests.shoal.namespaces import LIMIT_S, PORT, Host, plant, wait_until
from transport.identity import swarm_hint

RSS_GROWTH = 50 * 1024 * 1024

ROGUE = """
import random, socket, sys, time
from zeroconf import DNSOutgoing, const
from lamport.ids import NodeId
from transport.mdns import SERVICE
from zeroconf import ServiceInfo
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
out.bind(("", 5353))
draw = random.Random(1)
for number in range(10_000):
    instance = draw.randbytes(16).hex()
    info = ServiceInfo(SERVICE, f"{instance}.{SERVICE}", port=4001, server=f"r{number}.local.",
        properties={"txtvers": b"1", "sid": sys.argv[1], "nid": str(NodeId(draw.randbytes(32)))},
        parsed_addresses=[f"10.77.{number // 250 % 250}.{number % 250 + 1}"])
    message = DNSOutgoing(const._FLAGS_QR_RESPONSE | const._FLAGS_AA)
    for record in (info.dns_pointer(), info.dns_service(), info.dns_text(), *info.dns_addresses()):
        message.add_answer_at_time(record, 0)
    for packet in message.packets():
        out.sendto(packet, ("224.0.0.251", 5353))
    if number % 50 == 49:
        time.sleep(0.01)
print("said")
"""


def events(host: Host) -> int:
    return sum(last + 1 for last in host.status()["offsets"].values())


def test_two_subnets_are_joined_by_one_static_peer(tmp_path: Path) -> None:
    """Multicast finds the neighbours of each; one address leads over, and by what peers tell all find all."""
    with plant(tmp_path) as made:
        made.subnet(1)
        a, b = made.host(0), made.host(0)
        c, d = made.host(1), made.host(1)
        for host in (a, b, d):
            host.start()
        c.start("--peer", f"{a.address}:{PORT}")
        for host in (a, b, c, d):
            wait_until(f"{host.name} is linked with all", lambda host=host: host.connected() == 3)
        b.shoal("publish", "--tag", "x", "1")
        wait_until("what b wrote is at d", lambda: events(d) == 1)


def test_an_interface_that_goes_away_and_comes_back_is_announced_again(tmp_path: Path) -> None:
    with plant(tmp_path) as made:
        a, b = made.host(0), made.host(0)
        a.start()
        b.start()
        wait_until("both are linked", lambda: a.connected() == b.connected() == 1)
        b.pull(out=True)
        wait_until("a has noticed", lambda: a.connected() == 0)
        a.daemon.terminate()  # type: ignore[union-attr] # it runs
        a.daemon.communicate(timeout=LIMIT_S)  # type: ignore[union-attr] # it runs
        c = made.host(0)
        c.start()  # b cannot have heard of it
        c.shoal("publish", "--tag", "x", "1")
        b.pull(out=False)
        wait_until("b has met c", lambda: b.connected() == 1)
        wait_until("what c wrote is at b", lambda: events(b) == 1)


def test_ten_thousand_made_up_announcements_disturb_nobody(tmp_path: Path) -> None:
    with plant(tmp_path) as made:
        a, b, rogue = made.host(0), made.host(0), made.host(0)
        a.start()
        b.start()
        wait_until("both are linked", lambda: a.connected() == b.connected() == 1)
        before = a.resident()
        command = rogue.inside(sys.executable, "-c", ROGUE, swarm_hint(SWARM_KEY.swarm))
        told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT_S)
        assert told.stdout == "said\n"
        b.shoal("publish", "--tag", "x", "1")
        wait_until("what b wrote is at a", lambda: events(a) == 1)
        assert a.connected() == 1
        assert a.resident() - before < RSS_GROWTH
