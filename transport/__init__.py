"""Events between nodes: identity, secure channel, wire messages, session, gossip, discovery, sockets.

The way of an event: a `Want` of a peer or a commit of our own -> a sealed range of the log -> one frame on an
authenticated channel -> the peer's session -> its log, which verifies chain and seal before anything of it counts.
"""
