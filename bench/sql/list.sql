-- The first 20 open incidents of the organisation $1, newest first, each with its last 3 public comments and its links,
-- as the very JSON that Liaison answers a requester: the same names, the same words, the same opaque ids.
WITH page AS (
  SELECT * FROM incident WHERE organisation_id = $1 AND state NOT IN ('CLOSED', 'CANCELLED')
  ORDER BY opened_at DESC, id DESC LIMIT 21
)
SELECT row_to_json(whole) FROM (SELECT (SELECT row_to_json(data) FROM (SELECT (SELECT row_to_json(incidents) FROM (SELECT
  (SELECT coalesce(json_agg(node), '[]') FROM (
    SELECT
      rtrim(translate(encode(('Incident:' || i.id)::bytea, 'base64'), '+/', '-_'), '=') AS id,
      i.number, i.title, i.description, i.state, i.priority,
      to_char(i.opened_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "openedAt",
      to_char(i.updated_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS "updatedAt",
      (SELECT row_to_json(comments) FROM (SELECT (SELECT coalesce(json_agg(c), '[]') FROM (
        SELECT id, visibility, body, author, at FROM (
          SELECT rtrim(translate(encode(('Comment:' || comment.id)::bytea, 'base64'), '+/', '-_'), '=') AS id, visibility, body, author,
                 to_char(comment.at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"') AS at, comment.at AS sorted, comment.id AS tie
          FROM comment WHERE comment.organisation_id = $1 AND comment.incident_id = i.id AND visibility = 'PUBLIC'
          ORDER BY comment.at DESC, comment.id DESC LIMIT 3) AS newest
        ORDER BY sorted, tie) AS c) AS nodes) AS comments) AS comments,
      (SELECT coalesce(json_agg(l), '[]') FROM (
        SELECT
          rtrim(translate(encode(('ExternalLink:' || external_link.id)::bytea, 'base64'), '+/', '-_'), '=') AS id,
          nullif(external_link.number, '') AS "externalNumber", nullif(external_link.url, '') AS url, nullif(remote_state, '') AS "remoteState",
          CASE WHEN gone <> '' THEN 'TICKET_GONE' WHEN lane.trouble = 'DEAD' THEN 'STOPPED' WHEN lane.trouble = 'UNKNOWN' THEN 'UNSETTLED'
               WHEN external_id IS NULL THEN 'OPENING' WHEN open.waiting > 0 THEN 'SENDING' ELSE 'IN_STEP' END AS "syncStatus",
          json_build_object('key', external_system.key, 'name', external_system.name) AS system
        FROM external_link JOIN external_system ON external_system.id = external_link.system_id
        JOIN lane ON lane.organisation_id = $1 AND lane.link_id = external_link.id
        CROSS JOIN LATERAL (
          SELECT count(*) AS waiting FROM delivery
          WHERE delivery.organisation_id = $1 AND delivery.link_id = external_link.id AND delivery.version > lane.done_version) AS open
        WHERE external_link.organisation_id = $1 AND external_link.incident_id = i.id
        ORDER BY external_link.created_at, external_link.id) AS l) AS links
    FROM (SELECT * FROM page ORDER BY opened_at DESC, id DESC LIMIT 20) AS i
    ORDER BY i.opened_at DESC, i.id DESC) AS node) AS nodes,
  json_build_object('hasNextPage', (SELECT count(*) > 20 FROM page)) AS "pageInfo") AS incidents) AS incidents) AS data) AS data) AS whole;
