-- PostgreSQL version of 00001_calls.sqlite.sql. Calls are partitioned by month, so
-- that a query for a period reads only the indexes of that period.

-- +goose Up
-- A unique index of a partitioned table must include the partition column, so this
-- table enforces that (call_key, contact_center) is unique.
CREATE TABLE call_keys (
    call_key       TEXT   NOT NULL,
    contact_center TEXT   NOT NULL,
    id             TEXT   NOT NULL, -- calls.id
    at_us          BIGINT NOT NULL, -- calls.at_us
    PRIMARY KEY (call_key, contact_center)
);

CREATE TABLE calls (
    id             TEXT   NOT NULL,
    contact_center TEXT   NOT NULL,
    call_key       TEXT   NOT NULL,
    tracker        TEXT   NOT NULL,
    call_id        TEXT   NOT NULL,
    direction      TEXT   NOT NULL,
    did            TEXT   NOT NULL,
    raw_did        TEXT   NOT NULL,
    caller         TEXT   NOT NULL,
    raw_caller     TEXT   NOT NULL,
    caller_name    TEXT   NOT NULL,
    started_us     BIGINT NOT NULL,
    answered_us    BIGINT NOT NULL,
    ended_us       BIGINT NOT NULL,
    duration       BIGINT NOT NULL,
    ring_time      BIGINT NOT NULL,
    talk_time      BIGINT NOT NULL,
    hold_time      BIGINT NOT NULL,
    result         TEXT   NOT NULL,
    hangup_cause   TEXT   NOT NULL,
    hangup_by      TEXT   NOT NULL,
    agent          TEXT   NOT NULL,
    position       TEXT   NOT NULL,
    recording_file TEXT   NOT NULL,
    campaign       TEXT   NOT NULL,
    route          TEXT   NOT NULL,
    decision_id    TEXT   NOT NULL,
    flags          TEXT   NOT NULL,
    revised_us     BIGINT NOT NULL,
    received_us    BIGINT NOT NULL,
    at_us          BIGINT NOT NULL,
    began_us       BIGINT NOT NULL,
    heard_us       BIGINT NOT NULL,
    revisions      BIGINT NOT NULL,
    PRIMARY KEY (id, at_us)
) PARTITION BY RANGE (at_us);

-- Calls of all months without a partition, such as calls of earlier years.
CREATE TABLE calls_default PARTITION OF calls DEFAULT;

CREATE INDEX calls_at ON calls (at_us, id);
-- Without the id, which would double the size of these indexes. Few calls have the
-- same time; they are sorted when they are read.
CREATE INDEX calls_did ON calls (did, at_us);
CREATE INDEX calls_caller ON calls (caller, at_us);
CREATE INDEX calls_tracker ON calls (tracker, at_us);
CREATE INDEX calls_result ON calls (result, at_us);
CREATE INDEX calls_campaign ON calls (campaign, at_us, id) WHERE campaign <> '';
CREATE INDEX calls_unlinked ON calls (received_us, did) WHERE decision_id = '';

CREATE TABLE call_revisions (
    of_call     TEXT   NOT NULL, -- calls.id
    number      BIGINT NOT NULL,
    received_us BIGINT NOT NULL,
    source      TEXT   NOT NULL,
    sha256      BYTEA  NOT NULL,
    raw         BYTEA  NOT NULL,
    PRIMARY KEY (of_call, sha256)
);
