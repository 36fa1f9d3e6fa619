-- +goose Up
CREATE TABLE config_versions (
    version  BIGINT NOT NULL PRIMARY KEY,
    at_us    BIGINT NOT NULL,
    author   TEXT   NOT NULL,
    comment  TEXT   NOT NULL,
    format   TEXT   NOT NULL,
    document TEXT   NOT NULL
);

CREATE TABLE secrets (
    name       TEXT   NOT NULL PRIMARY KEY,
    sealed     BYTEA  NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
