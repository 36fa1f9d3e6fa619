-- +goose Up

-- Copies of recordings that are kept beyond Ziwo, at most one of a call.
CREATE TABLE recordings (
    of_call        TEXT   NOT NULL PRIMARY KEY, -- calls.id
    contact_center TEXT   NOT NULL,
    at_us          BIGINT NOT NULL, -- of the call
    place          TEXT   NOT NULL, -- the folder, or a bucket
    name           TEXT   NOT NULL, -- there
    sha256         TEXT   NOT NULL, -- hexadecimal
    bytes          BIGINT NOT NULL,
    content_type   TEXT   NOT NULL,
    kept_us        BIGINT NOT NULL
);
CREATE INDEX recordings_at ON recordings (at_us, of_call);
