-- What the ledger does about its own integrity and age. Everything here runs as the system.

-- name: VerifyIncidents :many
-- A page of incidents in the order of their key.
SELECT * FROM incident
WHERE (incident.organisation_id, incident.id) > (@after_organisation::bigint, @after_id::uuid)
  AND (sqlc.narg(number)::text IS NULL OR incident.number = sqlc.narg(number)::text)
ORDER BY incident.organisation_id, incident.id LIMIT @max_rows;

-- name: VerifyEntries :many
-- All entries of some incidents, those in the archive as well, each incident's in order.
SELECT e.incident_id, e.version, e.kind, e.changes, e.detail, e.comment_id
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
JOIN ledger_entry AS e ON e.organisation_id = k.organisation_id AND e.incident_id = k.incident_id
UNION ALL
SELECT a.incident_id, a.version, a.kind, a.changes, a.detail, a.comment_id
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
JOIN ledger_archive AS a ON a.organisation_id = k.organisation_id AND a.incident_id = k.incident_id
ORDER BY incident_id, version;

-- name: VerifyComments :many
SELECT c.incident_id, c.id FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
JOIN comment AS c ON c.organisation_id = k.organisation_id AND c.incident_id = k.incident_id;

-- name: VerifyLanes :many
-- Lanes whose done_version does not say what their deliveries say.
SELECT l.incident_id, lane.link_id, lane.done_version, d.version, d.state FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
JOIN external_link AS l ON l.organisation_id = k.organisation_id AND l.incident_id = k.incident_id
JOIN lane ON lane.organisation_id = l.organisation_id AND lane.link_id = l.id
JOIN delivery AS d ON d.organisation_id = lane.organisation_id AND d.link_id = lane.link_id
WHERE (d.version <= lane.done_version) <> (d.state IN ('DELIVERED', 'SKIPPED'));

-- name: IncidentsToArchive :many
-- Closed incidents that nobody has touched since @before, whose entries nobody can come back to by a cursor and whose
-- vendors have heard everything.
SELECT i.organisation_id, i.id FROM incident AS i
WHERE i.state IN ('CLOSED', 'CANCELLED') AND i.archived_version = 0 AND i.updated_at < @before
  AND NOT EXISTS (SELECT FROM feed WHERE feed.organisation_id = i.organisation_id AND feed.incident_id = i.id)
  AND NOT EXISTS (SELECT FROM ledger_entry AS e WHERE e.organisation_id = i.organisation_id AND e.incident_id = i.id
                  AND (e.at >= @before OR e.id > (SELECT watermark.scanned FROM watermark WHERE watermark.name = 'feed')))
  AND NOT EXISTS (SELECT FROM external_link AS l JOIN lane ON lane.organisation_id = l.organisation_id AND lane.link_id = l.id
                  JOIN delivery AS d ON d.organisation_id = lane.organisation_id AND d.link_id = lane.link_id AND d.version > lane.done_version
                  WHERE l.organisation_id = i.organisation_id AND l.incident_id = i.id)
ORDER BY i.updated_at LIMIT @max_rows;

-- name: Checkpoint :execrows
-- Writes down what an incident's entries came to, as its newest entry. The incident itself does not change by it.
WITH checked AS (
  UPDATE incident SET version = incident.version + 1, archived_version = incident.version
  WHERE incident.organisation_id = @organisation_id AND incident.id = @incident_id AND incident.version = @version AND incident.archived_version = 0
  RETURNING incident.version
)
INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, visibility, actor_kind, actor, detail, at)
SELECT @organisation_id, @incident_id, checked.version, 'CHECKPOINT', 'INTERNAL', 'HUB', 'Liaison', @detail, @at FROM checked;

-- name: CopyToArchive :execrows
INSERT INTO ledger_archive (organisation_id, incident_id, version, id, kind, visibility, actor_kind, actor, link_id, comment_id, changes, detail, at, trace_id, mapping)
SELECT e.organisation_id, e.incident_id, e.version, e.id, e.kind, e.visibility, e.actor_kind, e.actor, e.link_id, e.comment_id, e.changes, e.detail, e.at, e.trace_id, e.mapping
FROM ledger_entry AS e WHERE e.organisation_id = @organisation_id AND e.incident_id = @incident_id AND e.version <= @version;

-- name: DropDeliveries :execrows
-- Deliveries go with the entries that they carried.
DELETE FROM delivery WHERE delivery.organisation_id = @organisation_id AND delivery.incident_id = @incident_id AND delivery.version <= @version
  AND delivery.link_id IN (SELECT external_link.id FROM external_link WHERE external_link.organisation_id = @organisation_id AND external_link.incident_id = @incident_id);

-- name: DropArchived :execrows
-- The table itself refuses whatever the archive does not hold.
DELETE FROM ledger_entry WHERE organisation_id = @organisation_id AND incident_id = @incident_id AND version <= @version;

-- name: ArchiveMonths :many
-- The archive's partitions by month.
SELECT c.relname::text AS name FROM pg_catalog.pg_inherits i JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid
WHERE i.inhparent = 'ledger_archive'::regclass AND c.relname LIKE 'ledger_archive_2%' ORDER BY c.relname;
