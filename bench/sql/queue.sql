-- $2 deliveries of the kind $3 on every lane of the organisation $1, with the entries that they carry, all due at $4.
-- $5 makes the texts of this round differ from those of the round before.
WITH moved AS (
  UPDATE incident SET version = version + $2::bigint, updated_at = $4 WHERE organisation_id = $1
  RETURNING organisation_id, id AS incident_id, version - $2 AS before
), wanted AS MATERIALIZED (
  SELECT organisation_id, incident_id, before + k AS version,
         'Printer in room 12 prints page ' || k || ' of round ' || $5::text AS words,
         CASE WHEN $3::text = 'COMMENT' THEN gen_random_uuid() END AS comment_id
  FROM moved CROSS JOIN generate_series(1, $2) AS k
), written AS (
  INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, comment_id, at)
  SELECT organisation_id, incident_id, version, CASE WHEN $3 = 'COMMENT' THEN 'COMMENTED' ELSE 'CHANGED' END, 'PERSON', 'Ada Agent', comment_id, $4 FROM wanted
), said AS (
  INSERT INTO comment (organisation_id, id, incident_id, visibility, body, author, at)
  SELECT organisation_id, comment_id, incident_id, 'PUBLIC', words, 'Ada Agent', $4 FROM wanted WHERE comment_id IS NOT NULL
), sent AS (
  INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, payload, comment_id, created_at)
  SELECT w.organisation_id, gen_random_uuid(), l.id, w.incident_id, w.version, $3,
         CASE WHEN $3 = 'UPDATE' THEN jsonb_build_object('title', w.words) ELSE '{}'::jsonb END, w.comment_id, $4
  FROM wanted AS w JOIN external_link AS l ON l.organisation_id = w.organisation_id AND l.incident_id = w.incident_id
)
UPDATE lane SET due_at = $4 WHERE organisation_id = $1;
