"""A workflow on one node: commands that settle or are refused, a service, an effect that is done once."""

import asyncio
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from fish.machines import Call, Effect, System, assign, invoke, machine, state, to
from shoal import Address, Node, enrol_device, make_swarm, open_node

PAID = to("paid", do=assign(receipt="$event.output"))
ORDER = machine(
    "order",
    initial="open",
    context={"amount": 0, "receipt": None},
    events={"PAY": {"amount": "number"}},
    states={
        "open": state(on={"PAY": to("paying", do=assign(amount="$event.amount"))}),
        "paying": state(invoke=invoke("charge", args="$ctx.amount", done=PAID, error="failed")),
        "paid": state(entry=Effect("label", {"receipt": "$ctx.receipt"})),
        "failed": state(),
    },
)


async def charge(call: Call) -> str:
    """A service: what it returns is its output; with `call.key` nobody is charged twice."""
    return f"{call.args} paid"


async def label(call: Call) -> None:
    """An effect: done by the node that logged the event behind it, at least once."""
    print("label:", call.args["receipt"])


async def work(node: Node) -> None:
    """Send what the machine takes, and what it does not."""
    services, effects = {"charge": charge}, {"label": label}
    async with node.machines(System((ORDER,)), services=services, effects=effects) as machines:
        order = machines.machine("order/17")
        for event in ({"type": "PAY"}, {"type": "PAY", "amount": 12}, {"type": "PAY", "amount": 5}):
            answer = await order.send(event, timeout=90)
            print(answer.value if answer.is_accepted else f"refused: {answer.reason}")
        await machines.idle()  # until the label is printed, too


async def main(folder: Path) -> None:
    """The machine's state is in the log: a second start goes on where the first one ended."""
    enrol_device(folder / "till", make_swarm()[0])
    for _ in range(2):
        async with open_node(folder / "till", listen=Address("127.0.0.1", 0), mdns=False) as node:
            await work(node)


if __name__ == "__main__":
    with TemporaryDirectory() as name:
        sys.exit(asyncio.run(main(Path(name))))
