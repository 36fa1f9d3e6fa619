-- +goose Up

-- The customer lookup of each call with a number that can be looked up. The rows are
-- created from the calls.
CREATE TABLE call_lookups (
    of_call  TEXT   NOT NULL PRIMARY KEY, -- calls.id
    number   TEXT   NOT NULL,             -- E.164
    at_us    BIGINT NOT NULL,             -- time of the call
    state    TEXT   NOT NULL,
    attempts BIGINT NOT NULL,
    error    TEXT   NOT NULL,
    anew     BIGINT NOT NULL, -- 1: requested again, so it must skip the cache
    due_us   BIGINT NOT NULL  -- time of the next lookup; 0 if it is done
);
CREATE INDEX call_lookups_due ON call_lookups (due_us) WHERE due_us <> 0;

CREATE TABLE call_customers (
    of_call     TEXT   NOT NULL, -- calls.id
    number      BIGINT NOT NULL, -- position in the result, starting with 1
    connection  TEXT   NOT NULL,
    customer_id TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    url         TEXT   NOT NULL,
    matched_by  TEXT   NOT NULL,
    PRIMARY KEY (of_call, number)
);
CREATE INDEX call_customers_customer ON call_customers (customer_id, of_call);
