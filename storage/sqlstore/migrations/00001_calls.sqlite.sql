-- Portable between SQLite and PostgreSQL: instants are microseconds since 1970
-- (0 = none), JSON is text, "no value" is '' or 0. BYTEA is a type name that
-- SQLite accepts and keeps bytes under.

-- +goose Up
CREATE TABLE calls (
    id             TEXT   NOT NULL PRIMARY KEY,
    contact_center TEXT   NOT NULL,
    call_key       TEXT   NOT NULL,
    tracker        TEXT   NOT NULL,
    call_id        TEXT   NOT NULL, -- the callID that Ziwo gave
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
    at_us          BIGINT NOT NULL, -- lists are ordered and filtered by it
    began_us       BIGINT NOT NULL, -- decisions are looked for around it
    heard_us       BIGINT NOT NULL, -- and around it, where our clock disagrees with Ziwo's, else 0
    revisions      BIGINT NOT NULL  -- how many bodies came
);

-- The key first: decisions look for their call by it alone.
CREATE UNIQUE INDEX calls_key ON calls (call_key, contact_center);

-- Lists are ordered by (at_us, id). Only the index of the plain list holds the
-- id; in the others equal instants are few, and every byte is written per call.
CREATE INDEX calls_at ON calls (at_us, id);
CREATE INDEX calls_did ON calls (did, at_us);
CREATE INDEX calls_caller ON calls (caller, at_us);
CREATE INDEX calls_tracker ON calls (tracker, at_us);
CREATE INDEX calls_result ON calls (result, at_us);
CREATE INDEX calls_campaign ON calls (campaign, at_us) WHERE campaign <> '';

-- Calls whose decision is not known; it may be recorded after they were.
CREATE INDEX calls_unlinked ON calls (received_us, did) WHERE decision_id = '';

-- Every different body of a call. No foreign key: a partitioned calls table
-- could not be its target.
CREATE TABLE call_revisions (
    of_call     TEXT   NOT NULL, -- calls.id
    number      BIGINT NOT NULL,
    received_us BIGINT NOT NULL,
    source      TEXT   NOT NULL,
    sha256      BYTEA  NOT NULL,
    raw         BYTEA  NOT NULL,
    PRIMARY KEY (of_call, sha256)
);
