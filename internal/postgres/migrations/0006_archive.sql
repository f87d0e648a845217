-- Old entries of closed incidents are put away: what they came to stands in a checkpoint, and they in ledger_archive.
-- Locks: incident, for the moment that it takes to write the catalogue.
-- Oldest binary that may run beside it: 2.

-- +goose Up

-- Entries up to this version are in ledger_archive, or were dropped from it by age; 0: none.
ALTER TABLE incident ADD COLUMN archived_version bigint NOT NULL DEFAULT 0;
-- Closed incidents whose entries are still here, by when they last changed.
CREATE INDEX incident_to_archive ON incident (updated_at) WHERE state IN ('CLOSED', 'CANCELLED') AND archived_version = 0;
UPDATE hub_schema SET oldest = 2;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
