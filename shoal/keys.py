"""A device's identity as the log sees it: signing, verifying and vouching, behind the log's own words."""

from collections.abc import Iterable

from lamport.ids import NodeId
from lamport.notices import Notice
from transport.credentials import Credentials
from transport.identity import Identity, verify_signature


class IdentityKeys:
    """The `lamport.chain.Keys` of an enrolled device."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self.credentials = Credentials(identity)

    @property
    def node(self) -> NodeId:
        """This node."""
        return self._identity.node

    @property
    def swarm(self) -> bytes:
        """The swarm's id."""
        return self._identity.swarm

    @property
    def certificate(self) -> bytes:
        """This node's certificate, DER."""
        return self._identity.certificate

    def sign(self, data: bytes) -> bytes:
        """This node's signature."""
        return self._identity.sign(data)

    def verify(self, node: NodeId, signature: bytes, data: bytes) -> bool:
        """Whether that node signed this."""
        return verify_signature(node, signature, data)

    def certifies(self, certificate: bytes, node: NodeId) -> bool:
        """Whether an authority of this swarm vouches, or vouched, for that node with this certificate."""
        return self.credentials.vouches(certificate, node)

    def verifies_admin(self, signature: bytes, data: bytes) -> bool:
        """Whether the swarm's admin signed this."""
        return verify_signature(NodeId(self._identity.admin), signature, data)

    def learn(self, notices: Iterable[Notice]) -> None:
        """Take note of the epochs that the admin has announced."""
        self.credentials.learn(notices)
