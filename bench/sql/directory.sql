-- A desk with $1 schools, organisations for the rows that write, and systems: tickets' deliveries stay where they are,
-- the others' are carried by the worker under test.
WITH d AS (
  INSERT INTO desk (key, name) VALUES ('desk', 'Service Desk') RETURNING id
), o AS (
  INSERT INTO organisation (key, name, desk_id)
  SELECT key, initcap(key), d.id FROM d, (
    SELECT 'school-' || g AS key FROM generate_series(1, $1::bigint) AS g
    UNION ALL SELECT unnest(ARRAY['appends', 'subscribers', 'lanes', 'changes', 'hooks'])) AS k
  RETURNING id, key
), s AS (
  INSERT INTO external_system (key, name, connector, desk_id, url)
  SELECT key, initcap(key) || ' Desk', 'bench', d.id, 'https://' || key || '.example.org' FROM d, unnest(ARRAY['tickets', 'lanes', 'changes', 'hooks']) AS key
  RETURNING id, key
)
INSERT INTO system_organisation (organisation_id, system_id) SELECT o.id, s.id FROM o, s;
