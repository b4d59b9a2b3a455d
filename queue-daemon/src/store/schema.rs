//! The tables of `queue.db`, as numbered migrations that are only ever added to.
//!
//! Times are wall-clock milliseconds since 1970. State codes are `StateName::code`. `usage` holds the number of
//! live deliveries by user; triggers keep it, so that no statement can forget to.

use sqlite_kit::Migration;

/// Marks the file as ours ("ekaQ").
pub(crate) const APPLICATION_ID: u32 = 0x656b_6151;

/// Every schema there has been.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "queue", sql: QUEUE },
    Migration { version: 2, name: "claims of several runs", sql: CLAIMS },
    Migration { version: 3, name: "what destinations have", sql: CACHES },
    Migration { version: 4, name: "the end of what is remembered", sql: ENDS },
    Migration { version: 5, name: "the audit log", sql: AUDIT },
];

const QUEUE: &str = "
CREATE TABLE meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;

CREATE TABLE destination (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  paused INTEGER NOT NULL DEFAULT 0,
  bytes_pushed INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE request (
  id INTEGER PRIMARY KEY,
  key BLOB NOT NULL UNIQUE,
  source INTEGER NOT NULL,
  via INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  tag TEXT,
  drv TEXT,
  repository TEXT,
  branch TEXT,
  commit_id TEXT,
  trust INTEGER,
  priority INTEGER NOT NULL,
  received_ms INTEGER NOT NULL,
  complete INTEGER NOT NULL
);
CREATE INDEX request_by_tag ON request(tag) WHERE tag IS NOT NULL;
CREATE INDEX request_by_age ON request(received_ms);

CREATE TABLE delivery (
  id INTEGER PRIMARY KEY,
  path TEXT NOT NULL,
  destination INTEGER NOT NULL REFERENCES destination(id),
  state INTEGER NOT NULL,
  attempts INTEGER NOT NULL DEFAULT 0,
  backoff_ms INTEGER NOT NULL DEFAULT 0,
  not_before_ms INTEGER NOT NULL DEFAULT 0,
  token INTEGER NOT NULL DEFAULT 0,
  tried_ms INTEGER NOT NULL DEFAULT 0,
  priority INTEGER NOT NULL,
  uid INTEGER NOT NULL,
  drv TEXT,
  tag TEXT,
  nar_bytes INTEGER NOT NULL,
  queued_ms INTEGER NOT NULL,
  changed_ms INTEGER NOT NULL,
  last_class TEXT,
  last_error TEXT,
  last_output TEXT,
  receipt TEXT,
  UNIQUE (path, destination)
);
CREATE INDEX delivery_ready ON delivery(destination, priority DESC, id) WHERE state = 0;
CREATE INDEX delivery_waiting ON delivery(destination, not_before_ms) WHERE state = 4;
CREATE INDEX delivery_by_state ON delivery(state, destination, changed_ms);

CREATE TABLE request_delivery (
  request INTEGER NOT NULL REFERENCES request(id) ON DELETE CASCADE,
  delivery INTEGER NOT NULL REFERENCES delivery(id) ON DELETE CASCADE,
  PRIMARY KEY (request, delivery)
) WITHOUT ROWID;
CREATE INDEX request_delivery_back ON request_delivery(delivery);

CREATE TABLE presence (
  destination INTEGER NOT NULL REFERENCES destination(id) ON DELETE CASCADE,
  path TEXT NOT NULL,
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (destination, path)
) WITHOUT ROWID;

CREATE TABLE claim (
  drv TEXT PRIMARY KEY,
  key BLOB NOT NULL,
  destinations TEXT NOT NULL,
  repository TEXT,
  branch TEXT,
  commit_id TEXT,
  trust INTEGER,
  uid INTEGER NOT NULL,
  until_ms INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX claim_by_key ON claim(key);

CREATE TABLE usage (
  uid INTEGER PRIMARY KEY,
  live INTEGER NOT NULL
);
CREATE TRIGGER usage_insert AFTER INSERT ON delivery WHEN NEW.state < 10 BEGIN
  INSERT INTO usage (uid, live) VALUES (NEW.uid, 1) ON CONFLICT (uid) DO UPDATE SET live = live + 1;
END;
CREATE TRIGGER usage_delete AFTER DELETE ON delivery WHEN OLD.state < 10 BEGIN
  UPDATE usage SET live = live - 1 WHERE uid = OLD.uid;
END;
CREATE TRIGGER usage_state AFTER UPDATE OF state, uid ON delivery
WHEN (OLD.state < 10) <> (NEW.state < 10) OR OLD.uid <> NEW.uid BEGIN
  UPDATE usage SET live = live - (OLD.state < 10) WHERE uid = OLD.uid;
  INSERT INTO usage (uid, live) VALUES (NEW.uid, NEW.state < 10)
    ON CONFLICT (uid) DO UPDATE SET live = live + (NEW.state < 10);
END;
";

/// Several runs may claim one derivation, each for itself.
const CLAIMS: &str = "
CREATE TABLE claim_of_run (
  drv TEXT NOT NULL,
  key BLOB NOT NULL,
  destinations TEXT NOT NULL,
  repository TEXT,
  branch TEXT,
  commit_id TEXT,
  trust INTEGER,
  uid INTEGER NOT NULL,
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (drv, key)
) WITHOUT ROWID;
INSERT INTO claim_of_run (drv, key, destinations, repository, branch, commit_id, trust, uid, until_ms)
  SELECT drv, key, destinations, repository, branch, commit_id, trust, uid, until_ms FROM claim;
DROP TABLE claim;
ALTER TABLE claim_of_run RENAME TO claim;
CREATE INDEX claim_by_key ON claim(key);
CREATE INDEX claim_by_end ON claim(until_ms);
";

/// Which cache a destination is, so that what is remembered of it ends with it; and the archives it was sent.
const CACHES: &str = "
ALTER TABLE destination ADD COLUMN identity TEXT;
ALTER TABLE destination ADD COLUMN cache_mark TEXT;
ALTER TABLE destination ADD COLUMN since_ms INTEGER NOT NULL DEFAULT 0;
CREATE TABLE archive (
  destination INTEGER NOT NULL REFERENCES destination(id) ON DELETE CASCADE,
  key TEXT NOT NULL,
  file_hash TEXT NOT NULL,
  file_bytes INTEGER NOT NULL,
  until_ms INTEGER NOT NULL,
  PRIMARY KEY (destination, key)
) WITHOUT ROWID;
";

/// What is over is found without a look at all that is not.
const ENDS: &str = "
CREATE INDEX presence_by_end ON presence(abs(until_ms));
CREATE INDEX archive_by_end ON archive(until_ms);
";

/// Who did what; a row stays as it was written.
const AUDIT: &str = "
CREATE TABLE audit (
  seq INTEGER PRIMARY KEY,
  at_ms INTEGER NOT NULL,
  act TEXT NOT NULL,
  uid INTEGER NOT NULL,
  user TEXT NOT NULL,
  pid INTEGER NOT NULL,
  detail TEXT NOT NULL,
  hash BLOB NOT NULL
) STRICT;
CREATE TRIGGER audit_update BEFORE UPDATE ON audit BEGIN
  SELECT RAISE(ABORT, 'rows of the audit log are never changed');
END;
CREATE TRIGGER audit_delete BEFORE DELETE ON audit BEGIN
  SELECT RAISE(ABORT, 'rows of the audit log are never deleted');
END;
";

/// Empty tables of this version with one destination, row 1.
#[cfg(test)]
pub(crate) fn tables() -> rusqlite::Connection {
    let conn = rusqlite::Connection::open_in_memory().unwrap();
    for migration in MIGRATIONS {
        conn.execute_batch(migration.sql).unwrap();
    }
    conn.execute("INSERT INTO destination (id, name) VALUES (1, 'one')", []).unwrap();
    conn
}
