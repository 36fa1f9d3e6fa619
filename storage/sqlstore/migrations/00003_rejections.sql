-- +goose Up
CREATE TABLE rejections (
    id           TEXT   NOT NULL PRIMARY KEY,
    at_us        BIGINT NOT NULL,
    method       TEXT   NOT NULL,
    path         TEXT   NOT NULL,
    tracker      TEXT   NOT NULL,
    address      TEXT   NOT NULL,
    status       BIGINT NOT NULL,
    reason       TEXT   NOT NULL,
    message      TEXT   NOT NULL,
    content_type TEXT   NOT NULL,
    user_agent   TEXT   NOT NULL,
    bytes        BIGINT NOT NULL
);

CREATE INDEX rejections_at ON rejections (at_us, id);
