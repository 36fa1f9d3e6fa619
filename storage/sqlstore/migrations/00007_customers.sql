-- +goose Up

-- How far the search for the customers of a call is. There is a row for each
-- call whose number can be looked up; it is made from the calls themselves.
CREATE TABLE call_lookups (
    of_call  TEXT   NOT NULL PRIMARY KEY, -- calls.id
    number   TEXT   NOT NULL,             -- E.164
    at_us    BIGINT NOT NULL,             -- of the call
    state    TEXT   NOT NULL,
    attempts BIGINT NOT NULL,
    error    TEXT   NOT NULL,
    anew     BIGINT NOT NULL, -- 1: asked for again, so not from the cache
    due_us   BIGINT NOT NULL  -- when it is to be looked up, 0 when that is done
);
CREATE INDEX call_lookups_due ON call_lookups (due_us) WHERE due_us <> 0;

CREATE TABLE call_customers (
    of_call     TEXT   NOT NULL, -- calls.id
    number      BIGINT NOT NULL, -- in the order of the answer, from 1
    connection  TEXT   NOT NULL,
    customer_id TEXT   NOT NULL,
    name        TEXT   NOT NULL,
    url         TEXT   NOT NULL,
    matched_by  TEXT   NOT NULL,
    PRIMARY KEY (of_call, number)
);
CREATE INDEX call_customers_customer ON call_customers (customer_id, of_call);
