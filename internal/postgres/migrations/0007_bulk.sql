-- A decision about many dead letters under an idempotency key: which ones the first call was about, so that a repeated call
-- is about the same ones.
-- Locks: none that matter, the table is new.
-- Oldest binary that may run beside it: 2.

-- +goose Up
CREATE TABLE bulk_decision (
  -- One that whoever decides may see, the others' deliveries among them: it only says who may find the row.
  organisation_id bigint NOT NULL REFERENCES organisation,
  subject         text NOT NULL,
  key             text NOT NULL,
  input_digest    bytea NOT NULL,
  deliveries      uuid[] NOT NULL, -- the oldest first
  more            boolean NOT NULL, -- there were more than one call decides on
  at              timestamptz NOT NULL,
  PRIMARY KEY (organisation_id, subject, key)
);
ALTER TABLE bulk_decision ENABLE ROW LEVEL SECURITY;
ALTER TABLE bulk_decision FORCE ROW LEVEL SECURITY;
CREATE POLICY background ON bulk_decision TO liaison_system USING (true) WITH CHECK (true);
CREATE POLICY viewer ON bulk_decision TO liaison_app
  USING ((SELECT viewer_is_staff()) AND organisation_id = ANY ((SELECT viewer_organisations())::bigint[]))
  WITH CHECK ((SELECT viewer_is_staff()) AND organisation_id = ANY ((SELECT viewer_organisations())::bigint[]));
GRANT ALL ON bulk_decision TO liaison_system;
GRANT SELECT, INSERT ON bulk_decision TO liaison_app;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
