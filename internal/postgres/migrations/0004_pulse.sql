-- What operators see and do: how each way of a system does, who may pause it, and what came in that no link explains.
-- Locks: external_link and inbox while their small indexes are built; nothing is rewritten.
-- Oldest binary that may run beside it: 2.

-- +goose Up

-- The ways to a vendor are told apart: reads that work do not make up for writes that fail.
ALTER TABLE pulse ADD COLUMN send_failed_at timestamptz; -- the last delivery that the vendor did not take, for a reason that is the system's and not the delivery's
ALTER TABLE pulse ADD COLUMN read_failed_at timestamptz; -- the last read or check that it did not answer
ALTER TABLE pulse ADD COLUMN poll_at timestamptz;        -- the last poll that it answered
ALTER TABLE pulse ADD COLUMN poll_failed_at timestamptz; -- the last poll that it did not
ALTER TABLE pulse ADD COLUMN retries bigint NOT NULL DEFAULT 0; -- exchanges that go again
ALTER TABLE pulse ADD COLUMN since timestamptz NOT NULL DEFAULT now(); -- when a hub first looked after it

-- Links with a field that waits for a person are few, and counted often.
CREATE INDEX external_link_parked ON external_link (system_id) WHERE parked <> '{}';
-- What came in about a link, newest first.
CREATE INDEX inbox_of_link ON inbox (organisation_id, link_id, received_at DESC) WHERE link_id IS NOT NULL;

-- The people of the desk that owns a system pause it. Nothing else of it is theirs to change.
CREATE POLICY pausing ON external_system FOR UPDATE TO liaison_app
  USING ((SELECT viewer_is_staff()) AND desk_id IN (SELECT desk_id FROM organisation))
  WITH CHECK ((SELECT viewer_is_staff()) AND desk_id IN (SELECT desk_id FROM organisation));
GRANT UPDATE (paused, paused_at, paused_by, pause_reason) ON external_system TO liaison_app;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
