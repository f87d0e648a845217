-- The inbox's upkeep and the comparisons' bookkeeping.
-- Oldest binary that may run beside it: 2. Nothing that it reads or writes has changed its meaning.
-- Locks: new indexes on inbox, reconciliation and drift, which are new themselves or small.

-- +goose Up

-- Whether the same body waits already.
CREATE INDEX inbox_content ON inbox (system_id, digest) WHERE state = 'WAITING';
-- Bodies that are still kept, by age.
CREATE INDEX inbox_bodies ON inbox (received_at) WHERE octet_length(body) > 0;
-- A replay finds the row that repeats another.
CREATE INDEX inbox_repeats ON inbox (duplicate_of) WHERE duplicate_of IS NOT NULL AND state = 'WAITING';

-- What could not be tied to an incident has no organisation: it is the business of the desk that owns the system.
DROP POLICY viewer ON inbox;
CREATE POLICY viewer ON inbox FOR SELECT TO liaison_app
  USING ((SELECT viewer_is_staff()) AND (organisation_id = ANY ((SELECT viewer_organisations())::bigint[])
    OR (organisation_id IS NULL AND system_id IN (
      SELECT s.id FROM external_system s WHERE s.desk_id IN (SELECT desk_id FROM organisation)))));

-- Work that one hub does for all, once in a while: when it was done last and who is at it.
CREATE TABLE upkeep (
  name        text PRIMARY KEY,
  done_at     timestamptz NOT NULL DEFAULT '-infinity',
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  lease_token bigint NOT NULL DEFAULT 0
);
ALTER TABLE upkeep ENABLE ROW LEVEL SECURITY;
ALTER TABLE upkeep FORCE ROW LEVEL SECURITY;
CREATE POLICY background ON upkeep TO liaison_system USING (true) WITH CHECK (true);
GRANT ALL ON upkeep TO liaison_system;

-- One comparison of a system at a time.
CREATE UNIQUE INDEX reconciliation_running ON reconciliation (system_id) WHERE state = 'RUNNING';
-- Drift that nobody has mended and that no later comparison found gone.
ALTER TABLE drift ADD COLUMN open boolean NOT NULL DEFAULT false;
CREATE INDEX drift_open ON drift (organisation_id, link_id) WHERE open;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
