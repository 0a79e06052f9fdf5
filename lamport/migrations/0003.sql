-- Schema 3: retention (docs/retention.md).

-- The streams that routes lead to, and the number under which this node writes each at present.
CREATE TABLE named_streams (
  name   TEXT PRIMARY KEY,
  number INTEGER NOT NULL
) WITHOUT ROWID;

-- Streams of which the author gave up the beginning: the seal that says so, and how far this database has followed.
-- The first offset that is kept here is the horizon in the table of streams.
CREATE TABLE horizons (
  stream    INTEGER PRIMARY KEY,
  "offset"  INTEGER NOT NULL,
  hash      BLOB    NOT NULL,
  clock     INTEGER NOT NULL,
  horizon   INTEGER NOT NULL,  -- first offset that the author still keeps
  signature BLOB    NOT NULL,
  base      BLOB    NOT NULL,  -- hash of the chain before the first offset kept here, empty where all of it is
  cleared   INTEGER NOT NULL   -- what stood below this offset is deleted
);
