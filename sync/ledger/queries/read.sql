-- Everything here runs as liaison_app: row-level security decides what exists. Organisations are named all the
-- same, because every index begins with them. A list takes the first rows of each organisation from its index
-- and merges them, so that its cost is the page's and not the table's. Bounds are exclusive.

-- name: OpenIncidentsNewest :many
-- A page of open incidents by the index that holds only those.
SELECT i.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT incident.* FROM incident
  WHERE incident.organisation_id = o.id
    AND incident.state NOT IN ('CLOSED', 'CANCELLED')
    AND (incident.opened_at, incident.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (incident.opened_at, incident.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text)
  ORDER BY incident.opened_at DESC, incident.id DESC LIMIT @max_rows) AS i
ORDER BY i.opened_at DESC, i.id DESC LIMIT @max_rows;

-- name: OpenIncidentsOldest :many
-- The same from the other end.
SELECT i.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT incident.* FROM incident
  WHERE incident.organisation_id = o.id
    AND incident.state NOT IN ('CLOSED', 'CANCELLED')
    AND (incident.opened_at, incident.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (incident.opened_at, incident.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text)
  ORDER BY incident.opened_at ASC, incident.id ASC LIMIT @max_rows) AS i
ORDER BY i.opened_at ASC, i.id ASC LIMIT @max_rows;

-- name: IncidentsNewest :many
-- A page of incidents of any state.
SELECT i.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT incident.* FROM incident
  WHERE incident.organisation_id = o.id
    AND (incident.opened_at, incident.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (incident.opened_at, incident.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text)
  ORDER BY incident.opened_at DESC, incident.id DESC LIMIT @max_rows) AS i
ORDER BY i.opened_at DESC, i.id DESC LIMIT @max_rows;

-- name: IncidentsOldest :many
-- The same from the other end.
SELECT i.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT incident.* FROM incident
  WHERE incident.organisation_id = o.id
    AND (incident.opened_at, incident.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (incident.opened_at, incident.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text)
  ORDER BY incident.opened_at ASC, incident.id ASC LIMIT @max_rows) AS i
ORDER BY i.opened_at ASC, i.id ASC LIMIT @max_rows;

-- name: IncidentsLastUpdated :many
-- A page of incidents, the one that changed last first.
SELECT i.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT incident.* FROM incident
  WHERE incident.organisation_id = o.id
    AND (incident.updated_at, incident.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (incident.updated_at, incident.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text)
  ORDER BY incident.updated_at DESC, incident.id DESC LIMIT @max_rows) AS i
ORDER BY i.updated_at DESC, i.id DESC LIMIT @max_rows;

-- name: IncidentsFirstUpdated :many
-- The same from the other end.
SELECT i.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT incident.* FROM incident
  WHERE incident.organisation_id = o.id
    AND (incident.updated_at, incident.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (incident.updated_at, incident.id) > (@above_at::timestamptz, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text)
  ORDER BY incident.updated_at ASC, incident.id ASC LIMIT @max_rows) AS i
ORDER BY i.updated_at ASC, i.id ASC LIMIT @max_rows;

-- name: CountIncidents :one
-- How many the filter finds in all.
SELECT count(*) FROM incident
WHERE incident.organisation_id = ANY (@organisations::bigint[])
    AND (NOT @only_open::boolean OR incident.state NOT IN ('CLOSED', 'CANCELLED'))
    AND (cardinality(@states::text[]) = 0 OR incident.state = ANY (@states::text[]))
    AND (cardinality(@priorities::text[]) = 0 OR incident.priority = ANY (@priorities::text[]))
    AND (sqlc.narg(category)::text IS NULL OR incident.category = sqlc.narg(category)::text)
    AND (sqlc.narg(team)::text IS NULL OR incident.team = sqlc.narg(team)::text)
    AND (sqlc.narg(assignee)::text IS NULL OR incident.assignee = sqlc.narg(assignee)::text);

-- name: IncidentsByID :many
SELECT * FROM incident WHERE id = ANY (@ids::uuid[]);

-- name: IncidentsByNumber :many
-- A number is unique in its organisation, and the sequence makes it so in the hub.
SELECT * FROM incident WHERE organisation_id = ANY (@organisations::bigint[]) AND number = @number;

-- name: CommentsNewest :many
-- The newest comments of each of many incidents, in one statement.
SELECT c.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
CROSS JOIN LATERAL (
  SELECT comment.* FROM comment
  WHERE comment.organisation_id = k.organisation_id AND comment.incident_id = k.incident_id
    AND (comment.at, comment.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (comment.at, comment.id) > (@above_at::timestamptz, @above_id::uuid)
  ORDER BY comment.at DESC, comment.id DESC LIMIT @max_rows) AS c
ORDER BY c.at DESC, c.id DESC;

-- name: CommentsOldest :many
-- The oldest comments of each of many incidents, in one statement.
SELECT c.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
CROSS JOIN LATERAL (
  SELECT comment.* FROM comment
  WHERE comment.organisation_id = k.organisation_id AND comment.incident_id = k.incident_id
    AND (comment.at, comment.id) < (@below_at::timestamptz, @below_id::uuid)
    AND (comment.at, comment.id) > (@above_at::timestamptz, @above_id::uuid)
  ORDER BY comment.at ASC, comment.id ASC LIMIT @max_rows) AS c
ORDER BY c.at ASC, c.id ASC;

-- name: CountComments :many
SELECT comment.incident_id, count(*) AS comments FROM comment
WHERE comment.organisation_id = ANY (@organisations::bigint[]) AND comment.incident_id = ANY (@incidents::uuid[])
GROUP BY comment.incident_id;

-- name: CommentsByID :many
SELECT * FROM comment WHERE organisation_id = ANY (@organisations::bigint[]) AND id = ANY (@ids::uuid[]);

-- name: LinksOfIncidents :many
-- The links of many incidents, each with how many deliveries wait, the state of the first of them, and whether there is neither
-- a ticket nor one on its way. An incident has one link in each system at most; the limit keeps the planner from reading the
-- table instead of the index.
SELECT sqlc.embed(external_link), open.waiting, lane.trouble AS head, (external_link.external_id IS NULL AND NOT EXISTS (
  SELECT FROM delivery AS d WHERE d.organisation_id = lane.organisation_id AND d.link_id = lane.link_id AND d.version > lane.done_version AND d.kind = 'CREATE'))::boolean AS unopened
FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
CROSS JOIN LATERAL (
  SELECT l.* FROM external_link AS l
  WHERE l.organisation_id = k.organisation_id AND l.incident_id = k.incident_id
  ORDER BY l.created_at, l.id LIMIT 1000) AS external_link
JOIN lane ON lane.organisation_id = external_link.organisation_id AND lane.link_id = external_link.id
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting FROM delivery
  WHERE delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id AND delivery.version > lane.done_version) AS open
ORDER BY external_link.created_at, external_link.id;

-- name: LinksByID :many
SELECT sqlc.embed(external_link), open.waiting, lane.trouble AS head, (external_link.external_id IS NULL AND NOT EXISTS (
  SELECT FROM delivery AS d WHERE d.organisation_id = lane.organisation_id AND d.link_id = lane.link_id AND d.version > lane.done_version AND d.kind = 'CREATE'))::boolean AS unopened
FROM external_link
JOIN lane ON lane.organisation_id = external_link.organisation_id AND lane.link_id = external_link.id
CROSS JOIN LATERAL (
  SELECT count(*) AS waiting FROM delivery
  WHERE delivery.organisation_id = lane.organisation_id AND delivery.link_id = lane.link_id AND delivery.version > lane.done_version) AS open
WHERE external_link.organisation_id = ANY (@organisations::bigint[]) AND external_link.id = ANY (@ids::uuid[]);

-- name: HistoryNewest :many
-- The newest entries of each of many incidents, in one statement. Entries that were put away have the lowest versions: the
-- archive is asked about incidents that have any, for pages that reach down to them.
SELECT e.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
CROSS JOIN LATERAL (
  SELECT found.* FROM (
    (SELECT ledger_entry.* FROM ledger_entry
    WHERE ledger_entry.organisation_id = k.organisation_id AND ledger_entry.incident_id = k.incident_id
      AND ledger_entry.version < @below AND ledger_entry.version > @above
      AND (cardinality(@kinds::text[]) = 0 OR ledger_entry.kind = ANY (@kinds::text[]))
      AND (cardinality(@systems::bigint[]) = 0 OR ledger_entry.link_id IN (
        SELECT external_link.id FROM external_link WHERE external_link.organisation_id = ledger_entry.organisation_id AND external_link.system_id = ANY (@systems::bigint[])))
      AND (cardinality(@actors::text[]) = 0 OR ledger_entry.actor_kind = ANY (@actors::text[]))
      AND ledger_entry.at >= @since::timestamptz AND ledger_entry.at < @until::timestamptz
    ORDER BY ledger_entry.version DESC LIMIT @max_rows)
    UNION ALL
    SELECT away.* FROM incident CROSS JOIN LATERAL archived_history(incident.organisation_id, incident.id, @above, @below, @kinds::text[], @systems::bigint[], @actors::text[],
    @since::timestamptz, @until::timestamptz, false, @max_rows) AS away
    WHERE incident.organisation_id = k.organisation_id AND incident.id = k.incident_id AND incident.archived_version > @above) AS found
  ORDER BY found.version DESC LIMIT @max_rows) AS e
ORDER BY e.version DESC;

-- name: HistoryOldest :many
-- The oldest entries of each of many incidents, in one statement; see HistoryNewest.
SELECT e.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@incidents::uuid[]) AS incident_id) AS k
CROSS JOIN LATERAL (
  SELECT found.* FROM (
    (SELECT ledger_entry.* FROM ledger_entry
    WHERE ledger_entry.organisation_id = k.organisation_id AND ledger_entry.incident_id = k.incident_id
      AND ledger_entry.version < @below AND ledger_entry.version > @above
      AND (cardinality(@kinds::text[]) = 0 OR ledger_entry.kind = ANY (@kinds::text[]))
      AND (cardinality(@systems::bigint[]) = 0 OR ledger_entry.link_id IN (
        SELECT external_link.id FROM external_link WHERE external_link.organisation_id = ledger_entry.organisation_id AND external_link.system_id = ANY (@systems::bigint[])))
      AND (cardinality(@actors::text[]) = 0 OR ledger_entry.actor_kind = ANY (@actors::text[]))
      AND ledger_entry.at >= @since::timestamptz AND ledger_entry.at < @until::timestamptz
    ORDER BY ledger_entry.version ASC LIMIT @max_rows)
    UNION ALL
    SELECT away.* FROM incident CROSS JOIN LATERAL archived_history(incident.organisation_id, incident.id, @above, @below, @kinds::text[], @systems::bigint[], @actors::text[],
    @since::timestamptz, @until::timestamptz, true, @max_rows) AS away
    WHERE incident.organisation_id = k.organisation_id AND incident.id = k.incident_id AND incident.archived_version > @above) AS found
  ORDER BY found.version ASC LIMIT @max_rows) AS e
ORDER BY e.version ASC;

-- name: EntriesNewest :many
-- A page of the whole ledger.
SELECT e.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT ledger_entry.* FROM ledger_entry
  WHERE ledger_entry.organisation_id = o.id AND ledger_entry.id < @below AND ledger_entry.id > @above
    AND (cardinality(@kinds::text[]) = 0 OR ledger_entry.kind = ANY (@kinds::text[]))
    AND (cardinality(@systems::bigint[]) = 0 OR ledger_entry.link_id IN (
      SELECT external_link.id FROM external_link WHERE external_link.organisation_id = ledger_entry.organisation_id AND external_link.system_id = ANY (@systems::bigint[])))
    AND (cardinality(@actors::text[]) = 0 OR ledger_entry.actor_kind = ANY (@actors::text[]))
    AND ledger_entry.at >= @since::timestamptz AND ledger_entry.at < @until::timestamptz
  ORDER BY ledger_entry.id DESC LIMIT @max_rows) AS e
ORDER BY e.id DESC LIMIT @max_rows;

-- name: EntriesOldest :many
-- The same from the other end.
SELECT e.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT ledger_entry.* FROM ledger_entry
  WHERE ledger_entry.organisation_id = o.id AND ledger_entry.id < @below AND ledger_entry.id > @above
    AND (cardinality(@kinds::text[]) = 0 OR ledger_entry.kind = ANY (@kinds::text[]))
    AND (cardinality(@systems::bigint[]) = 0 OR ledger_entry.link_id IN (
      SELECT external_link.id FROM external_link WHERE external_link.organisation_id = ledger_entry.organisation_id AND external_link.system_id = ANY (@systems::bigint[])))
    AND (cardinality(@actors::text[]) = 0 OR ledger_entry.actor_kind = ANY (@actors::text[]))
    AND ledger_entry.at >= @since::timestamptz AND ledger_entry.at < @until::timestamptz
  ORDER BY ledger_entry.id ASC LIMIT @max_rows) AS e
ORDER BY e.id ASC LIMIT @max_rows;

-- name: EntriesByKey :many
-- Entries by incident and version, those that were put away as well.
SELECT ledger_entry.* FROM (SELECT unnest(@incidents::uuid[]) AS incident_id, unnest(@versions::bigint[]) AS version) AS k
JOIN incident ON incident.id = k.incident_id
JOIN ledger_entry ON ledger_entry.organisation_id = incident.organisation_id AND ledger_entry.incident_id = k.incident_id AND ledger_entry.version = k.version
UNION ALL
SELECT away.* FROM (SELECT unnest(@incidents::uuid[]) AS incident_id, unnest(@versions::bigint[]) AS version) AS k
JOIN incident ON incident.id = k.incident_id AND incident.archived_version >= k.version
CROSS JOIN LATERAL archived_history(incident.organisation_id, incident.id, k.version - 1, k.version + 1, '{}', '{}', '{}', '-infinity', 'infinity', false, 1) AS away;

-- name: LinkDeliveriesNewest :many
-- The newest deliveries of each of many links.
SELECT d.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS k
CROSS JOIN LATERAL (
  SELECT delivery.* FROM delivery_now AS delivery
  WHERE delivery.organisation_id = k.organisation_id AND delivery.link_id = k.link_id
    AND (delivery.created_at, delivery.version, delivery.id) < (@below_at::timestamptz, @below_version::bigint, @below_id::uuid)
    AND (delivery.created_at, delivery.version, delivery.id) > (@above_at::timestamptz, @above_version::bigint, @above_id::uuid)
  ORDER BY delivery.created_at DESC, delivery.version DESC, delivery.id DESC LIMIT @max_rows) AS d
ORDER BY d.created_at DESC, d.version DESC, d.id DESC;

-- name: LinkDeliveriesOldest :many
-- The oldest deliveries of each of many links.
SELECT d.* FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS k
CROSS JOIN LATERAL (
  SELECT delivery.* FROM delivery_now AS delivery
  WHERE delivery.organisation_id = k.organisation_id AND delivery.link_id = k.link_id
    AND (delivery.created_at, delivery.version, delivery.id) < (@below_at::timestamptz, @below_version::bigint, @below_id::uuid)
    AND (delivery.created_at, delivery.version, delivery.id) > (@above_at::timestamptz, @above_version::bigint, @above_id::uuid)
  ORDER BY delivery.created_at ASC, delivery.version ASC, delivery.id ASC LIMIT @max_rows) AS d
ORDER BY d.created_at ASC, d.version ASC, d.id ASC;

-- name: DeliveriesNewest :many
-- A page of deliveries.
SELECT d.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT delivery.* FROM delivery_now AS delivery
  WHERE delivery.organisation_id = o.id
    AND (delivery.created_at, delivery.version, delivery.id) < (@below_at::timestamptz, @below_version::bigint, @below_id::uuid)
    AND (delivery.created_at, delivery.version, delivery.id) > (@above_at::timestamptz, @above_version::bigint, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR delivery.state = ANY (@states::text[]))
    AND (cardinality(@error_kinds::text[]) = 0 OR delivery.error_kind = ANY (@error_kinds::text[]))
    AND (sqlc.narg(incident)::uuid IS NULL OR delivery.incident_id = sqlc.narg(incident)::uuid)
    AND (sqlc.narg(system)::text IS NULL OR delivery.link_id IN (
      SELECT external_link.id FROM external_link JOIN external_system ON external_system.id = external_link.system_id
      WHERE external_link.organisation_id = o.id AND external_system.key = sqlc.narg(system)::text))
  ORDER BY delivery.created_at DESC, delivery.version DESC, delivery.id DESC LIMIT @max_rows) AS d
ORDER BY d.created_at DESC, d.version DESC, d.id DESC LIMIT @max_rows;

-- name: DeliveriesOldest :many
-- The same from the other end.
SELECT d.* FROM (SELECT unnest(@organisations::bigint[]) AS id) AS o
CROSS JOIN LATERAL (
  SELECT delivery.* FROM delivery_now AS delivery
  WHERE delivery.organisation_id = o.id
    AND (delivery.created_at, delivery.version, delivery.id) < (@below_at::timestamptz, @below_version::bigint, @below_id::uuid)
    AND (delivery.created_at, delivery.version, delivery.id) > (@above_at::timestamptz, @above_version::bigint, @above_id::uuid)
    AND (cardinality(@states::text[]) = 0 OR delivery.state = ANY (@states::text[]))
    AND (cardinality(@error_kinds::text[]) = 0 OR delivery.error_kind = ANY (@error_kinds::text[]))
    AND (sqlc.narg(incident)::uuid IS NULL OR delivery.incident_id = sqlc.narg(incident)::uuid)
    AND (sqlc.narg(system)::text IS NULL OR delivery.link_id IN (
      SELECT external_link.id FROM external_link JOIN external_system ON external_system.id = external_link.system_id
      WHERE external_link.organisation_id = o.id AND external_system.key = sqlc.narg(system)::text))
  ORDER BY delivery.created_at ASC, delivery.version ASC, delivery.id ASC LIMIT @max_rows) AS d
ORDER BY d.created_at ASC, d.version ASC, d.id ASC LIMIT @max_rows;

-- name: DeliveriesByID :many
SELECT * FROM delivery_now WHERE organisation_id = ANY (@organisations::bigint[]) AND id = ANY (@ids::uuid[]);

-- name: Organisations :many
-- Every organisation that the viewer may see, with its desk.
SELECT sqlc.embed(organisation), sqlc.embed(desk) FROM organisation JOIN desk ON desk.id = organisation.desk_id ORDER BY organisation.name, organisation.id;

-- name: Systems :many
-- Every system into which the viewer's incidents can be escalated. A system is visible through the organisations
-- that may use it, its desk through the organisations that it serves, so the desk may be hidden.
SELECT sqlc.embed(external_system), desk.key AS desk_key, desk.name AS desk_name FROM external_system
LEFT JOIN desk ON desk.id = external_system.desk_id ORDER BY external_system.key;
