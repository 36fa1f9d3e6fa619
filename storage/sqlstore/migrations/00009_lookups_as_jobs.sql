-- +goose Up

-- Look-ups are shown among the jobs: when one last changed, and the few that are
-- not done by their state.
ALTER TABLE call_lookups ADD COLUMN changed_us BIGINT NOT NULL DEFAULT 0;
CREATE INDEX call_lookups_undone ON call_lookups (state, of_call) WHERE state IN ('pending', 'failed');
