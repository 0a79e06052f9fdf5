"""The node, assembled: `Node`, configuration, daemon, HTTP API, client, command line.

In your own program:

    from shoal import Address, open_node

    async with open_node("data/tablet-7", peers=[Address.parse("10.0.0.5:4001")]) as node:
        await node.publish("worker", {"type": "started"})

`open_node` takes a data folder that `shoal init` has made, or `shoal request` and `shoal accept`.
"""

from shoal.folder import enrol_device, make_swarm, open_node
from shoal.node import Node, NodeStatus
from shoal.seams import Seams
from shoal.version import VERSION
from transport.network import Address

__version__ = VERSION

__all__ = ["Address", "Node", "NodeStatus", "Seams", "enrol_device", "make_swarm", "open_node"]
