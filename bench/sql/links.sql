-- Links to the system $2 for $3 in 100 incidents of the organisations $1, each with its lane and with the delivery
-- that opened the ticket; for $4 in 100 of them an update waits instead. $5 is
-- the seed, $6 what people read as the tickets' state.
WITH chosen AS (
  SELECT organisation_id, id AS incident_id, opened_at, hashtextextended(id::text, $5::bigint) & 2147483647 AS h FROM incident
  WHERE organisation_id = ANY ($1::bigint[])
), linked AS (
  INSERT INTO external_link (organisation_id, id, incident_id, system_id, correlation_id, external_id, number, url, remote_state, last_synced_at, created_at)
  SELECT organisation_id, md5('link' || incident_id || $2::bigint::text)::uuid, incident_id, $2::bigint, md5('correlation' || incident_id || $2::bigint::text)::uuid,
         md5('ticket' || incident_id || $2::bigint::text), 'T' || lpad((h % 10000000)::text, 7, '0'),
         'https://tickets.example.org/' || md5('ticket' || incident_id || $2::bigint::text), $6::text, opened_at + interval '5 seconds', opened_at + interval '2 seconds'
  FROM chosen WHERE h % 100 < $3::bigint
  RETURNING organisation_id, id, incident_id, created_at, hashtextextended(incident_id::text, $5::bigint) & 2147483647 AS h
), laned AS (
  INSERT INTO lane (organisation_id, link_id, system_id, done_version) SELECT organisation_id, id, $2::bigint, CASE WHEN (h / 100) % 100 < $4::bigint THEN 0 ELSE 1 END FROM linked
)
INSERT INTO delivery (organisation_id, id, link_id, incident_id, version, kind, payload, state, attempts, created_at, settled_at)
SELECT organisation_id, gen_random_uuid(), id, incident_id, 1, 'CREATE', '{"title": "Printer"}'::jsonb, 'DELIVERED', 1, created_at, created_at FROM linked
WHERE (h / 100) % 100 >= $4::bigint
UNION ALL
SELECT organisation_id, gen_random_uuid(), id, incident_id, 1, 'UPDATE', '{"title": "Printer"}', 'PENDING', 0, created_at, NULL::timestamptz FROM linked
WHERE (h / 100) % 100 < $4::bigint;
