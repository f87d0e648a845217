-- name: ListEvents :many
-- The feed beyond @after_position with its entries, in order; the epoch is of the same snapshot.
SELECT f.position, (SELECT w.epoch FROM watermark w WHERE w.name = 'feed')::uuid AS epoch,
       e.organisation_id, e.incident_id, e.version, e.kind, e.visibility, e.actor_kind, e.actor, e.link_id, e.comment_id,
       e.changes, e.detail, e.at, e.trace_id
FROM feed f
JOIN ledger_entry e ON e.organisation_id = f.organisation_id AND e.incident_id = f.incident_id AND e.version = f.version
WHERE f.position > @after_position ORDER BY f.position LIMIT @max_rows::bigint;

-- name: ListBacklog :many
-- What one viewer may see of the feed beyond @after_position and up to @last_position, in order.
SELECT f.position, (SELECT w.epoch FROM watermark w WHERE w.name = 'feed')::uuid AS epoch,
       e.organisation_id, e.incident_id, e.version, e.kind, e.visibility, e.actor_kind, e.actor, e.link_id, e.comment_id,
       e.changes, e.detail, e.at, e.trace_id
FROM feed f
JOIN ledger_entry e ON e.organisation_id = f.organisation_id AND e.incident_id = f.incident_id AND e.version = f.version
WHERE f.position > @after_position AND f.position <= @last_position
  AND f.organisation_id = ANY (@organisations::bigint[])
  AND (@staff::boolean OR e.visibility = 'PUBLIC')
ORDER BY f.position LIMIT @max_rows::bigint;
