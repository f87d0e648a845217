-- name: LockIncident :one
-- The first lock of every change. Rows that the viewer may not see are simply not found.
SELECT * FROM incident WHERE id = @id FOR UPDATE;

-- name: FindIncident :one
SELECT * FROM incident WHERE id = @id;

-- name: FindComment :one
SELECT * FROM comment WHERE organisation_id = @organisation_id AND id = @id;

-- name: FindKey :one
SELECT * FROM idempotency WHERE organisation_id = @organisation_id AND subject = @subject AND key = @key;

-- name: InsertKey :exec
-- Two calls with one key at once: the second waits here for the first and then fails on the primary key.
INSERT INTO idempotency (organisation_id, subject, key, input_digest, incident_id, link_id, comment_id, at)
VALUES (@organisation_id, @subject, @key, @input_digest, @incident_id, sqlc.narg(link_id), sqlc.narg(comment_id), @at);

-- name: OpenIncident :one
-- A new incident and its first entry, in one statement.
WITH opened AS (
  INSERT INTO incident (organisation_id, id, version, title, description, state, priority, impact, urgency, category, service, reference,
                        source, contact_name, contact_phone, contact_email, reported_by, opened_at, updated_at)
  VALUES (@organisation_id, @id, 1, @title, @description, @state, @priority, @impact, @urgency, @category, @service, @reference,
          @source, @contact_name, @contact_phone, @contact_email, @reported_by, @at, @at)
  RETURNING number
), entry AS (
  INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, changes, at, trace_id)
  VALUES (@organisation_id, @id, 1, 'REPORTED', @actor_kind, @actor, @changes, @at, @trace_id)
)
SELECT number FROM opened;

-- name: WriteChange :one
-- One change, whole: the incident's new state, its entry, a comment if there is one, and a delivery to every
-- link that must hear of it, never to the one it came from. The lanes' rows are written even when they are due
-- already: the lock is what keeps a worker that is just settling from overlooking the new delivery.
WITH changed AS (
  UPDATE incident SET
    version = @version, title = @title, description = @description, state = @state, hold_reason = @hold_reason,
    deferred_to = sqlc.narg(deferred_to), priority = @priority, impact = @impact, urgency = @urgency, category = @category,
    service = @service, team = @team, assignee = @assignee, resolution = @resolution, contact_name = @contact_name,
    contact_phone = @contact_phone, contact_email = @contact_email, updated_at = @at,
    resolved_at = sqlc.narg(resolved_at), closed_at = sqlc.narg(closed_at)
  WHERE incident.organisation_id = @organisation_id AND incident.id = @incident_id AND incident.version + 1 = @version
  RETURNING incident.version
), entry AS (
  INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, visibility, actor_kind, actor, link_id, comment_id, changes, detail, at, trace_id, mapping)
  SELECT @organisation_id, @incident_id, changed.version, @kind, @visibility, @actor_kind, @actor, sqlc.narg(entry_link_id), sqlc.narg(comment_id),
         @changes, @detail, @at, @trace_id, @mapping
  FROM changed
), said AS (
  INSERT INTO comment (organisation_id, id, incident_id, visibility, body, author, link_id, at)
  SELECT @organisation_id, sqlc.narg(comment_id)::uuid, @incident_id, @visibility, @comment_body, @comment_author, sqlc.narg(link_id), @comment_at
  WHERE sqlc.narg(comment_id)::uuid IS NOT NULL
), hearer AS (
  SELECT external_link.id FROM external_link
  WHERE external_link.organisation_id = @organisation_id AND external_link.incident_id = @incident_id AND external_link.gone = '' AND @delivery_kind::text <> ''
    AND external_link.id IS DISTINCT FROM sqlc.narg(link_id)::uuid
    AND (NOT @only_some::boolean OR external_link.id = ANY (@only_links::uuid[]))
), sent AS (
  INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, payload, comment_id, trace, created_at)
  SELECT @organisation_id, gen_random_uuid(), hearer.id, @incident_id, @version, @delivery_kind, @payload, sqlc.narg(comment_id), @trace, @at
  FROM hearer
), woken AS (
  UPDATE lane SET due_at = CASE WHEN held THEN NULL ELSE coalesce(due_at, @at) END
  FROM hearer WHERE lane.organisation_id = @organisation_id AND lane.link_id = hearer.id
)
SELECT changed.version, (SELECT count(*) FROM hearer) AS deliveries FROM changed;

-- name: InsertLink :exec
WITH linked AS (
  INSERT INTO external_link (organisation_id, id, incident_id, system_id, correlation_id, created_at)
  VALUES (@organisation_id, @id, @incident_id, @system_id, @correlation_id, @created_at)
)
INSERT INTO lane (organisation_id, link_id, system_id) VALUES (@organisation_id, @id, @system_id);

-- name: FindLinkToSystem :one
SELECT * FROM external_link WHERE organisation_id = @organisation_id AND incident_id = @incident_id AND system_id = @system_id;

-- name: UsableSystems :many
-- The systems that an organisation's incidents may be escalated into.
SELECT external_system.* FROM external_system JOIN system_organisation ON system_organisation.system_id = external_system.id
WHERE system_organisation.organisation_id = @organisation_id AND system_organisation.active AND external_system.active ORDER BY external_system.key;

-- name: LockDelivery :one
SELECT * FROM delivery WHERE organisation_id = @organisation_id AND id = @id FOR UPDATE;

-- name: FindDeliveryIncident :one
SELECT organisation_id, incident_id FROM delivery WHERE id = @id;

-- name: ReviveDelivery :exec
-- A dead letter goes again, or is over: its lane is free and due.
WITH revived AS (
  UPDATE delivery SET state = @state, error_kind = '', error = '', attempts = 0, settled_at = sqlc.narg(settled_at)
  WHERE delivery.organisation_id = @organisation_id AND delivery.id = @id
  RETURNING link_id, version
)
UPDATE lane SET held = false, trouble = '', due_at = @at::timestamptz,
  done_version = CASE WHEN @state::text = 'SKIPPED' THEN revived.version ELSE lane.done_version END
FROM revived WHERE lane.organisation_id = @organisation_id AND lane.link_id = revived.link_id;
