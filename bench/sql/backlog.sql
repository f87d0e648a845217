-- $2 deliveries on each of $3 lanes of the organisation $1 that have none, with the entries that they carry. The lanes
-- fall due one after the other within a hundred seconds before $4. $5 makes the texts of this round differ from those of the round
-- before.
WITH idle AS MATERIALIZED (
  SELECT lane.link_id, l.incident_id, row_number() OVER (ORDER BY lane.link_id) AS n FROM lane
  JOIN external_link AS l ON l.organisation_id = lane.organisation_id AND l.id = lane.link_id
  WHERE lane.organisation_id = $1 AND lane.due_at IS NULL ORDER BY lane.link_id LIMIT $3::bigint
), moved AS (
  UPDATE incident SET version = version + $2::bigint, updated_at = $4 FROM idle
  WHERE incident.organisation_id = $1 AND incident.id = idle.incident_id
  RETURNING incident.organisation_id, incident.id AS incident_id, idle.link_id, incident.version - $2 AS before
), wanted AS MATERIALIZED (
  SELECT organisation_id, incident_id, link_id, before + k AS version, 'Printer in room 12 prints page ' || k || ' of round ' || $5::text AS words
  FROM moved CROSS JOIN generate_series(1, $2) AS k
), written AS (
  INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, at)
  SELECT organisation_id, incident_id, version, 'CHANGED', 'PERSON', 'Ada Agent', $4 FROM wanted
), sent AS (
  INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, payload, created_at)
  SELECT organisation_id, gen_random_uuid(), link_id, incident_id, version, 'UPDATE', jsonb_build_object('title', words), $4 FROM wanted
)
UPDATE lane SET due_at = $4 - make_interval(secs => 100 * (1 - idle.n::float8 / $3)) FROM idle
WHERE lane.organisation_id = $1 AND lane.link_id = idle.link_id;
