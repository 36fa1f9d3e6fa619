-- +goose Up
CREATE TABLE decisions (
    id             TEXT    NOT NULL PRIMARY KEY,
    tracker        TEXT    NOT NULL,
    at_us          BIGINT  NOT NULL,
    did            TEXT    NOT NULL,
    raw_did        TEXT    NOT NULL,
    caller         TEXT    NOT NULL,
    raw_caller     TEXT    NOT NULL,
    call_id        TEXT    NOT NULL, -- the callID that Ziwo gave
    route          TEXT    NOT NULL,
    voicemail      BOOLEAN NOT NULL,
    rules          TEXT    NOT NULL,
    flags          TEXT    NOT NULL,
    trace          TEXT    NOT NULL,
    config_version BIGINT  NOT NULL,
    linked_call    TEXT    NOT NULL  -- calls.id, '' until it is known
);

CREATE INDEX decisions_at ON decisions (at_us, id);

-- Linking looks around an instant of a DID, and reads the caller off the index.
CREATE INDEX decisions_did ON decisions (did, at_us, caller);

-- Linking by callID. Decisions leave this index with the arrival of their call:
-- callIDs come in no order, and an index of all of them would cost a page write
-- for each.
CREATE INDEX decisions_unlinked ON decisions (call_id) WHERE call_id <> '' AND linked_call = '';
