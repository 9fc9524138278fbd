-- The queue, format 2.

-- One row. `changes` grows with every transaction that changes something, `turns`
-- puts in order what was taken up and what ended; `stamp` and `stamped` are the
-- second of the last id that was made up, and how many were within it. `queue_id` is
-- a UUID: this queue and no other.
CREATE TABLE meta (
    one      INTEGER PRIMARY KEY CHECK (one = 1),
    changes  INTEGER NOT NULL,
    turns    INTEGER NOT NULL,
    stamp    TEXT NOT NULL,
    stamped  INTEGER NOT NULL,
    queue_id TEXT NOT NULL
) STRICT;
INSERT INTO meta VALUES (1, 0, 0, '', 0, '');

CREATE TABLE projects (
    no   INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE
) STRICT;

-- `positions` were given so far; `head` is the first task that is not over.
CREATE TABLE batches (
    no        INTEGER PRIMARY KEY,
    id        TEXT NOT NULL UNIQUE,
    project   INTEGER NOT NULL REFERENCES projects (no),
    positions INTEGER NOT NULL,
    head      INTEGER
) STRICT;

-- `place` and `turn` are a task's place among those of its state: priority and
-- acceptance of the queued (ascending both), the turn of those at work, the turn
-- backwards of those that are over.
-- `waits_for`: tasks named in `after` that are not done. `behind`: not the head of
-- its batch. Both hold for queued tasks and mean nothing for those that are over.
-- `by_dependency`: blocked because of what it waits for, not by its own run.
-- `after` repeats the ids of `dependencies`, with blanks between.
CREATE TABLE tasks (
    seq             INTEGER PRIMARY KEY,
    id              TEXT NOT NULL UNIQUE,
    state           TEXT NOT NULL CHECK (state IN
                        ('queued', 'in_progress', 'done', 'error', 'cancelled', 'blocked')),
    project         INTEGER NOT NULL REFERENCES projects (no),
    batch           INTEGER REFERENCES batches (no),
    position        INTEGER,
    place           INTEGER NOT NULL,
    turn            INTEGER NOT NULL,
    waits_for       INTEGER NOT NULL,
    behind          INTEGER NOT NULL,
    by_dependency   INTEGER NOT NULL DEFAULT 0,
    is_cancelling   INTEGER NOT NULL DEFAULT 0,
    attempt         INTEGER NOT NULL DEFAULT 1,
    run             TEXT,
    spent_usd       REAL NOT NULL DEFAULT 0,
    created_unix_ms INTEGER NOT NULL,
    updated_unix_ms INTEGER NOT NULL,
    started_unix_ms INTEGER,
    priority        TEXT NOT NULL,
    model           TEXT,
    budget_usd      REAL,
    after           TEXT NOT NULL,
    verify          TEXT,
    description     TEXT NOT NULL,
    context         TEXT
) STRICT;
CREATE INDEX tasks_of_state ON tasks (state, place, turn);
CREATE INDEX tasks_of_project ON tasks (project, state, place, turn);
CREATE INDEX tasks_of_batch ON tasks (batch, state, place, turn) WHERE batch IS NOT NULL;
CREATE INDEX tasks_ready ON tasks (place, turn, project)
    WHERE state = 'queued' AND waits_for = 0 AND behind = 0;
CREATE INDEX tasks_ready_of_project ON tasks (project, place, turn)
    WHERE state = 'queued' AND waits_for = 0 AND behind = 0;
CREATE INDEX tasks_open_of_batch ON tasks (batch, position)
    WHERE batch IS NOT NULL AND state IN ('queued', 'in_progress');
CREATE INDEX tasks_undone_of_batch ON tasks (batch, position)
    WHERE batch IS NOT NULL AND state <> 'done';

CREATE TABLE dependencies (
    task  INTEGER NOT NULL REFERENCES tasks (seq),
    place INTEGER NOT NULL,
    after INTEGER NOT NULL REFERENCES tasks (seq),
    PRIMARY KEY (task, place)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependents ON dependencies (after, task);

-- What each run did for a task: the ledger of the money. `cost_usd` is what it may
-- have cost at most: tokens without a price at the dearest. `body` goes when the
-- result has it.
CREATE TABLE spells (
    no              INTEGER PRIMARY KEY,
    task            INTEGER NOT NULL REFERENCES tasks (seq),
    attempt         INTEGER NOT NULL,
    run             TEXT NOT NULL,
    started_unix_ms INTEGER NOT NULL,
    ended_unix_ms   INTEGER NOT NULL,
    cost_usd        REAL NOT NULL,
    body            TEXT,
    UNIQUE (task, attempt, run, started_unix_ms)
) STRICT;
CREATE INDEX spells_by_end ON spells (ended_unix_ms, cost_usd);

-- `no` grows: the newest result has the largest.
CREATE TABLE results (
    no            INTEGER PRIMARY KEY,
    task          INTEGER NOT NULL REFERENCES tasks (seq),
    attempt       INTEGER NOT NULL,
    project       INTEGER NOT NULL REFERENCES projects (no),
    batch         INTEGER REFERENCES batches (no),
    ended_unix_ms INTEGER NOT NULL,
    archived      INTEGER NOT NULL DEFAULT 0,
    body          TEXT NOT NULL,
    UNIQUE (task, attempt)
) STRICT;
CREATE INDEX results_by_archived ON results (archived, no);
CREATE INDEX results_of_project ON results (project, no);
CREATE INDEX results_of_project_by_archived ON results (project, archived, no);
CREATE INDEX results_of_batch ON results (batch, no);
CREATE INDEX results_to_archive ON results (project, ended_unix_ms) WHERE archived = 0;

-- Tasks by state, and those of the queued that are ready.
CREATE TABLE counts (
    project INTEGER NOT NULL REFERENCES projects (no),
    state   TEXT NOT NULL,
    n       INTEGER NOT NULL,
    PRIMARY KEY (project, state)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER counted_new AFTER INSERT ON tasks BEGIN
    INSERT INTO counts VALUES (NEW.project, NEW.state, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO counts SELECT NEW.project, 'ready', 1
        WHERE NEW.state = 'queued' AND NEW.waits_for = 0 AND NEW.behind = 0
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
CREATE TRIGGER counted_moved AFTER UPDATE OF state, waits_for, behind ON tasks BEGIN
    UPDATE counts SET n = n - 1 WHERE project = OLD.project AND state = OLD.state;
    UPDATE counts SET n = n - 1 WHERE project = OLD.project AND state = 'ready'
        AND OLD.state = 'queued' AND OLD.waits_for = 0 AND OLD.behind = 0;
    INSERT INTO counts VALUES (NEW.project, NEW.state, 1)
        ON CONFLICT DO UPDATE SET n = n + 1;
    INSERT INTO counts SELECT NEW.project, 'ready', 1
        WHERE NEW.state = 'queued' AND NEW.waits_for = 0 AND NEW.behind = 0
        ON CONFLICT DO UPDATE SET n = n + 1;
END;
