-- name: PlaceUpkeep :exec
INSERT INTO upkeep (name) VALUES (@name) ON CONFLICT DO NOTHING;

-- name: TakeUpkeep :many
-- Nothing comes back when it was done lately or another hub is at it.
UPDATE upkeep SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8), lease_token = nextval('lease_token')
WHERE name = @name AND done_at <= @before::timestamptz AND lease_until < clock_timestamp()
RETURNING lease_token;

-- name: RenewUpkeep :execrows
UPDATE upkeep SET lease_until = clock_timestamp() + make_interval(secs => @lease_seconds::float8)
WHERE name = @name AND lease_token = @lease_token AND lease_until > '-infinity';

-- name: DoneUpkeep :execrows
UPDATE upkeep SET done_at = @at::timestamptz, lease_until = '-infinity' WHERE name = @name AND lease_token = @lease_token;

-- name: ClearBodies :execrows
UPDATE inbox SET body = '' FROM (
  SELECT i.id, i.received_at FROM inbox i
  WHERE i.received_at < @before AND octet_length(i.body) > 0 AND i.state NOT IN ('WAITING', 'PARKED') LIMIT @most) AS old
WHERE inbox.id = old.id AND inbox.received_at = old.received_at;

-- name: DeleteRows :execrows
-- Rows that lie in no month of their own, or in one that cannot be dropped yet.
DELETE FROM inbox USING (
  SELECT i.id, i.received_at FROM inbox i WHERE i.received_at < @before AND i.state NOT IN ('WAITING', 'PARKED') LIMIT @most) AS old
WHERE inbox.id = old.id AND inbox.received_at = old.received_at;

-- name: ForgetCalls :execrows
DELETE FROM inbox_seen USING (SELECT s.system_id, s.call_id FROM inbox_seen s WHERE s.received_at < @before LIMIT @most) AS old
WHERE inbox_seen.system_id = old.system_id AND inbox_seen.call_id = old.call_id;
