-- +goose Up
CREATE TABLE reconciliations (
    id             TEXT   NOT NULL PRIMARY KEY,
    at_us          BIGINT NOT NULL, -- time of the start
    ended_us       BIGINT NOT NULL,
    contact_center TEXT   NOT NULL,
    caused_by      TEXT   NOT NULL,
    from_us        BIGINT NOT NULL,
    to_us          BIGINT NOT NULL,
    reached_us     BIGINT NOT NULL,
    state          TEXT   NOT NULL,
    error          TEXT   NOT NULL,
    notes          TEXT   NOT NULL,
    figures        TEXT   NOT NULL
);

CREATE INDEX reconciliations_at ON reconciliations (at_us, id);
CREATE INDEX reconciliations_reached ON reconciliations (contact_center, reached_us);

-- The process that currently reconciles each contact center.
CREATE TABLE reconciliation_claims (
    contact_center TEXT   NOT NULL PRIMARY KEY,
    holder         TEXT   NOT NULL,
    until_us       BIGINT NOT NULL
);
