"""The command line, `shoal`.

Commands that make things (`swarm init`, `init`, `run`, `demo`), enrol by request (`request`, `enrol`, `accept`), look
after a log (`verify`, `backup`, `restore`, `export`, `import`) or at a protocol (`check`) work on files; all others ask
the running daemon of a data folder. A failure is one line on standard error, saying what was wrong and what to do, and
an exit status other than 0 (see `shoal.errors`).
"""

import errno
import io
import os
import sys
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Sequence
from typing import Any

from fish.errors import FishError
from lamport.errors import LogError
from shoal import checking, commands, enrolment_commands, membership_commands, upkeep_commands
from shoal.daemon import unwrapped
from shoal.errors import ShoalError, exit_status
from shoal.version import VERSION
from transport.errors import TransportError

_FULL = "the disk is full: free some space"

_INTERRUPTED = 130
"""What a shell reports for a program ended by an interrupt."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    _accept_any_terminal()
    parsed = parser().parse_args(arguments)
    try:
        status: int = parsed.command(parsed)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; do not let the interpreter trip over the flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except BaseException as raised:
        error = unwrapped(raised)
        if not isinstance(error, ShoalError | LogError | TransportError | FishError | OSError):
            raise
        print(f"shoal: {_told(error)}", file=sys.stderr)
        return exit_status(error)
    return status


def _told(error: BaseException) -> object:
    """What is said of an error; of those of the system that everybody meets, what to do, too."""
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return _FULL
    if isinstance(error, PermissionError) and error.filename is not None:
        return (
            f"this user may not open {error.filename} ({error.strerror}):"
            " run this as the user it belongs to, or change that with chown"
        )
    return error


def _accept_any_terminal() -> None:
    """Print what a terminal has no characters for as escapes, rather than not at all."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def parser() -> ArgumentParser:
    """The grammar of the command line."""
    top = ArgumentParser(
        prog="shoal", description="Event-sourced, local-first replication for shop floors."
    )
    top.add_argument("--version", action="version", version=f"shoal {VERSION}")
    sub = top.add_subparsers(required=True, metavar="COMMAND")
    _add_making(sub)
    _add_enrolment(sub)
    _add_membership(sub)
    _add_asking(sub)
    _add_peers(sub)
    _add_upkeep(sub)
    _add_checking(sub)
    return top


def _add_making(sub: Any) -> None:
    swarm = sub.add_parser("swarm", help="make a swarm").add_subparsers(
        required=True, metavar="ACTION"
    )
    swarm_init = swarm.add_parser("init", help="make the swarm key and the admin key")
    swarm_init.add_argument(
        "--out", required=True, metavar="KEYFILE", help="new file for the swarm key"
    )
    swarm_init.set_defaults(command=commands.swarm_init)

    init = _command(sub, "init", commands.init, "enrol this device into a swarm")
    init.add_argument(
        "--swarm-key", required=True, metavar="KEYFILE", help="made by `shoal swarm init`"
    )

    run = _command(sub, "run", commands.run, "run the daemon")
    run.add_argument("--listen", metavar="HOST:PORT", help="where peers connect (0.0.0.0:4001)")
    run.add_argument(
        "--api", metavar="HOST:PORT", help="control API, loopback only (127.0.0.1:4454)"
    )
    run.add_argument(
        "--peer", dest="peers", action="append", metavar="HOST:PORT", help="dial this peer, too"
    )
    run.add_argument(
        "--announce",
        action="append",
        metavar="HOST:PORT",
        help="tell peers that this node is found here, behind NAT or in a container",
    )
    run.add_argument(
        "--no-mdns",
        dest="mdns",
        action="store_false",
        default=None,
        help="neither announce nor discover",
    )
    run.add_argument("--fish", action="append", metavar="MODULE:NAME", help="host this fish")
    run.add_argument(
        "--upcasters", metavar="MODULE:NAME", help="bring events of older versions to today's"
    )
    run.add_argument("--verbose", action="store_true", help="log more")

    demo = sub.add_parser("demo", help="three daemons, a partition, and agreement")
    demo.add_argument(
        "--no-mdns", dest="mdns", action="store_false", default=None, help="use static addresses"
    )
    demo.set_defaults(command=commands.demo)


def _add_enrolment(sub: Any) -> None:
    request = _command(
        sub, "request", enrolment_commands.request, "ask for this device to be enrolled"
    )
    request.add_argument(
        "--name", default="", metavar="TEXT", help="shown to the admin; at most 40 bytes"
    )

    text = "answer a device's request, on the admin's machine"
    enrol = sub.add_parser("enrol", help=text, description=text.capitalize() + ".")
    enrol.add_argument(
        "--swarm-key", required=True, metavar="KEYFILE", help="made by `shoal swarm init`"
    )
    enrol.add_argument(
        "request", nargs="?", default="-", metavar="REQUEST", help="else read from standard input"
    )
    enrol.set_defaults(command=enrolment_commands.enrol)

    accept = _command(
        sub, "accept", enrolment_commands.accept, "take the admission that answers the request"
    )
    accept.add_argument(
        "admission",
        nargs="?",
        default="-",
        metavar="ADMISSION",
        help="else read from standard input",
    )


def _add_asking(sub: Any) -> None:
    publish = _command(
        sub, "publish", commands.publish, "publish an event; prints its key once it is durable"
    )
    publish.add_argument(
        "--tag", action="append", required=True, metavar="TAG", help="may be repeated"
    )
    publish.add_argument("json", metavar="JSON", help="the payload; - reads it from standard input")

    retract = _command(
        sub, "retract", commands.retract, "hide events from all folds and queries, for good"
    )
    retract.add_argument("key", nargs="+", metavar="KEY", help="as `shoal publish` prints it")
    retract.add_argument("--reason", required=True, metavar="TEXT", help="kept with the retraction")
    retract.add_argument(
        "--admin", metavar="KEYFILE", help="the admin's key, for events of other nodes"
    )

    query = _command(
        sub, "query", commands.query, "print the known events of a selection, a JSON line each"
    )
    query.add_argument("query", metavar="QUERY", help="such as \"FROM 'tag' & 'other'\"")
    query.add_argument("--order", choices=["asc", "desc", "stream-asc"], default="asc")

    tail = _command(sub, "tail", commands.tail, "print events as they come, a JSON line each")
    tail.add_argument("query", nargs="?", default="FROM allEvents", metavar="QUERY")
    tail.add_argument("--all", action="store_true", help="begin with the events known already")

    fish = _command(
        sub, "fish", commands.fish, "print the state of a fish and the offsets it covers"
    )
    fish.add_argument("name", nargs="?", metavar="NAME", help="without it, the names of all")

    explain = _command(
        sub, "explain", commands.explain, "print the events behind a fish and the state after each"
    )
    explain.add_argument("name", metavar="FISH")
    explain.add_argument("--at", metavar="KEY", help="end behind the event at this key")
    explain.add_argument(
        "--before", metavar="KEY", help="what was believed before this event came late, or went"
    )
    explain.add_argument("--limit", type=int, default=100, help="events to show (100)")
    explain.add_argument("--json", dest="as_json", action="store_true")

    status = _command(
        sub, "status", commands.status, "print node id, offsets, peers and what is missing"
    )
    status.add_argument("--json", dest="as_json", action="store_true")

    forks = _command(
        sub,
        "forks",
        commands.forks,
        "print the streams that were written twice, and where they part",
    )
    forks.add_argument("--json", dest="as_json", action="store_true")


def _add_membership(sub: Any) -> None:
    revoke = _command(
        sub,
        "revoke",
        membership_commands.revoke,
        "put a node out of the swarm, on the admin's machine",
    )
    revoke.add_argument("node", metavar="NODE", help="a node id, or its unambiguous beginning")
    _add_admin(revoke)
    revoke.add_argument(
        "--cut",
        action="append",
        default=[],
        metavar="STREAM=OFFSET",
        help="the last offset that counts (else all that this node holds); streams not named count for nothing",
    )
    revoke.add_argument("--nothing", action="store_true", help="nothing that it wrote counts")

    rotate = _command(
        sub,
        "rotate",
        membership_commands.rotate,
        "give all members new keys, on the admin's machine",
    )
    _add_admin(rotate)
    rotate.add_argument(
        "--swarm-key", required=True, metavar="KEYFILE", help="of the present epoch"
    )
    rotate.add_argument(
        "--out", required=True, metavar="KEYFILE", help="new file for the next epoch's swarm key"
    )
    rotate.add_argument(
        "--member",
        action="append",
        default=[],
        metavar="NODE",
        help="a member besides those that this node has met or heard of; may be repeated",
    )

    release = _command(
        sub,
        "release",
        membership_commands.release,
        "let everybody take in a quarantined stream, on the admin's machine",
    )
    release.add_argument("stream", metavar="STREAM", help="as `shoal status` names it")
    _add_admin(release)


def _add_admin(command: Any) -> None:
    command.add_argument("--admin", required=True, metavar="KEYFILE", help="the admin key")


def _add_peers(sub: Any) -> None:
    peers = _command(
        sub, "peers", commands.peers, "print the peers; cut and heal links, for drills"
    )
    peers.add_argument("action", nargs="?", choices=["cut", "heal"])
    peers.add_argument(
        "node", nargs="?", metavar="NODE", help="a node id, or its unambiguous beginning"
    )
    peers.add_argument("--json", dest="as_json", action="store_true")


def _add_upkeep(sub: Any) -> None:
    verify = _command(
        sub, "verify", upkeep_commands.verify, "look whether all of the log is what was signed"
    )
    verify.add_argument(
        "--heal", action="store_true", help="mend what can be mended; the daemon must be stopped"
    )
    verify.add_argument("--json", dest="as_json", action="store_true")

    backup = _command(
        sub, "backup", upkeep_commands.backup, "copy the log into a new file, while it is in use"
    )
    backup.add_argument("file", metavar="FILE", help="the new file")

    restore = _command(
        sub, "restore", upkeep_commands.restore, "put a backup in the place of the log"
    )
    restore.add_argument("file", metavar="FILE", help="made by `shoal backup`")

    export = _command(
        sub,
        "export",
        upkeep_commands.export,
        "write streams into an archive for any node to verify",
    )
    export.add_argument("--stream", action="append", metavar="STREAM", help="may be repeated")
    export.add_argument(
        "--node", action="append", metavar="NODE", help="all streams of a node; may be repeated"
    )
    export.add_argument(
        "--from", dest="first", type=int, default=0, metavar="OFFSET", help="of one stream"
    )
    export.add_argument(
        "--to", dest="last", type=int, metavar="OFFSET", help="of one stream, up to the seal there"
    )
    export.add_argument(
        "--since", metavar="FILE", help="leave out what this output of `status --json` has"
    )
    export.add_argument("file", metavar="FILE", help="the new file")

    import_ = _command(sub, "import", upkeep_commands.import_, "verify an archive and take it in")
    import_.add_argument("file", metavar="FILE", help="made by `shoal export`")


def _add_checking(sub: Any) -> None:
    text = "check whether a swarm protocol is well-formed, and machines conform to it"
    check = sub.add_parser("check", help=text, description=text.capitalize() + ".")
    check.add_argument("file", metavar="FILE", help="protocol, subscriptions and machines as JSON")
    check.add_argument(
        "--strict", action="store_true", help="fail where logs are heard in part, too"
    )
    check.add_argument("--json", dest="as_json", action="store_true")
    check.set_defaults(command=checking.check)


def _folder(text: str) -> str:
    if not text:
        raise ArgumentTypeError("an empty text names no folder; `.` is the present one")
    return text


def _command(sub: Any, name: str, command: Any, text: str) -> ArgumentParser:
    added: ArgumentParser = sub.add_parser(name, help=text, description=text.capitalize() + ".")
    data = os.environ.get("SHOAL_DATA") or None
    added.add_argument(
        "--data",
        metavar="DIR",
        default=data,
        type=_folder,
        required=data is None,
        help="data folder ($SHOAL_DATA)",
    )
    added.set_defaults(command=command)
    return added
