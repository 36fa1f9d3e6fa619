-- +goose Up

-- Copies of recordings stored outside Ziwo, at most one per call.
CREATE TABLE recordings (
    of_call        TEXT   NOT NULL PRIMARY KEY, -- calls.id
    contact_center TEXT   NOT NULL,
    at_us          BIGINT NOT NULL, -- time of the call
    place          TEXT   NOT NULL, -- folder or bucket
    name           TEXT   NOT NULL, -- name within place
    sha256         TEXT   NOT NULL, -- hexadecimal
    bytes          BIGINT NOT NULL,
    content_type   TEXT   NOT NULL,
    kept_us        BIGINT NOT NULL
);
CREATE INDEX recordings_at ON recordings (at_us, of_call);
