//! The tables of `ci.db`, as numbered migrations that are only ever added to.
//!
//! Times are wall-clock milliseconds since 1970, days are counted from there too. `word` holds text that many rows
//! share (systems, names of jobs, folders of stores, lists of features and outputs); its rows are never deleted. A
//! store path is the 20 bytes of its hash, its name, and the word of its folder. What a
//! derivation needs stands packed in its own row (see `codec`), with ids that the same transaction looked up. An index is here when a
//! statement uses it, which `plans` proves; the next migration brings those of the next statements.

use sqlite_kit::Migration;

/// Marks the file as ours ("ekaC").
pub(crate) const APPLICATION_ID: u32 = 0x656b_6143;

/// Every schema there has been.
pub(crate) const MIGRATIONS: &[Migration] = &[
    Migration { version: 1, name: "the CI", sql: CI },
    Migration { version: 2, name: "who is at work on a run", sql: AT_WORK },
    Migration { version: 3, name: "what a derivation needs, in its row", sql: INPUTS },
];

/// States of an evaluation.
pub(crate) const OPEN: i64 = 0;
pub(crate) const WHOLE: i64 = 1;
pub(crate) const DROPPED: i64 = 2;

const CI: &str = "
CREATE TABLE word (
  id INTEGER PRIMARY KEY,
  text TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE repository (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE git_commit (
  id INTEGER PRIMARY KEY,
  repository INTEGER NOT NULL REFERENCES repository(id),
  hash TEXT NOT NULL,
  first_seen_ms INTEGER NOT NULL,
  UNIQUE (repository, hash)
) STRICT;

CREATE TABLE run (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  key TEXT NOT NULL UNIQUE,
  repository INTEGER NOT NULL REFERENCES repository(id),
  cause INTEGER NOT NULL,
  branch TEXT,
  number INTEGER,
  head INTEGER REFERENCES git_commit(id),
  base INTEGER REFERENCES git_commit(id),
  trust INTEGER NOT NULL,
  begun_ms INTEGER NOT NULL,
  compared_ms INTEGER,
  comparison TEXT,
  closed_ms INTEGER,
  how INTEGER,
  verdict INTEGER,
  said TEXT
) STRICT;
CREATE INDEX run_by_age ON run(begun_ms);

CREATE TABLE job (
  run INTEGER NOT NULL REFERENCES run(id),
  job INTEGER NOT NULL REFERENCES word(id),
  path TEXT NOT NULL,
  difference INTEGER NOT NULL,
  system INTEGER,
  folder INTEGER,
  before BLOB,
  before_name TEXT,
  after BLOB,
  after_name TEXT,
  PRIMARY KEY (run, job, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE evaluation (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  tree TEXT NOT NULL,
  job INTEGER NOT NULL REFERENCES word(id),
  settings BLOB NOT NULL,
  state INTEGER NOT NULL,
  session INTEGER NOT NULL,
  chunks INTEGER NOT NULL DEFAULT 0,
  attrs INTEGER NOT NULL DEFAULT 0,
  touched_day INTEGER NOT NULL,
  cost TEXT
) STRICT;
CREATE UNIQUE INDEX evaluation_whole ON evaluation(tree, job, settings) WHERE state = 1;
CREATE INDEX evaluation_by_use ON evaluation(state, touched_day);

CREATE TABLE run_evaluation (
  run INTEGER NOT NULL REFERENCES run(id),
  evaluation INTEGER NOT NULL REFERENCES evaluation(id),
  side INTEGER NOT NULL,
  PRIMARY KEY (run, evaluation, side)
) STRICT, WITHOUT ROWID;
CREATE INDEX run_evaluation_back ON run_evaluation(evaluation);

-- What attributes are. Trees that differ little share nearly all of these.
CREATE TABLE attr_value (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  hash BLOB NOT NULL UNIQUE,
  touched_day INTEGER NOT NULL,
  folder INTEGER NOT NULL,
  drv BLOB NOT NULL,
  drv_name TEXT NOT NULL,
  name TEXT,
  pname TEXT,
  version TEXT,
  system INTEGER NOT NULL,
  flags INTEGER,
  features INTEGER,
  outputs BLOB NOT NULL,
  meta TEXT NOT NULL
) STRICT;

CREATE TABLE attr (
  evaluation INTEGER NOT NULL REFERENCES evaluation(id),
  path TEXT NOT NULL,
  value INTEGER NOT NULL,
  PRIMARY KEY (evaluation, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE attr_error (
  evaluation INTEGER NOT NULL REFERENCES evaluation(id),
  path TEXT NOT NULL,
  kind TEXT NOT NULL,
  message TEXT NOT NULL,
  trace TEXT NOT NULL,
  PRIMARY KEY (evaluation, path)
) STRICT;

-- What a derivation needs has a lower id. `whole` is 0 where only the state is known, from an older database.
CREATE TABLE drv (
  id INTEGER PRIMARY KEY,
  hash BLOB NOT NULL UNIQUE,
  folder INTEGER NOT NULL,
  name TEXT NOT NULL,
  whole INTEGER NOT NULL,
  touched_day INTEGER NOT NULL,
  system INTEGER NOT NULL,
  flags INTEGER NOT NULL,
  features INTEGER,
  outputs BLOB NOT NULL
) STRICT;

CREATE TABLE edge (
  user INTEGER NOT NULL,
  input INTEGER NOT NULL,
  outputs INTEGER NOT NULL,
  PRIMARY KEY (user, input)
) STRICT, WITHOUT ROWID;

CREATE TABLE drv_state (
  drv INTEGER NOT NULL REFERENCES drv(id) ON DELETE CASCADE ON UPDATE CASCADE,
  domain INTEGER NOT NULL,
  state INTEGER NOT NULL,
  PRIMARY KEY (drv, domain)
) STRICT, WITHOUT ROWID;
";

/// A row for each need took most of the time and room. What was stored so is read once more from the files of the
/// derivations when it is needed; until then they are not whole.
const INPUTS: &str = "
ALTER TABLE drv ADD COLUMN inputs BLOB NOT NULL DEFAULT x'';
UPDATE drv SET whole = 0;
DROP TABLE edge;
";

/// Runs that were begun before count as those of an opening that is gone.
const AT_WORK: &str = "
ALTER TABLE run ADD COLUMN session INTEGER NOT NULL DEFAULT 0;
CREATE INDEX run_at_work ON run(session) WHERE how IS NULL;
";
