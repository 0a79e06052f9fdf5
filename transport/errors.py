"""What can go wrong between nodes, and whose fault it is.

One root, `TransportError`. `LocalFault` is ours or our caller's to mend. `PeerFault` is the other side's: it ends that
session and never the node. "Not yet" is a value, not an error.
"""


class TransportError(Exception):
    """Root of all errors of the transport."""


class LocalFault(TransportError):
    """Something on this side is wrong; the text says what to do."""


class InvalidAddress(LocalFault):
    """A text is not an address."""


class IdentityError(LocalFault):
    """A key or certificate of this device is missing, loosely protected or unreadable."""


class InvalidText(LocalFault):
    """A request or admission that a person brought is damaged, of another version, or meant for another device."""


class MailError(TransportError):
    """Mail cannot be sealed for this node id, or not be opened with this key."""


class LinkEnded(TransportError):
    """A link ended and nobody is to blame: hung up, replaced, cut, stopped."""


class PeerFault(TransportError):
    """The peer broke the protocol, or what it sent does not hold. Ends the session."""


class PeerRejected(PeerFault):
    """The peer is not (or no longer, or not now) somebody to talk to. No frame of its was parsed."""


class NotAMember(PeerRejected):
    """The peer was revoked, or has keys of an epoch that is over and was not renewed."""


class ForgedEvents(PeerFault):
    """The peer sent events that do not hold: broken or hostile, it is not talked to for a while."""
