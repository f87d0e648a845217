-- The links of the organisation $1 get the tickets $2 with the numbers $3, and their incidents say what a fresh ticket does:
-- its title $4, and the words that an untouched ticket of the simulator is read as.
WITH linked AS (
  SELECT id, incident_id, row_number() OVER (ORDER BY id) AS n FROM external_link WHERE organisation_id = $1
), given AS (
  SELECT linked.id, linked.incident_id, t.external_id, t.number, t.title FROM linked
  JOIN unnest($2::text[], $3::text[], $4::text[]) WITH ORDINALITY AS t (external_id, number, title, n) USING (n)
), entitled AS (
  UPDATE incident SET title = given.title, state = 'NEW', priority = 'P5', category = '' FROM given
  WHERE incident.organisation_id = $1 AND incident.id = given.incident_id
)
UPDATE external_link SET external_id = given.external_id, number = given.number FROM given
WHERE external_link.organisation_id = $1 AND external_link.id = given.id;
