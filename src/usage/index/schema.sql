-- What the transcripts of one set of configuration directories come to, format 1.

-- One row. `rules`: by which rules the cells were counted. `prices`: the table that was in
-- force then. `dirs`: the directories, for people. `changes` grows with every transaction.
CREATE TABLE meta (
    one     INTEGER PRIMARY KEY CHECK (one = 1),
    rules   INTEGER NOT NULL,
    prices  INTEGER NOT NULL,
    changes INTEGER NOT NULL,
    dirs    TEXT NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0, 0, 0, '');

-- Every table of prices that something was priced by: `own` is the person's, which goes
-- before `builtin`.
CREATE TABLE prices (
    no            INTEGER PRIMARY KEY,
    builtin       TEXT NOT NULL,
    own           TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL
) STRICT;

-- Each time that everything was priced anew.
CREATE TABLE repricings (
    no         INTEGER PRIMARY KEY,
    at_unix_ms INTEGER NOT NULL,
    prices     INTEGER NOT NULL REFERENCES prices (no),
    before_usd REAL NOT NULL,
    after_usd  REAL NOT NULL
) STRICT;

CREATE TABLE models (
    no   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE
) STRICT;

-- Transcripts, also those that are gone. `first_path` never changes: it decides between
-- two that told of a response at the same time. Up to `read_bytes` the lines are whole
-- and taken in, and `tail` is the digest of the first bytes and of the last before
-- that; `bytes` and `mtime_ns` are those of the file when it was opened. A cell or a
-- response without its file would be a mistake. `session` and `cwd` are those of its
-- first rows.
CREATE TABLE files (
    no                INTEGER PRIMARY KEY,
    path              BLOB NOT NULL,
    first_path        BLOB NOT NULL,
    dev               INTEGER NOT NULL,
    ino               INTEGER NOT NULL,
    bytes             INTEGER NOT NULL,
    mtime_ns          INTEGER NOT NULL,
    read_bytes        INTEGER NOT NULL,
    tail              BLOB NOT NULL,
    session           TEXT,
    cwd               TEXT,
    agent_type        TEXT,
    bad_rows          INTEGER NOT NULL,
    unidentified_rows INTEGER NOT NULL
) STRICT;

-- Each response as each file tells of it; `request` is empty where there is none.
-- `prices`: by which table it was priced, the same for all that is told of a message.
CREATE TABLE responses (
    message        BLOB NOT NULL,
    request        BLOB NOT NULL,
    file           INTEGER NOT NULL,
    unix_ms        INTEGER,
    model          INTEGER NOT NULL,
    flags          INTEGER NOT NULL,
    input          INTEGER NOT NULL,
    output         INTEGER NOT NULL,
    cache_write    INTEGER NOT NULL,
    cache_write_1h INTEGER NOT NULL,
    cache_read     INTEGER NOT NULL,
    web_searches   INTEGER NOT NULL,
    rest           TEXT,
    prices         INTEGER NOT NULL,
    PRIMARY KEY (message, request, file)
) STRICT, WITHOUT ROWID;

-- What that comes to, each response once: by file, quarter of an hour since 1970 (the
-- least number there is: no row tells) and model. Money in millionths of a millionth of
-- a dollar.
CREATE TABLE cells (
    file            INTEGER NOT NULL,
    slot            INTEGER NOT NULL,
    model           INTEGER NOT NULL,
    input           INTEGER NOT NULL,
    output          INTEGER NOT NULL,
    cache_write_5m  INTEGER NOT NULL,
    cache_write_1h  INTEGER NOT NULL,
    cache_read      INTEGER NOT NULL,
    cost            INTEGER NOT NULL,
    unpriced_tokens INTEGER NOT NULL,
    unpriced_bound  INTEGER NOT NULL,
    responses       INTEGER NOT NULL,
    PRIMARY KEY (file, slot, model)
) STRICT, WITHOUT ROWID;
