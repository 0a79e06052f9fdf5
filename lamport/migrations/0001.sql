-- Schema 1: the log of one node.

PRAGMA application_id = 1397247820;  -- "SHOL"

-- Facts about the database itself: whose it is, the stream it writes, its Lamport clock.
CREATE TABLE facts (
  name  TEXT PRIMARY KEY,
  value NOT NULL
) WITHOUT ROWID;

-- Every stream known here, under a short local number ("row", below 2**20), and how far it is held without a gap.
CREATE TABLE streams (
  row     INTEGER PRIMARY KEY,
  node    BLOB    NOT NULL,
  number  INTEGER NOT NULL,
  head    INTEGER NOT NULL,  -- highest offset
  hash    BLOB    NOT NULL,  -- the chain's hash there
  lamport INTEGER NOT NULL,  -- that event's Lamport timestamp
  horizon INTEGER NOT NULL,  -- first offset the author still keeps
  UNIQUE (node, number)
);

-- The certificates of the nodes that write these streams; they travel with the streams.
CREATE TABLE authors (
  node        BLOB PRIMARY KEY,
  certificate BLOB NOT NULL
) WITHOUT ROWID;

-- The events as their authors' bytes. The key is lamport * 2**20 + the stream's row: the table is its own order index.
CREATE TABLE events (
  key      INTEGER PRIMARY KEY,
  stream   INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,
  bytes    BLOB    NOT NULL
);
CREATE UNIQUE INDEX events_by_offset ON events (stream, "offset");

-- Which events bear a tag. A tag stands here as 63 bits of its hash; readers compare the event's own tags again.
CREATE TABLE tags (
  tag INTEGER NOT NULL,
  key INTEGER NOT NULL,
  PRIMARY KEY (tag, key)
) WITHOUT ROWID;

-- The authors' signatures on points of their chains.
CREATE TABLE seals (
  stream    INTEGER NOT NULL,
  "offset"  INTEGER NOT NULL,
  hash      BLOB    NOT NULL,
  clock     INTEGER NOT NULL,
  horizon   INTEGER NOT NULL,
  signature BLOB    NOT NULL,
  PRIMARY KEY (stream, "offset")
) WITHOUT ROWID;

-- States of fish at event keys: a cache that may be thrown away at any time.
CREATE TABLE snapshots (
  fish       TEXT    NOT NULL,
  version    INTEGER NOT NULL,
  key        TEXT    NOT NULL,
  definition TEXT    NOT NULL,
  offsets    TEXT    NOT NULL,  -- offset map, JSON
  horizon    TEXT,
  count      INTEGER NOT NULL,
  state      BLOB    NOT NULL,
  PRIMARY KEY (fish, version, key)
) WITHOUT ROWID;
