-- name: IdentifyDatabase :one
-- What tells this database from a copy of it: its own id in the cluster, the id of its feed table (another one
-- after a restored dump) and the write-ahead log's timeline (another one after point-in-time recovery and after
-- a promotion).
SELECT (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = current_database())::bigint AS database_id,
       'feed'::regclass::oid::bigint AS feed_id,
       has_function_privilege('pg_control_system()', 'EXECUTE')::boolean AS may_read_control,
       (has_function_privilege('pg_walfile_name(pg_lsn)', 'EXECUTE') AND has_function_privilege('pg_current_wal_lsn()', 'EXECUTE'))::boolean AS may_read_timeline;

-- name: ReadSystemIdentifier :one
-- The cluster's own number, drawn by initdb.
SELECT system_identifier::text AS system_identifier FROM pg_control_system();

-- name: ReadTimeline :one
-- The timeline that is being written; the control file's lags behind a promotion until the next checkpoint.
SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)::text AS timeline;

-- name: SetEpoch :exec
-- Names the run of positions and the database that it belongs to.
UPDATE watermark SET epoch = @epoch, fingerprint = @fingerprint, gaps = @gaps WHERE name = 'feed';

-- name: RenewEpoch :exec
-- Ends an epoch in which positions were seen that the database no longer knows. Only one of several hubs that
-- notice it does so.
UPDATE watermark SET epoch = gen_random_uuid() WHERE name = 'feed' AND epoch = @seen_epoch AND position < @seen_position;
