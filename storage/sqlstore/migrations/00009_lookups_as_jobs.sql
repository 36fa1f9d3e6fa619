-- +goose Up

-- Lookups are listed as jobs. That needs the time of the last change, and an index of
-- the few lookups that are not done.
ALTER TABLE call_lookups ADD COLUMN changed_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX call_lookups_undone ON call_lookups (state, of_call) WHERE state IN ('pending', 'failed');
