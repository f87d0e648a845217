-- None to six comments on each incident of the organisations $1, one in four a work note. $2 is the seed.
INSERT INTO comment (organisation_id, id, incident_id, visibility, body, author, at)
SELECT i.organisation_id, md5(i.id || ':' || k || ':' || $2::text)::uuid, i.id,
       CASE WHEN (h >> k) % 4 = 0 THEN 'INTERNAL' ELSE 'PUBLIC' END,
       'We have looked at it and found a fault that is known here as ' || md5(i.id || ':' || k) || '. A colleague comes with the part on the next round; please leave the room open for '
         || 5 + (h >> k) % 50 || ' minutes.',
       (ARRAY['Ada Agent', 'Ben Agent', 'Rita Requester'])[1 + (h >> k) % 3], i.opened_at + k * interval '11 minutes'
FROM (SELECT organisation_id, id, opened_at, hashtextextended(id::text, $2::bigint) & 2147483647 AS h FROM incident
      WHERE organisation_id = ANY ($1::bigint[])) AS i
CROSS JOIN LATERAL generate_series(1, (h % 7)::int) AS k;
