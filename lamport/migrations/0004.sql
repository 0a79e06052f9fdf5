-- Schema 4: retractions that count (docs/evolution.md). A row says that one event hides another, known here or not.
CREATE TABLE retractions (
  by_lamport INTEGER NOT NULL,
  by_node    BLOB    NOT NULL,
  by_number  INTEGER NOT NULL,
  lamport    INTEGER NOT NULL,
  node       BLOB    NOT NULL,
  number     INTEGER NOT NULL,
  by_offset  INTEGER NOT NULL,
  PRIMARY KEY (by_lamport, by_node, by_number, lamport, node, number)
) WITHOUT ROWID;
