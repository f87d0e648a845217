-- What the sync needs to keep its promises under fault and to show its work: lanes that settle without touching
-- an index, conflicts, flips, an inbox by month, the pulse of each system, reconciliation, checkpoints and an archive.
-- Locks: delivery, lane, ledger_entry and inbox are locked while their indexes change; hubs of schema 1 must be
-- stopped, because they do not move lane.done_version.
-- Oldest binary that may run beside it: 2.

-- +goose Up

-- Which binaries may run on this database: those whose highest migration is at least oldest.
CREATE TABLE hub_schema (
  only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
  oldest   integer NOT NULL
);
INSERT INTO hub_schema (oldest) VALUES (2);

-- A link hears of each version at most once, and in order: done_version says up to which version everything is
-- settled. The head of a lane is the first delivery beyond it, found in an index that no change of state touches, so that
-- settling rewrites a row in place.
ALTER TABLE lane ADD COLUMN done_version bigint NOT NULL DEFAULT 0;
-- Why the head stands still: '', DEAD or UNKNOWN.
ALTER TABLE lane ADD COLUMN trouble text NOT NULL DEFAULT '' CHECK (trouble IN ('', 'DEAD', 'UNKNOWN'));
-- Up to which version deliveries may have been sent, written before the first of their calls: whoever finds it there later
-- knows only that they may have been. The mark is the journal's end before their first comment. NULL: nothing is under way.
ALTER TABLE lane ADD COLUMN sending_version bigint;
ALTER TABLE lane ADD COLUMN sending_since timestamptz;
ALTER TABLE lane ADD COLUMN sending_mark text;
UPDATE lane SET
  done_version = CASE WHEN open.version IS NULL THEN coalesce(settled.version, 0) ELSE open.version - 1 END,
  trouble = CASE WHEN open.state IN ('DEAD', 'UNKNOWN') THEN open.state ELSE '' END,
  sending_version = CASE WHEN open.state = 'SENDING' THEN open.version END,
  sending_since = CASE WHEN open.state = 'SENDING' THEN open.sent_at END
FROM lane AS l
LEFT JOIN LATERAL (SELECT d.version, d.state, d.sent_at FROM delivery d WHERE d.organisation_id = l.organisation_id AND d.link_id = l.link_id
                   AND d.state NOT IN ('DELIVERED', 'SKIPPED') ORDER BY d.version LIMIT 1) AS open ON true
LEFT JOIN LATERAL (SELECT max(d.version) AS version FROM delivery d WHERE d.organisation_id = l.organisation_id AND d.link_id = l.link_id) AS settled ON true
WHERE lane.organisation_id = l.organisation_id AND lane.link_id = l.link_id;
UPDATE delivery SET state = 'PENDING' WHERE state = 'SENDING';
ALTER TABLE delivery DROP CONSTRAINT delivery_state_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_state_check CHECK (state IN ('PENDING','UNKNOWN','DELIVERED','DEAD','SKIPPED'));
CREATE INDEX lane_troubled ON lane (system_id) WHERE trouble <> '';

CREATE UNIQUE INDEX delivery_lane ON delivery (organisation_id, link_id, version);
DROP INDEX delivery_open;
DROP INDEX delivery_of_incident;
ALTER TABLE delivery DROP CONSTRAINT delivery_kind_check;
ALTER TABLE delivery ADD CONSTRAINT delivery_kind_check CHECK (kind IN ('CREATE','UPDATE','COMMENT','CLOSE_DUPLICATE'));
-- The version of the mapping that translated it last.
ALTER TABLE delivery ADD COLUMN mapping text NOT NULL DEFAULT '';
ALTER TABLE delivery SET (fillfactor = 70);
-- sent_at is for those whose answer was lost: when they were sent at the latest.
UPDATE delivery SET sent_at = NULL WHERE state <> 'UNKNOWN' AND sent_at IS NOT NULL;
-- Deliveries with the state that people are shown: the lane knows which ones are being sent.
CREATE VIEW delivery_now WITH (security_invoker = true) AS
  SELECT d.organisation_id, d.id, d.link_id, d.incident_id, d.version, d.kind, d.payload, d.comment_id,
    (CASE WHEN d.state = 'PENDING' AND d.version > l.done_version AND d.version <= l.sending_version THEN 'SENDING' ELSE d.state END)::text AS state,
    d.attempts, d.journal_mark,
    coalesce(CASE WHEN d.state = 'PENDING' AND d.version > l.done_version AND d.version <= l.sending_version THEN l.sending_since ELSE d.sent_at END, 'epoch')::timestamptz AS sent_at,
    d.error_kind, d.error, d.trace, d.mapping, d.created_at, d.settled_at
  FROM delivery AS d JOIN lane AS l ON l.organisation_id = d.organisation_id AND l.link_id = d.link_id;
GRANT SELECT ON delivery_now TO liaison_app, liaison_system;

-- How often a field has gone to and fro of late: {field: {"at": [times], "stopped": since}}.
ALTER TABLE external_link ADD COLUMN flips jsonb NOT NULL DEFAULT '{}';

-- A field that both sides changed, differently. Both values stay, whoever won.
CREATE TABLE conflict (
  organisation_id bigint NOT NULL,
  id              uuid NOT NULL,
  incident_id     uuid NOT NULL,
  link_id         uuid NOT NULL,
  -- The entry that told of it.
  version         bigint NOT NULL,
  field           text NOT NULL,
  base            text NOT NULL,
  hub             text NOT NULL,
  vendor          text NOT NULL,
  policy          text NOT NULL CHECK (policy IN ('HUB','VENDOR','LATEST','REVIEW','LIFECYCLE')),
  -- Whose value stands; empty while a person has yet to decide.
  winner          text NOT NULL CHECK (winner IN ('HUB','VENDOR','')),
  rule            text NOT NULL,
  at              timestamptz NOT NULL,
  resolved_at     timestamptz,
  resolved_by     text NOT NULL DEFAULT '',
  PRIMARY KEY (organisation_id, id),
  FOREIGN KEY (organisation_id, link_id) REFERENCES external_link (organisation_id, id),
  FOREIGN KEY (organisation_id, incident_id) REFERENCES incident (organisation_id, id)
);
CREATE INDEX conflict_of_link ON conflict (organisation_id, link_id, at DESC, id DESC);
CREATE INDEX conflict_open ON conflict (organisation_id, at) WHERE resolved_at IS NULL AND winner = '';

-- The version of the mapping that an entry's values were translated by; the rule stands in detail.
ALTER TABLE ledger_entry ADD COLUMN mapping text NOT NULL DEFAULT '';
ALTER TABLE ledger_entry DROP CONSTRAINT ledger_entry_kind_check;
ALTER TABLE ledger_entry ADD CONSTRAINT ledger_entry_kind_check CHECK (kind IN ('REPORTED','CHANGED','COMMENTED','ESCALATED','TICKET_OPENED','TICKET_CHANGED','TICKET_GONE',
  'CONFLICT','CONFLICT_RESOLVED','FIELD_PARKED','FIELD_FREED','FIELD_STOPPED','DELIVERY_FAILED','DELIVERY_RETRIED','DELIVERY_SKIPPED','DELIVERY_EDITED',
  'DUPLICATE_FOUND','DUPLICATE_CLOSED','RECONCILED','CHECKPOINT'));

-- Entries that were put away by age. A CHECKPOINT in ledger_entry holds the state that they came to.
CREATE TABLE ledger_archive (
  organisation_id bigint NOT NULL,
  incident_id     uuid NOT NULL,
  version         bigint NOT NULL,
  id              bigint NOT NULL,
  kind            text NOT NULL,
  visibility      text NOT NULL CHECK (visibility IN ('PUBLIC','INTERNAL')),
  actor_kind      text NOT NULL,
  actor           text NOT NULL,
  link_id         uuid,
  comment_id      uuid,
  changes         jsonb NOT NULL,
  detail          jsonb NOT NULL,
  at              timestamptz NOT NULL,
  trace_id        text NOT NULL,
  mapping         text NOT NULL,
  PRIMARY KEY (organisation_id, incident_id, version, at)
) PARTITION BY RANGE (at);
CREATE TABLE ledger_archive_rest PARTITION OF ledger_archive DEFAULT;

-- An entry is never changed. It may leave this table only for the archive, which must hold it already.
-- +goose StatementBegin
CREATE OR REPLACE FUNCTION ledger_entry_is_immutable() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, public AS $$
BEGIN
  IF TG_OP = 'DELETE' AND EXISTS (
    SELECT FROM ledger_archive a WHERE a.organisation_id = OLD.organisation_id AND a.incident_id = OLD.incident_id AND a.version = OLD.version AND a.at = OLD.at
      AND a.id = OLD.id AND a.kind = OLD.kind AND a.changes = OLD.changes AND a.detail = OLD.detail) THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'ledger entries are never changed or deleted';
END $$;
-- +goose StatementEnd

-- The inbox by month of arrival, so that old months are dropped and not deleted row by row.
ALTER TABLE inbox RENAME TO inbox_before;
ALTER INDEX inbox_pkey RENAME TO inbox_before_pkey;
DROP INDEX inbox_waiting;
DROP INDEX inbox_ticket;
CREATE TABLE inbox (
  id              uuid NOT NULL,
  system_id       bigint NOT NULL REFERENCES external_system,
  source          text NOT NULL CHECK (source IN ('WEBHOOK','POLL','REPLAY','RECONCILE')),
  -- The vendor's own id of the call, where it sends one.
  call_id         text NOT NULL DEFAULT '',
  -- SHA-256 of the body.
  digest          bytea NOT NULL DEFAULT '',
  -- NULL until the ticket is known to belong to an incident.
  organisation_id bigint,
  link_id         uuid,
  external_id     text NOT NULL DEFAULT '',
  number          text NOT NULL DEFAULT '',
  version         text NOT NULL DEFAULT '',
  body            bytea NOT NULL DEFAULT '',
  content_type    text NOT NULL DEFAULT '',
  state           text NOT NULL DEFAULT 'WAITING' CHECK (state IN ('WAITING','DONE','IGNORED','PARKED','DUPLICATE')),
  -- The row that this one repeats.
  duplicate_of    uuid,
  reason          text NOT NULL DEFAULT '',
  -- How many ledger entries it led to.
  entries         integer NOT NULL DEFAULT 0,
  attempts        integer NOT NULL DEFAULT 0,
  due_at          timestamptz NOT NULL,
  lease_until     timestamptz NOT NULL DEFAULT '-infinity',
  lease_token     bigint NOT NULL DEFAULT 0,
  received_at     timestamptz NOT NULL,
  settled_at      timestamptz,
  trace           text NOT NULL DEFAULT '',
  PRIMARY KEY (id, received_at)
) PARTITION BY RANGE (received_at);
CREATE TABLE inbox_rest PARTITION OF inbox DEFAULT;
INSERT INTO inbox (id, system_id, source, organisation_id, link_id, external_id, number, version, body, state, reason, attempts, due_at, received_at, settled_at, trace)
  SELECT id, system_id, source, organisation_id, link_id, external_id, number, version, body, state, reason, attempts, due_at, received_at, settled_at, trace FROM inbox_before;
DROP TABLE inbox_before;
CREATE INDEX inbox_waiting ON inbox (system_id, due_at) WHERE state = 'WAITING';
CREATE INDEX inbox_ticket ON inbox (system_id, external_id) WHERE state = 'WAITING';
CREATE INDEX inbox_newest ON inbox (system_id, received_at, id);
CREATE INDEX inbox_parked ON inbox (system_id, received_at) WHERE state = 'PARKED';

-- Which calls of vendors came already, by the vendor's own id of the call. Kept longer than vendors repeat calls.
CREATE TABLE inbox_seen (
  system_id   bigint NOT NULL REFERENCES external_system,
  call_id     text NOT NULL,
  digest      bytea NOT NULL,
  inbox_id    uuid NOT NULL,
  received_at timestamptz NOT NULL,
  PRIMARY KEY (system_id, call_id)
);
CREATE INDEX inbox_seen_by_age ON inbox_seen (received_at);

-- How a system does, as the hubs saw it last: written every few seconds, not with every call.
CREATE TABLE pulse (
  system_id     bigint PRIMARY KEY REFERENCES external_system,
  sent_at       timestamptz,           -- the last write that the vendor accepted
  read_at       timestamptz,           -- the last read, poll or check that it answered
  news_at       timestamptz,           -- the last webhook or poll that brought a change
  hook_at       timestamptz,           -- the last webhook
  failed_at     timestamptz,           -- the last call that failed
  error_kind    text NOT NULL DEFAULT '',
  error         text NOT NULL DEFAULT '',
  breaker       text NOT NULL DEFAULT '' CHECK (breaker IN ('', 'CLOSED', 'OPEN', 'HALF_OPEN')),
  breaker_until timestamptz,
  echoes        bigint NOT NULL DEFAULT 0, -- reads that found nothing but what the hub had written
  restored      bigint NOT NULL DEFAULT 0, -- changes that only the poll brought although the vendor should have called
  updated_at    timestamptz NOT NULL
);

-- Why and by whom a system was paused.
ALTER TABLE external_system ADD COLUMN paused_at timestamptz;
ALTER TABLE external_system ADD COLUMN paused_by text NOT NULL DEFAULT '';
ALTER TABLE external_system ADD COLUMN pause_reason text NOT NULL DEFAULT '';
-- No news for this long is an alarm; NULL: never.
ALTER TABLE external_system ADD COLUMN silence_after interval;

-- A comparison of a system's links with the vendor's tickets.
CREATE TABLE reconciliation (
  id          uuid PRIMARY KEY,
  system_id   bigint NOT NULL REFERENCES external_system,
  cause       text NOT NULL CHECK (cause IN ('NIGHTLY','PERSON')),
  by_whom     text NOT NULL,
  mend        boolean NOT NULL,
  state       text NOT NULL DEFAULT 'RUNNING' CHECK (state IN ('RUNNING','DONE','STOPPED','FAILED')),
  -- Where it stands: links are compared in the order of (organisation_id, id).
  at_organisation bigint NOT NULL DEFAULT 0,
  at_link         uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  links       bigint NOT NULL DEFAULT 0,
  reads       bigint NOT NULL DEFAULT 0,
  drifted     bigint NOT NULL DEFAULT 0,
  mended      bigint NOT NULL DEFAULT 0,
  failed      bigint NOT NULL DEFAULT 0,
  error       text NOT NULL DEFAULT '',
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  lease_token bigint NOT NULL DEFAULT 0,
  started_at  timestamptz NOT NULL,
  ended_at    timestamptz
);
CREATE INDEX reconciliation_newest ON reconciliation (system_id, started_at DESC);

-- One field, comment or ticket that was not as it should be.
CREATE TABLE drift (
  organisation_id   bigint NOT NULL,
  id                uuid NOT NULL,
  reconciliation_id uuid NOT NULL,
  link_id           uuid NOT NULL,
  what              text NOT NULL,
  hub               text NOT NULL,
  vendor            text NOT NULL,
  -- What was done about it, or why nothing was.
  outcome           text NOT NULL,
  at                timestamptz NOT NULL,
  PRIMARY KEY (organisation_id, id),
  FOREIGN KEY (organisation_id, link_id) REFERENCES external_link (organisation_id, id)
);
CREATE INDEX drift_of_link ON drift (organisation_id, link_id, at DESC);
CREATE INDEX drift_of_run ON drift (reconciliation_id);

-- The feed is kept as long as somebody may come back with a cursor: positions up to this one are gone.
ALTER TABLE watermark ADD COLUMN trimmed bigint NOT NULL DEFAULT 0;

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['hub_schema','conflict','ledger_archive','ledger_archive_rest','inbox','inbox_rest','inbox_seen','pulse','reconciliation','drift'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY background ON %I TO liaison_system USING (true) WITH CHECK (true)', t);
    EXECUTE format('GRANT ALL ON %I TO liaison_system', t);
  END LOOP;
  -- Conflicts and drift are the desk's business.
  FOREACH t IN ARRAY ARRAY['conflict','drift'] LOOP
    EXECUTE format('CREATE POLICY viewer ON %I TO liaison_app
      USING (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]) AND (SELECT viewer_is_staff()))
      WITH CHECK (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]) AND (SELECT viewer_is_staff()))', t);
  END LOOP;
END $$;
-- +goose StatementEnd
CREATE POLICY viewer ON ledger_archive FOR SELECT TO liaison_app
  USING (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]) AND (visibility = 'PUBLIC' OR (SELECT viewer_is_staff())));
CREATE POLICY viewer ON inbox FOR SELECT TO liaison_app
  USING ((SELECT viewer_is_staff()) AND organisation_id = ANY ((SELECT viewer_organisations())::bigint[]));
CREATE POLICY viewer ON pulse FOR SELECT TO liaison_app
  USING ((SELECT viewer_is_staff()) AND system_id IN (SELECT system_id FROM system_organisation));
CREATE POLICY viewer ON reconciliation FOR SELECT TO liaison_app
  USING ((SELECT viewer_is_staff()) AND system_id IN (SELECT system_id FROM system_organisation));

GRANT SELECT ON ledger_archive, inbox, pulse, reconciliation, drift TO liaison_app;
GRANT SELECT, INSERT, UPDATE ON conflict TO liaison_app;

-- What policies ask of the viewer, without a fixed search_path so that the planner can put the expression in the call's
-- place: a call would be parsed and planned anew in every statement, once for each table. Everything is named in full.
CREATE OR REPLACE FUNCTION viewer_organisations() RETURNS bigint[] LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT coalesce(nullif(pg_catalog.current_setting('liaison.organisations', true), ''), '{}')::pg_catalog.int8[] $$;
CREATE OR REPLACE FUNCTION viewer_is_staff() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE
  AS $$ SELECT coalesce(pg_catalog.current_setting('liaison.staff', true), '') = 'true' $$;
ALTER FUNCTION viewer_organisations() RESET ALL;
ALTER FUNCTION viewer_is_staff() RESET ALL;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
