-- +goose Up
CREATE TABLE jobs (
    id         TEXT    NOT NULL PRIMARY KEY,
    kind       TEXT    NOT NULL,
    job_key    TEXT    NOT NULL, -- one job of a kind for each: calls.id, or a name
    payload    BYTEA   NOT NULL,
    state      TEXT    NOT NULL, -- waiting, running, done, dead
    again      BOOLEAN NOT NULL, -- asked for while it was running
    priority   BIGINT  NOT NULL, -- higher first
    attempts   BIGINT  NOT NULL,
    run_us     BIGINT  NOT NULL, -- not before
    lease_us   BIGINT  NOT NULL, -- whose worker is taken to be gone after it
    claim      TEXT    NOT NULL, -- of the worker that runs it
    error      TEXT    NOT NULL, -- why the last try failed
    at_us      BIGINT  NOT NULL, -- made
    changed_us BIGINT  NOT NULL
);

CREATE UNIQUE INDEX jobs_key ON jobs (job_key, kind);
CREATE INDEX jobs_at ON jobs (at_us, id);
CREATE INDEX jobs_waiting ON jobs (priority DESC, run_us, id) WHERE state = 'waiting';
CREATE INDEX jobs_running ON jobs (lease_us) WHERE state = 'running';
CREATE INDEX jobs_done ON jobs (changed_us) WHERE state = 'done';
CREATE INDEX jobs_dead ON jobs (at_us, id) WHERE state = 'dead';

-- Tasks that one process does: who does them, and until when that is sure.
CREATE TABLE leases (
    name     TEXT   NOT NULL PRIMARY KEY,
    holder   TEXT   NOT NULL,
    until_us BIGINT NOT NULL
);
