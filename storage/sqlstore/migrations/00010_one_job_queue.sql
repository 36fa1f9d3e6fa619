-- +goose Up

-- Customer lookups become jobs. call_lookups has only the results of lookups that are
-- done.
ALTER TABLE jobs ADD COLUMN skip_cache BOOLEAN NOT NULL DEFAULT false; -- requested again: cached results must not be used

INSERT INTO jobs (id, kind, job_key, payload, state, again, priority, attempts, run_us, lease_us, claim, error, at_us, changed_us, skip_cache)
SELECT of_call, 'enrichment', of_call, '', CASE state WHEN 'failed' THEN 'dead' ELSE 'waiting' END, false, 0, attempts,
    CASE WHEN due_us <> 0 THEN due_us WHEN changed_us <> 0 THEN changed_us ELSE at_us END, 0, '', error,
    CASE changed_us WHEN 0 THEN at_us ELSE changed_us END, CASE changed_us WHEN 0 THEN at_us ELSE changed_us END, anew <> 0
FROM call_lookups WHERE state IN ('pending', 'failed');
DELETE FROM call_lookups WHERE state IN ('pending', 'failed');

DROP INDEX call_lookups_due;
DROP INDEX call_lookups_undone;
ALTER TABLE call_lookups DROP COLUMN number;
ALTER TABLE call_lookups DROP COLUMN at_us;
ALTER TABLE call_lookups DROP COLUMN anew;
ALTER TABLE call_lookups DROP COLUMN due_us;
ALTER TABLE call_lookups DROP COLUMN changed_us;

-- Jobs are claimed and listed by kind. There are many more of them now.
DROP INDEX jobs_waiting;
CREATE INDEX jobs_waiting ON jobs (kind, priority DESC, run_us, id) WHERE state = 'waiting';
CREATE INDEX jobs_kind ON jobs (kind, at_us, id);

-- The table leases has the leases of reconciliations, too.
DROP TABLE reconciliation_claims;
