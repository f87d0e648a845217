-- Old entries of closed incidents are put away: what they came to stands in a checkpoint, and they in ledger_archive.
-- Locks: incident, for the moment that it takes to write the catalogue.
-- Oldest binary that may run beside it: 2.

-- +goose Up

-- Entries up to this version are in ledger_archive, or were dropped from it by age; 0: none.
ALTER TABLE incident ADD COLUMN archived_version bigint NOT NULL DEFAULT 0;
-- Closed incidents whose entries are still here, by when they last changed.
CREATE INDEX incident_to_archive ON incident (updated_at) WHERE state IN ('CLOSED', 'CANCELLED') AND archived_version = 0;
UPDATE hub_schema SET oldest = 2;

-- A page of one incident's entries that were put away, with the rights of whoever asks. It is a function so that the
-- archive, which has a partition for each month, is planned and locked by those questions alone that reach into it.
-- +goose StatementBegin
CREATE FUNCTION archived_history(of_organisation bigint, of_incident uuid, above bigint, below bigint, kinds text[], systems bigint[], actors text[],
  since timestamptz, until timestamptz, oldest boolean, max_rows bigint) RETURNS SETOF ledger_entry LANGUAGE plpgsql STABLE ROWS 20 AS $$
BEGIN
  RETURN QUERY SELECT a.organisation_id, a.incident_id, a.version, a.id, a.kind, a.visibility, a.actor_kind, a.actor, a.link_id, a.comment_id,
      a.changes, a.detail, a.at, a.trace_id, a.mapping
    FROM public.ledger_archive AS a
    WHERE a.organisation_id = of_organisation AND a.incident_id = of_incident AND a.version < below AND a.version > above
      AND (cardinality(kinds) = 0 OR a.kind = ANY (kinds))
      AND (cardinality(systems) = 0 OR a.link_id IN (
        SELECT l.id FROM public.external_link AS l WHERE l.organisation_id = of_organisation AND l.system_id = ANY (systems)))
      AND (cardinality(actors) = 0 OR a.actor_kind = ANY (actors))
      AND a.at >= since AND a.at < until
    ORDER BY CASE WHEN oldest THEN a.version ELSE -a.version END LIMIT max_rows;
END $$;
-- +goose StatementEnd
REVOKE ALL ON FUNCTION archived_history FROM PUBLIC;
GRANT EXECUTE ON FUNCTION archived_history TO liaison_app, liaison_system;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
