-- name: Beat :exec
-- Lays what one hub has seen over what is known. The later of two times stands, counts are added, and of the breaker
-- stands what was told last. The epoch means "not seen".
INSERT INTO pulse AS p (system_id, sent_at, read_at, poll_at, news_at, hook_at, failed_at, send_failed_at, read_failed_at, poll_failed_at,
  error_kind, error, breaker, breaker_until, echoes, restored, retries, since, updated_at)
SELECT unnest(@systems::bigint[]), nullif(unnest(@sent::timestamptz[]), 'epoch'), nullif(unnest(@read::timestamptz[]), 'epoch'), nullif(unnest(@polled::timestamptz[]), 'epoch'),
  nullif(unnest(@news::timestamptz[]), 'epoch'), nullif(unnest(@hooks::timestamptz[]), 'epoch'), nullif(unnest(@failed::timestamptz[]), 'epoch'),
  nullif(unnest(@send_failed::timestamptz[]), 'epoch'), nullif(unnest(@read_failed::timestamptz[]), 'epoch'), nullif(unnest(@poll_failed::timestamptz[]), 'epoch'),
  unnest(@error_kinds::text[]), unnest(@errors::text[]), unnest(@breakers::text[]), nullif(unnest(@breaker_untils::timestamptz[]), 'epoch'),
  unnest(@echoes::bigint[]), unnest(@restored::bigint[]), unnest(@retries::bigint[]), @at::timestamptz, @at::timestamptz
ON CONFLICT (system_id) DO UPDATE SET
  sent_at = greatest(p.sent_at, excluded.sent_at), read_at = greatest(p.read_at, excluded.read_at), poll_at = greatest(p.poll_at, excluded.poll_at),
  news_at = greatest(p.news_at, excluded.news_at), hook_at = greatest(p.hook_at, excluded.hook_at), failed_at = greatest(p.failed_at, excluded.failed_at),
  send_failed_at = greatest(p.send_failed_at, excluded.send_failed_at), read_failed_at = greatest(p.read_failed_at, excluded.read_failed_at),
  poll_failed_at = greatest(p.poll_failed_at, excluded.poll_failed_at),
  error_kind = CASE WHEN excluded.failed_at >= coalesce(p.failed_at, '-infinity') THEN excluded.error_kind ELSE p.error_kind END,
  error = CASE WHEN excluded.failed_at >= coalesce(p.failed_at, '-infinity') THEN excluded.error ELSE p.error END,
  breaker = CASE WHEN excluded.breaker = '' THEN p.breaker ELSE excluded.breaker END,
  breaker_until = CASE WHEN excluded.breaker = '' THEN p.breaker_until ELSE excluded.breaker_until END,
  echoes = p.echoes + excluded.echoes, restored = p.restored + excluded.restored, retries = p.retries + excluded.retries,
  updated_at = greatest(p.updated_at, excluded.updated_at);

-- name: KnownPulses :many
-- What a hub must know of its systems before it asks one whether it is there.
SELECT s.id, s.paused, s.active, coalesce(greatest(p.read_at, p.poll_at), 'epoch')::timestamptz AS heard
FROM external_system s LEFT JOIN pulse p ON p.system_id = s.id WHERE s.id = ANY (@systems::bigint[]);
