-- Schema 7: what the admin has signed for the whole swarm (docs/membership.md).

-- Notices as their bytes, in the order in which they came.
CREATE TABLE notices (
  place INTEGER PRIMARY KEY,
  id    BLOB NOT NULL UNIQUE,
  bytes BLOB NOT NULL
);

-- How far the streams of revoked nodes count, by their parts. What lies beyond stays in the other tables, and is not
-- handed out.
CREATE TABLE cuts (
  node     BLOB    NOT NULL,
  number   INTEGER NOT NULL,
  branch   BLOB    NOT NULL,  -- empty for a stream of which no fork is proven
  "offset" INTEGER NOT NULL,  -- the last offset that counts, -1 for nothing
  PRIMARY KEY (node, number, branch)
) WITHOUT ROWID;
