"""The layout is the architecture: imports only go down the floors, and the world enters only at the edge."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = (
    "lamport",
    "fish",
    "transport",
    "shoal",
    "simulations",
    "benchmarks",
    "tests",
    "examples",
)

MAY_IMPORT = {
    "lamport": {"lamport"},
    "fish": {"fish", "lamport"},
    "transport": {"transport", "lamport"},
    "shoal": {"shoal", "fish", "transport", "lamport"},
    "simulations": {"simulations", "shoal", "fish", "transport", "lamport"},
}

FLOORS = (
    # 0: values
    (
        "lamport.errors lamport.ids lamport.tags lamport.offsets lamport.event lamport.query lamport.seams"
        " lamport.snapshots lamport.routes fish.errors fish.protocols.errors fish.machines.errors"
        " transport.errors"
        " shoal.version"
    ),
    # 1: pure machines
    (
        "lamport.clock lamport.codec lamport.chain lamport.horizon lamport.retention lamport.retraction"
        " lamport.upcasters lamport.forks lamport.branches lamport.row_keys lamport.frames lamport.blocks"
        " lamport.fields lamport.leaps lamport.notices lamport.revocation lamport.cuts"
        " lamport.commit lamport.latest lamport.requests lamport.doorbell lamport.stream_check lamport.archive"
        " lamport.postings lamport.turns"
        " fish.states fish.fingerprint fish.work fish.definition fish.given fish.timeline"
        " fish.protocols.values fish.protocols.problems fish.protocols.wellformed"
        " fish.protocols.equivalence fish.protocols.projection fish.protocols.reading fish.protocols.roles"
        " fish.protocols.parts"
        " fish.machines.addresses fish.machines.expressions fish.machines.definition fish.machines.acts"
        " fish.machines.inventory fish.machines.contexts fish.machines.migrating fish.machines.shapes"
        " fish.machines.commands"
        " fish.machines.chart fish.machines.building fish.machines.loading"
        " fish.machines.instance fish.machines.register fish.machines.offspring fish.machines.messages"
        " fish.machines.stepping"
        " fish.machines.folding fish.machines.coordination fish.machines.system"
        " fish.machines.drawing fish.emission fish.ready fish.dispatch"
        " fish.testing fish.typed fish.reports fish.walks fish.turned fish.purity fish.oversight fish.news"
        " transport.certificates transport.mail transport.texts transport.enrolment"
        " transport.identity transport.handshake transport.frames transport.exchange transport.buckets"
        " transport.packing transport.messages transport.codec transport.roots transport.tree transport.targets"
        " transport.aliases transport.horizons transport.claims transport.disclosures transport.outbox"
        " transport.arriving transport.aside"
        " transport.phases transport.journal transport.clocks transport.confirming transport.catchup"
        " transport.liveness transport.ripening transport.wants transport.mesh transport.progress transport.sending"
        " transport.session transport.epochs transport.credentials transport.network transport.noticing"
    ),
    # 2: the durable log
    (
        "lamport.lineage lamport.tag_index lamport.tag_removal lamport.retraction_table lamport.horizon_table"
        " lamport.notice_table lamport.branch_table lamport.evidence lamport.reach"
        " lamport.sqlite_errors lamport.schema lamport.store lamport.paging lamport.spans lamport.reader"
        " lamport.snapshot_table lamport.proving"
        " lamport.gaps lamport.verification lamport.healing lamport.misfiled lamport.repair"
        " lamport.pruning lamport.dictionaries lamport.event_table lamport.compaction lamport.commit_table"
        " lamport.notes lamport.trunks lamport.serving"
    ),
    # 3: the async middle
    (
        "lamport lamport.withdrawal lamport.follower lamport.tidying lamport.adopting lamport.log lamport.exchange"
        " fish fish.machines fish.machines.office fish.machines.services fish.machines.timers"
        " fish.machines.ledger fish.machines.stability fish.machines.runtime fish.log fish.ahead fish.snapshots"
        " fish.observation fish.dues"
        " fish.running fish.effects fish.pond fish.feed fish.explaining fish.shown fish.residents fish.surroundings"
        " fish.standing fish.time_slice fish.lookout fish.collection fish.folding fish.protocols fish.protocols.playing"
        " transport.intake"
        " transport.finishing transport.membership transport transport.forks transport.repairs transport.rooting"
        " transport.spreading transport.link transport.bans transport.newcomer transport.meeting transport.standing"
        " transport.peers"
        " shoal.errors shoal.seams shoal.keys shoal.alarms shoal.sync shoal.node shoal.views shoal.explaining"
        " shoal.worker shoal.strictjson shoal.membership"
    ),
    # 4: the edge
    (
        "lamport.sqlite lamport.backup transport.keyfiles transport.tls transport.mdns shoal shoal.__main__"
        " shoal.system shoal.folder shoal.settings shoal.hosting shoal.api shoal.control"
        " shoal.client shoal.daemon shoal.commands shoal.checking shoal.upkeep"
        " shoal.upkeep_commands shoal.newfile shoal.cli shoal.demo shoal.ballast shoal.routing"
        " shoal.enrolment shoal.enrolment_commands shoal.watchdog shoal.isolation shoal.strangers"
        " shoal.membership_api shoal.membership_commands"
    ),
    # above the edge: the simulator, which runs the node and is imported by nothing
    (
        "simulations simulations.errors simulations.loop simulations.trace simulations.disk simulations.harsh"
        " simulations.wire simulations.network simulations.device simulations.world"
        " simulations.histories simulations.revoking simulations.retracting simulations.laws"
        " simulations.watching simulations.acts"
        " simulations.markers simulations.knobs simulations.damage simulations.horizons"
        " simulations.questions simulations.campaign"
        " simulations.plan simulations.play simulations.planted"
        " simulations.session simulations.purity simulations.sim simulations.drill simulations.swarm"
        " simulations.plugin simulations.gossip"
        " simulations.gist simulations.layout simulations.paint simulations.picture"
        " simulations.telling simulations.stories"
        " simulations.__main__"
    ),
)
FLOOR_OF = {module: number for number, names in enumerate(FLOORS) for module in names.split()}

EDGE = 4

WORLD = {
    "time",
    "secrets",
    "uuid",
    "threading",
    "socket",
    "sqlite3",
    "subprocess",
    "multiprocessing",
}
"""Modules through which the world enters; below the edge only these exceptions may name them."""
EXCEPTIONS = {
    ("lamport.sqlite_errors", "sqlite3")
}  # the names of its errors; the connection is handed in


def modules() -> Iterator[tuple[str, Path]]:
    for package in MAY_IMPORT:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), path


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield from (_target(node.module or "", alias.name) for alias in node.names)


def _target(module: str, name: str) -> str:
    """The module that `from module import name` reaches."""
    return f"{module}.{name}" if f"{module}.{name}" in FLOOR_OF else module


ALL = list(modules())


def test_every_module_has_a_floor() -> None:
    assert {name for name, _ in ALL} == set(FLOOR_OF)


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name for name, _ in ALL])
def test_imports_only_go_down(name: str, path: Path) -> None:
    for target in imported(path):
        package = target.partition(".")[0]
        if package in PACKAGES:
            assert package in MAY_IMPORT[name.partition(".")[0]], f"{name} imports {target}"
            assert FLOOR_OF[target] <= FLOOR_OF[name], f"{name} imports {target}, which is above it"


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name for name, _ in ALL])
def test_the_world_enters_only_at_the_edge(name: str, path: Path) -> None:
    if FLOOR_OF[name] >= EDGE:
        return
    for target in imported(path):
        assert target not in WORLD or (name, target) in EXCEPTIONS, f"{name} imports {target}"


@pytest.mark.parametrize(("name", "path"), ALL, ids=[name for name, _ in ALL])
def test_no_file_is_longer_than_600_lines(name: str, path: Path) -> None:
    assert path.read_text("utf-8").count("\n") <= 600, name
