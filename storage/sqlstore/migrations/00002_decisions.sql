-- +goose Up
CREATE TABLE decisions (
    id             TEXT    NOT NULL PRIMARY KEY,
    tracker        TEXT    NOT NULL,
    at_us          BIGINT  NOT NULL,
    did            TEXT    NOT NULL,
    raw_did        TEXT    NOT NULL,
    caller         TEXT    NOT NULL,
    raw_caller     TEXT    NOT NULL,
    call_id        TEXT    NOT NULL, -- callID from Ziwo
    route          TEXT    NOT NULL,
    voicemail      BOOLEAN NOT NULL,
    rules          TEXT    NOT NULL,
    flags          TEXT    NOT NULL,
    trace          TEXT    NOT NULL,
    config_version BIGINT  NOT NULL,
    linked_call    TEXT    NOT NULL  -- calls.id; '' until it is known
);

CREATE INDEX decisions_at ON decisions (at_us, id);

-- Linking searches by DID and time, and reads the caller from the index.
CREATE INDEX decisions_did ON decisions (did, at_us, caller);

-- Linking by callID. A decision leaves this index when its call arrives. callIDs are
-- random, so each entry of an index of all decisions would cost a page write.
CREATE INDEX decisions_unlinked ON decisions (call_id) WHERE call_id <> '' AND linked_call = '';
