-- Portable between SQLite and PostgreSQL: times are microseconds since 1970 (0 means
-- none), JSON is text, and "no value" is '' or 0. SQLite accepts the type name BYTEA
-- and stores bytes in such a column.

-- +goose Up
CREATE TABLE calls (
    id             TEXT   NOT NULL PRIMARY KEY,
    contact_center TEXT   NOT NULL,
    call_key       TEXT   NOT NULL,
    tracker        TEXT   NOT NULL,
    call_id        TEXT   NOT NULL, -- callID from Ziwo
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
    at_us          BIGINT NOT NULL, -- time by which lists are sorted and filtered
    began_us       BIGINT NOT NULL, -- reported start: the decision is searched around it
    heard_us       BIGINT NOT NULL, -- start estimated from the arrival, if Ziwo's clock is far off; otherwise 0
    revisions      BIGINT NOT NULL  -- number of revisions
);

-- call_key comes first because decisions search for their call by call_key alone.
CREATE UNIQUE INDEX calls_key ON calls (call_key, contact_center);

-- Lists are sorted by (at_us, id). Only the index of the unfiltered list includes the
-- id. In the others few calls have the same time, and a larger index would slow down
-- every call.
CREATE INDEX calls_at ON calls (at_us, id);
CREATE INDEX calls_did ON calls (did, at_us);
CREATE INDEX calls_caller ON calls (caller, at_us);
CREATE INDEX calls_tracker ON calls (tracker, at_us);
CREATE INDEX calls_result ON calls (result, at_us);
CREATE INDEX calls_campaign ON calls (campaign, at_us) WHERE campaign <> '';

-- Calls without a decision. The decision may be recorded after the call.
CREATE INDEX calls_unlinked ON calls (received_us, did) WHERE decision_id = '';

-- The distinct CDR bodies of each call. There is no foreign key because it could not
-- reference a partitioned table by id alone.
CREATE TABLE call_revisions (
    of_call     TEXT   NOT NULL, -- calls.id
    number      BIGINT NOT NULL,
    received_us BIGINT NOT NULL,
    source      TEXT   NOT NULL,
    sha256      BYTEA  NOT NULL,
    raw         BYTEA  NOT NULL,
    PRIMARY KEY (of_call, sha256)
);
