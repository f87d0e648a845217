-- A desk with $1 schools, three organisations for the rows that write, and two systems: tickets' deliveries stay
-- where they are, lanes' are carried by the worker under test.
WITH d AS (
  INSERT INTO desk (key, name) VALUES ('desk', 'Service Desk') RETURNING id
), o AS (
  INSERT INTO organisation (key, name, desk_id)
  SELECT key, initcap(key), d.id FROM d, (
    SELECT 'school-' || g AS key FROM generate_series(1, $1::bigint) AS g
    UNION ALL SELECT unnest(ARRAY['appends', 'subscribers', 'lanes'])) AS k
  RETURNING id, key
), s AS (
  INSERT INTO external_system (key, name, connector, desk_id, url)
  SELECT key, initcap(key) || ' Desk', 'bench', d.id, 'https://' || key || '.example.org' FROM d, unnest(ARRAY['tickets', 'lanes']) AS key
  RETURNING id, key
), used AS (
  INSERT INTO system_organisation (organisation_id, system_id) SELECT o.id, s.id FROM o, s
)
SELECT 'organisation' AS what, key, id FROM o UNION ALL SELECT 'system', key, id FROM s;
