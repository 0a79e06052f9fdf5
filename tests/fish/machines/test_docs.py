"""What the page on workflows shows does what it says."""

import asyncio
import re
from pathlib import Path
from typing import Any

from fish.machines import Call
from simulations import Sim, swarm_test

PAGE = (Path(__file__).parents[3] / "docs" / "workflows.md").read_text("utf-8")
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
