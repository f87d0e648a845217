-- name: InsertConflict :exec
INSERT INTO conflict (organisation_id, id, incident_id, link_id, version, field, base, hub, vendor, policy, winner, rule, at)
VALUES (@organisation_id, @id, @incident_id, @link_id, @version, @field, @base, @hub, @vendor, @policy, @winner, @rule, @at);

-- name: OpenConflicts :many
-- The conflicts of one link that wait for a person.
SELECT * FROM conflict WHERE organisation_id = @organisation_id AND link_id = @link_id AND winner = '' AND resolved_at IS NULL ORDER BY at, id;

-- name: UpdateConflict :exec
-- Either side has moved on while a person has yet to decide.
UPDATE conflict SET hub = @hub, vendor = @vendor WHERE organisation_id = @organisation_id AND id = @id AND resolved_at IS NULL;

-- name: CloseConflict :exec
UPDATE conflict SET winner = @winner, rule = @rule, resolved_at = @at::timestamptz, resolved_by = @by_whom
WHERE organisation_id = @organisation_id AND id = @id AND resolved_at IS NULL;

-- name: FindConflict :one
-- Rows that the viewer may not see are simply not found.
SELECT * FROM conflict WHERE organisation_id = ANY (@organisations::bigint[]) AND id = @id;

-- name: NewerConflicts :one
-- How often the same field of the same link has been in conflict since.
SELECT count(*) FROM conflict WHERE organisation_id = @organisation_id AND link_id = @link_id AND field = @field AND version > @version;

-- name: FieldSetAt :many
-- When a field was last set in the hub, by whomever: one row, or none when that entry has been put away.
SELECT at FROM ledger_entry WHERE organisation_id = @organisation_id AND incident_id = @incident_id AND changes ? @field::text ORDER BY version DESC LIMIT 1;

-- name: LinksToReweigh :many
-- Followed links of a system with fields that were parked by another version of its mapping, in the order of their
-- keys.
SELECT * FROM external_link WHERE system_id = @system_id AND parked <> '{}' AND gone = '' AND external_id IS NOT NULL
  AND (organisation_id, id) > (@after_organisation::bigint, @after_link::uuid)
  AND EXISTS (SELECT FROM jsonb_object_keys(parked) AS field WHERE coalesce(flips -> field ->> 'mapping', '') <> @mapping::text)
ORDER BY organisation_id, id LIMIT @max_rows;

-- name: LinkConflictsNewest :many
-- The newest conflicts of each of many links, in one statement. Bounds are exclusive.
SELECT c.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS k
CROSS JOIN LATERAL (
  SELECT conflict.* FROM conflict
  WHERE conflict.organisation_id = k.organisation_id AND conflict.link_id = k.link_id
    AND (conflict.at, conflict.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (conflict.at, conflict.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (NOT @only_open::boolean OR (conflict.winner = '' AND conflict.resolved_at IS NULL))
  ORDER BY conflict.at DESC, conflict.id DESC LIMIT @max_rows) AS c
ORDER BY c.at DESC, c.id DESC;

-- name: LinkConflictsOldest :many
-- The same from the other end.
SELECT c.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS k
CROSS JOIN LATERAL (
  SELECT conflict.* FROM conflict
  WHERE conflict.organisation_id = k.organisation_id AND conflict.link_id = k.link_id
    AND (conflict.at, conflict.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (conflict.at, conflict.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (NOT @only_open::boolean OR (conflict.winner = '' AND conflict.resolved_at IS NULL))
  ORDER BY conflict.at ASC, conflict.id ASC LIMIT @max_rows) AS c
ORDER BY c.at ASC, c.id ASC;

-- name: ConflictsByID :many
SELECT * FROM conflict WHERE organisation_id = ANY (@organisations::bigint[]) AND id = ANY (@ids::uuid[]);

-- name: RestoreLane :execrows
-- A ticket that was gone is back: the dead letter that its going left goes again, and its lane with it.
WITH revived AS (
  UPDATE delivery SET state = 'PENDING', error_kind = '', error = '', attempts = 0
  FROM lane WHERE lane.organisation_id = @organisation_id AND lane.link_id = @link_id AND lane.held
    AND delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id AND delivery.version > lane.done_version
    AND delivery.state = 'DEAD' AND delivery.error_kind = 'gone'
  RETURNING delivery.organisation_id, delivery.link_id
)
UPDATE lane SET held = false, trouble = '', due_at = @at::timestamptz
FROM revived WHERE lane.organisation_id = revived.organisation_id AND lane.link_id = revived.link_id;
