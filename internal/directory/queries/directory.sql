-- name: PutDesk :one
INSERT INTO desk (key, name) VALUES (@key, @name)
ON CONFLICT (key) DO UPDATE SET name = excluded.name RETURNING id;

-- name: PutOrganisation :one
INSERT INTO organisation (key, name, desk_id) VALUES (@key, @name, @desk_id)
ON CONFLICT (key) DO UPDATE SET name = excluded.name, desk_id = excluded.desk_id RETURNING id;

-- name: PutSystem :one
INSERT INTO external_system (key, name, connector, desk_id, url, silence_after, active)
VALUES (@key, @name, @connector, @desk_id, @url, make_interval(secs => nullif(@silence_seconds::float8, 0)), true)
ON CONFLICT (key) DO UPDATE SET name = excluded.name, connector = excluded.connector, desk_id = excluded.desk_id, url = excluded.url,
  silence_after = excluded.silence_after, active = true
RETURNING id;

-- name: RetireSystems :exec
-- Systems that left the settings keep their links and are used no more.
UPDATE external_system SET active = false WHERE key <> ALL (@keys::text[]);

-- name: Permit :exec
INSERT INTO system_organisation (organisation_id, system_id) SELECT unnest(@organisations::bigint[]), @system_id
ON CONFLICT (organisation_id, system_id) DO UPDATE SET active = true;

-- name: Forbid :exec
UPDATE system_organisation SET active = false WHERE system_id = @system_id AND organisation_id <> ALL (@organisations::bigint[]);

-- name: OrganisationsOfDesks :many
SELECT id, desk_id FROM organisation ORDER BY id;

-- name: LockDirectory :exec
-- Hubs that start together write the directory one after the other.
SELECT pg_advisory_xact_lock(7237419216501);

-- name: PauseSystem :execrows
-- The viewer's row-level security says whose systems. Pausing twice keeps the first time.
UPDATE external_system SET paused = true, paused_at = CASE WHEN paused THEN paused_at ELSE @at::timestamptz END, paused_by = @by_whom, pause_reason = @reason WHERE key = @key;

-- name: ResumeSystem :execrows
UPDATE external_system SET paused = false, paused_at = NULL, paused_by = '', pause_reason = '' WHERE key = @key;
