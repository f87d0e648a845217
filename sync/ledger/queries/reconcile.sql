-- name: DuplicateTold :one
-- Whether somebody has told already that a ticket stands beside the one that a link follows.
SELECT EXISTS (SELECT FROM ledger_entry e WHERE e.organisation_id = @organisation_id AND e.incident_id = @incident_id AND e.kind = 'DUPLICATE_FOUND'
  AND e.link_id = @link_id AND e.detail ->> 'externalId' = @external_id::text) AS told;

-- name: StrayTickets :many
-- Of tickets that carry correlation ids, those that are not the one that the id's link follows, as far as nobody has told of
-- them yet.
SELECT given.external_id::text FROM (SELECT unnest(@external_ids::text[]) AS external_id, unnest(@correlations::uuid[]) AS correlation_id) AS given
JOIN external_link l ON l.correlation_id = given.correlation_id AND l.system_id = @system_id AND l.external_id IS DISTINCT FROM given.external_id AND l.gone = ''
WHERE NOT EXISTS (SELECT FROM ledger_entry e WHERE e.organisation_id = l.organisation_id AND e.incident_id = l.incident_id AND e.kind = 'DUPLICATE_FOUND'
  AND e.link_id = l.id AND e.detail ->> 'externalId' = given.external_id);

-- name: FollowedLinks :many
-- The links of a system whose tickets are followed, in the order in which comparisons go.
SELECT * FROM external_link
WHERE system_id = @system_id AND (organisation_id, id) > (@after_organisation::bigint, @after_link::uuid) AND external_id IS NOT NULL AND gone = ''
ORDER BY organisation_id, id LIMIT @most;

-- name: CopiesOf :many
-- The comments of a link that its vendor has.
SELECT c.external_id, comment.body, comment.visibility, comment.author FROM comment_copy c
JOIN comment ON comment.organisation_id = c.organisation_id AND comment.id = c.comment_id
WHERE c.organisation_id = @organisation_id AND c.link_id = @link_id ORDER BY comment.at, c.external_id;

-- name: PresentIncident :one
SELECT * FROM incident WHERE organisation_id = @organisation_id AND id = @id;

-- name: LinkByID :one
SELECT * FROM external_link WHERE id = @id;
