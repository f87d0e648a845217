-- name: LeaveDeadRuns :exec
-- A comparison whose hub died keeps its place; the next one goes on from there.
UPDATE reconciliation SET state = 'FAILED', error = 'the hub that compared ended in the middle', ended_at = @at::timestamptz
WHERE system_id = @system_id AND state = 'RUNNING' AND lease_until < clock_timestamp();

-- name: LastNightly :many
-- The newest nightly comparison of a system, if there was one.
SELECT state, at_organisation, at_link, started_at, ended_at FROM reconciliation WHERE system_id = @system_id AND cause = 'NIGHTLY' ORDER BY started_at DESC LIMIT 1;

-- name: StartRun :many
-- Nothing comes back while another comparison of the system is under way.
INSERT INTO reconciliation (id, system_id, cause, by_whom, mend, at_organisation, at_link, started_at, lease_until, lease_token)
VALUES (@id, @system_id, @cause, @by_whom, @mend, @at_organisation, @at_link, @at, clock_timestamp() + make_interval(secs => @lease_seconds::float8), nextval('lease_token'))
ON CONFLICT (system_id) WHERE state = 'RUNNING' DO NOTHING
RETURNING lease_token;

-- name: RenewRun :execrows
UPDATE reconciliation SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE id = @id AND lease_token = @lease_token AND state = 'RUNNING';

-- name: NoteProgress :execrows
-- Fenced: a comparison that another hub took for dead writes nothing more.
UPDATE reconciliation SET at_organisation = @at_organisation, at_link = @at_link, links = @links, reads = @reads, drifted = @drifted, mended = @mended, failed = @failed,
  state = @state, error = @error, ended_at = sqlc.narg(ended_at)
WHERE id = @id AND lease_token = @lease_token AND state = 'RUNNING';

-- name: InsertDrift :exec
INSERT INTO drift (organisation_id, id, reconciliation_id, link_id, what, hub, vendor, outcome, at, open)
VALUES (@organisation_id, @id, @reconciliation_id, @link_id, @what, @hub, @vendor, @outcome, @at, @open);

-- name: CloseDrift :execrows
-- What an earlier comparison found on links that were compared again.
UPDATE drift SET open = false FROM (SELECT unnest(@organisations::bigint[]) AS organisation_id, unnest(@links::uuid[]) AS link_id) AS compared
WHERE drift.organisation_id = compared.organisation_id AND drift.link_id = compared.link_id AND drift.open;

-- name: RecordRun :exec
-- A comparison of a single link, which needs no lease.
INSERT INTO reconciliation (id, system_id, cause, by_whom, mend, state, links, reads, drifted, mended, failed, started_at, ended_at)
VALUES (@id, @system_id, @cause, @by_whom, @mend, 'DONE', @links, @reads, @drifted, @mended, @failed, @at, @at);

-- name: PauseOf :many
-- Who paused a system and why; nothing comes back when it is not paused.
SELECT paused_by, pause_reason FROM external_system WHERE id = @id AND paused;
