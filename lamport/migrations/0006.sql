-- Schema 6: old events stand in compressed blocks, and each row bears a checksum (docs/log.md).

-- CRC-32 of the bytes, begun with the lower 32 bits of key XOR offset. Rows of older schemas have none.
ALTER TABLE events ADD COLUMN crc INTEGER;

-- Up to 128 consecutive events of one stream, compressed (lamport/blocks.py), with checksums. A block is
-- never written again. It is found by its first event's key, which is its own, or by stream and offset.
CREATE TABLE blocks (
  key      INTEGER PRIMARY KEY,
  last     INTEGER NOT NULL,  -- the last event's key
  stream   INTEGER NOT NULL,
  "offset" INTEGER NOT NULL,  -- the first event's
  count    INTEGER NOT NULL,
  data     BLOB    NOT NULL
);
CREATE INDEX blocks_by_offset ON blocks (stream, "offset", count);
CREATE INDEX blocks_by_key ON blocks (stream);  -- each index ends in the key by itself
CREATE INDEX blocks_by_last ON blocks (last);

-- What the frames of blocks were compressed with (lamport/dictionaries.py), each in two copies.
CREATE TABLE dictionaries (
  number INTEGER NOT NULL,
  copy   INTEGER NOT NULL,
  data   BLOB    NOT NULL,
  crc    INTEGER NOT NULL,  -- CRC-32 of the data, begun with 2 * number + copy
  PRIMARY KEY (number, copy)
) WITHOUT ROWID;
