-- +goose Up
CREATE TABLE jobs (
    id         TEXT    NOT NULL PRIMARY KEY,
    kind       TEXT    NOT NULL,
    job_key    TEXT    NOT NULL, -- unique within the kind: calls.id or a name
    payload    BYTEA   NOT NULL,
    state      TEXT    NOT NULL, -- waiting, running, done, dead
    again      BOOLEAN NOT NULL, -- requested while it was running
    priority   BIGINT  NOT NULL, -- higher first
    attempts   BIGINT  NOT NULL,
    run_us     BIGINT  NOT NULL, -- earliest start
    lease_us   BIGINT  NOT NULL, -- end of the lease, after which the worker is presumed dead
    claim      TEXT    NOT NULL, -- token of the worker that runs it
    error      TEXT    NOT NULL, -- error of the last attempt
    at_us      BIGINT  NOT NULL, -- time of creation
    changed_us BIGINT  NOT NULL
);

CREATE UNIQUE INDEX jobs_key ON jobs (job_key, kind);
CREATE INDEX jobs_at ON jobs (at_us, id);
CREATE INDEX jobs_waiting ON jobs (priority DESC, run_us, id) WHERE state = 'waiting';
CREATE INDEX jobs_running ON jobs (lease_us) WHERE state = 'running';
CREATE INDEX jobs_done ON jobs (changed_us) WHERE state = 'done';
CREATE INDEX jobs_dead ON jobs (at_us, id) WHERE state = 'dead';

-- Tasks that only one process may run at a time: the process and the end of its lease.
CREATE TABLE leases (
    name     TEXT   NOT NULL PRIMARY KEY,
    holder   TEXT   NOT NULL,
    until_us BIGINT NOT NULL
);
