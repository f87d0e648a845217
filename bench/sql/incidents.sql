-- $2 incidents in the organisations $1 by turns, one every 97 seconds up to $4, each with its first entry. $3 is the
-- seed. In 6 of 10 cases of a busy organisation ($5) the incident is over. Times are whole seconds, so that every
-- server writes them alike.
WITH drawn AS (
  SELECT g, ($1::bigint[])[1 + g % cardinality($1)] AS organisation_id, hashint8extended(g, $3::bigint) & 2147483647 AS h,
         date_trunc('second', $4::timestamptz) - make_interval(secs => 97 * ($2 - g)) AS at,
         md5($3::text || ':' || g) AS noise
  FROM generate_series(1, $2::bigint) AS g
), made AS (
  INSERT INTO incident (organisation_id, id, version, title, description, state, priority, impact, urgency, category, service,
                        contact_name, contact_email, reported_by, opened_at, updated_at, resolved_at, closed_at)
  SELECT organisation_id,
         (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(noise, 1, 3) || '8' || substr(noise, 4, 15))::uuid,
         1,
         (ARRAY['Printer', 'Projector', 'Wireless network', 'Student portal', 'Telephone', 'Mail box'])[1 + h % 6] || ' in room ' || h % 400 || ' of building ' || substr(noise, 1, 4),
         'Since this morning it does not answer. We switched it off and on twice, the light stays amber and the display shows code '
           || noise || '. The class in there begins at ' || 8 + h % 8 || ' o''clock.',
         CASE WHEN $5::boolean AND h % 10 < 5 THEN 'CLOSED' WHEN $5 AND h % 10 = 5 THEN 'CANCELLED'
              ELSE (ARRAY['NEW', 'ASSIGNED', 'IN_PROGRESS', 'RESOLVED'])[1 + (h / 10) % 4] END,
         (ARRAY['NONE', 'P2', 'P3', 'P4'])[1 + (h / 100) % 4], 'SITE', 'MEDIUM', (ARRAY['Hardware', 'Network', 'Software'])[1 + h % 3], 'Classroom',
         'Rita Requester', 'rita@school.example.org', 'Rita Requester', at, at,
         CASE WHEN $5 AND h % 10 < 5 THEN at END, CASE WHEN $5 AND h % 10 < 6 THEN at END
  FROM drawn
  RETURNING organisation_id, id, title, opened_at
)
INSERT INTO ledger_entry (organisation_id, incident_id, version, kind, actor_kind, actor, changes, at)
SELECT organisation_id, id, 1, 'REPORTED', 'PERSON', 'Rita Requester', jsonb_build_object('title', jsonb_build_array('', title)), opened_at FROM made;
