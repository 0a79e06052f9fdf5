"""What the page on workflows shows does what it says."""

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from fish.machines import Call, System, load_machine
from simulations import Sim, swarm_test
from tests.fish.machines.benches import one

PAGE = (Path(__file__).parents[3] / "docs" / "workflows.md").read_text("utf-8")
[PARCEL] = re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)
DEFINITION, USE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)[:2]


@swarm_test(nodes=1, seeds=1)
async def test_the_order_is_paid_and_printed(sim: Sim) -> None:
    printed: list[Any] = []

    async def charge(_: Call) -> str:
        return "r17"

    async def print_(call: Call) -> None:
        printed.append(call.args)

    names: dict[str, Any] = {
        "node": sim.nodes[0].node,
        "charge": charge,
        "print_": print_,
        "void": print_,
    }
    exec(DEFINITION, names)  # noqa: S102 - our own page
    lines = [*USE.splitlines(), "    await asyncio.sleep(1)", "return answer"]
    names["asyncio"] = asyncio
    exec("async def shown():\n" + "\n".join(f"    {line}" for line in lines), names)  # noqa: S102 - our own page
    answer = await names["shown"]()
    assert (answer.value, answer.is_settled) == ("paid", True)
    assert printed == [{"receipt": "r17"}]


def test_the_parcel_of_json_is_a_machine() -> None:
    system = System((load_machine(json.loads(PARCEL)),))
    parcel = one(system, "parcel/1", {"type": "SEND", "kg": 3})
    assert (parcel.value, parcel.context) == ("leaving", {"tries": 1})
    assert [intent.name for intent in parcel.intents] == ["label"]
    assert [timer.delay for timer in parcel.timers] == [60, 3600]
    assert one(system, "parcel/1", {"type": "SEND", "kg": 30}).output == 0
