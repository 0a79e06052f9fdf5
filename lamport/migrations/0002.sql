-- Schema 2: the tag index is written in runs and merged in the background (docs/log.md).

-- Which events bear a tag, as it came with the commits: pairs of tag hash and event key, 64 bits each, little endian.
CREATE TABLE tag_runs (
  id      INTEGER PRIMARY KEY,
  entries BLOB    NOT NULL
);

-- The same, merged: blocks of a tag's event keys, sorted, as differences, compressed ...
CREATE TABLE tag_blocks (
  tag   INTEGER NOT NULL,
  first INTEGER NOT NULL,  -- lowest key in it
  last  INTEGER NOT NULL,  -- highest key in it
  size  INTEGER NOT NULL,
  keys  BLOB    NOT NULL
);
CREATE INDEX tag_blocks_by_key ON tag_blocks (tag, first, last, size);

-- ... and of each tag the latest keys, too few for a block: 64 bits each, in the order they came.
CREATE TABLE tag_tails (
  tag  INTEGER PRIMARY KEY,
  keys BLOB    NOT NULL
);
