-- Schema 5: proven forks: streams of which two histories bear their author's seals (docs/identity.md).

-- The parts of such streams behind a last common event. What stands in a row of `streams` is one path, never moved;
-- a part of another path has a row of its own, whose `number` there is 2**53 + row.
CREATE TABLE branches (
  node     BLOB    NOT NULL,
  number   INTEGER NOT NULL,
  branch   BLOB    NOT NULL,  -- its name: the chain's hash after its first event
  row      INTEGER NOT NULL,  -- where its events stand
  trunk    INTEGER NOT NULL,  -- the row where its last common event stands
  "offset" INTEGER NOT NULL,  -- that event's offset (-1: the histories have none in common)
  hash     BLOB    NOT NULL,  -- the chain's hash there
  lamport  INTEGER NOT NULL,  -- its Lamport timestamp
  PRIMARY KEY (node, number, branch)
) WITHOUT ROWID;

-- The proofs, as they spread: each of two branches.
CREATE TABLE forks (
  node   BLOB    NOT NULL,
  number INTEGER NOT NULL,
  one    BLOB    NOT NULL,
  other  BLOB    NOT NULL,
  proof  BLOB    NOT NULL,
  alarm  INTEGER NOT NULL,  -- 1 while the alarm is still to be raised by this node, which found it
  PRIMARY KEY (node, number, one, other)
);

-- Two branches may hold retractions with one key: the branch in which each came tells them apart. What is filed is made
-- again when the database is next opened.
DROP TABLE retractions;
CREATE TABLE retractions (
  by_lamport INTEGER NOT NULL,
  by_node    BLOB    NOT NULL,
  by_number  INTEGER NOT NULL,
  by_branch  BLOB    NOT NULL,  -- empty where no fork of that stream was proven then
  lamport    INTEGER NOT NULL,
  node       BLOB    NOT NULL,
  number     INTEGER NOT NULL,
  by_offset  INTEGER NOT NULL,
  PRIMARY KEY (by_lamport, by_node, by_number, by_branch, lamport, node, number)
) WITHOUT ROWID;
DELETE FROM facts WHERE name = 'retractions';
