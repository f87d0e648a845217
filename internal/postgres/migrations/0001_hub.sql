-- The hub's tables from the first day. Every tenant row carries its organisation, every unique index and
-- foreign key of a tenant table begins with it, and row-level security is forced on all of them.
-- Words such as states are text with CHECK, not enum types: enum equality is not leakproof, and row-level
-- security would keep the planner from using an index through it.
-- Locks: none that matter, all tables are new.

-- +goose Up

-- Roles belong to the whole cluster, and databases may be migrated side by side: losing the race is fine.
-- +goose StatementBegin
DO $$
DECLARE wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['liaison_app', 'liaison_system'] LOOP
    BEGIN
      IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = wanted) THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE', wanted);
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;
    END;
  END LOOP;
END $$;
-- +goose StatementEnd
-- +goose StatementBegin
DO $$
DECLARE attempt int;
BEGIN
  FOR attempt IN 1..20 LOOP
    BEGIN
      IF NOT pg_has_role(current_user, 'liaison_app', 'USAGE') OR NOT pg_has_role(current_user, 'liaison_system', 'USAGE')
         OR NOT EXISTS (SELECT FROM pg_auth_members m JOIN pg_roles r ON r.oid = m.roleid JOIN pg_roles u ON u.oid = m.member
                        WHERE r.rolname = 'liaison_app' AND u.rolname = current_user) THEN
        EXECUTE format('GRANT liaison_app, liaison_system TO %I', current_user);
      END IF;
      RETURN;
    EXCEPTION WHEN unique_violation OR internal_error THEN
      PERFORM pg_sleep(0.05); -- "tuple concurrently updated": another database is granting the same right now
    END;
  END LOOP;
  RAISE EXCEPTION 'could not grant liaison_app and liaison_system to %', current_user;
END $$;
-- +goose StatementEnd

-- Who serves.
CREATE TABLE desk (
  id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key  text NOT NULL UNIQUE CHECK (key ~ '^[a-z][a-z0-9-]{0,62}$'),
  name text NOT NULL
);

-- Who is served: the tenant.
CREATE TABLE organisation (
  id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key     text NOT NULL UNIQUE CHECK (key ~ '^[a-z][a-z0-9-]{0,62}$'),
  name    text NOT NULL,
  desk_id bigint NOT NULL REFERENCES desk
);
CREATE INDEX organisation_desk ON organisation (desk_id);

CREATE TABLE external_system (
  id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  key       text NOT NULL UNIQUE CHECK (key ~ '^[a-z][a-z0-9-]{0,62}$'),
  name      text NOT NULL,
  connector text NOT NULL,
  desk_id   bigint NOT NULL REFERENCES desk,
  url       text NOT NULL,
  -- A system that left the settings keeps its links; nothing is sent to it or read from it.
  active    boolean NOT NULL DEFAULT true,
  paused    boolean NOT NULL DEFAULT false
);

-- Which organisations' incidents may be escalated into a system. A permission that was withdrawn keeps its row,
-- because links hang on it.
CREATE TABLE system_organisation (
  organisation_id bigint NOT NULL REFERENCES organisation,
  system_id       bigint NOT NULL REFERENCES external_system,
  active          boolean NOT NULL DEFAULT true,
  PRIMARY KEY (organisation_id, system_id)
);

-- Where a system's poll stands. The lease lets several hubs share the work.
CREATE TABLE poll (
  system_id   bigint PRIMARY KEY REFERENCES external_system,
  cursor      text NOT NULL DEFAULT '',
  due_at      timestamptz NOT NULL DEFAULT '-infinity',
  lease_until timestamptz NOT NULL DEFAULT '-infinity',
  lease_token bigint NOT NULL DEFAULT 0,
  last_ok_at  timestamptz,
  failures    integer NOT NULL DEFAULT 0,
  last_error  text NOT NULL DEFAULT ''
);

CREATE SEQUENCE incident_number AS bigint;
-- Fencing tokens of lanes, inbox rows and polls: a later lease always has the larger one.
CREATE SEQUENCE lease_token AS bigint;

CREATE TABLE incident (
  organisation_id bigint NOT NULL REFERENCES organisation,
  id              uuid NOT NULL,
  number          text NOT NULL DEFAULT 'INC' || lpad(nextval('incident_number')::text, 7, '0'),
  version         bigint NOT NULL CHECK (version > 0),
  title           text NOT NULL CHECK (title <> ''),
  description     text NOT NULL CHECK (description <> ''),
  state           text NOT NULL CHECK (state IN ('NEW','AWAITING_TRIAGE','ASSIGNED','IN_PROGRESS','ON_HOLD','RESOLVED','CLOSED','CANCELLED')),
  hold_reason     text NOT NULL DEFAULT '' CHECK (hold_reason IN ('','AWAITING_CUSTOMER','AWAITING_CHANGE','AWAITING_VENDOR','CUSTOMER_DEFERRAL','AWAITING_PROBLEM')),
  deferred_to     timestamptz,
  priority        text NOT NULL DEFAULT 'NONE' CHECK (priority IN ('NONE','P1','P2','P3','P4','P5')),
  impact          text NOT NULL DEFAULT '' CHECK (impact IN ('','ENTERPRISE','SITE','MULTIPLE_USERS','SINGLE_USER')),
  urgency         text NOT NULL DEFAULT '' CHECK (urgency IN ('','HIGH','MEDIUM','LOW')),
  category        text NOT NULL DEFAULT '',
  service         text NOT NULL DEFAULT '',
  team            text NOT NULL DEFAULT '',
  assignee        text NOT NULL DEFAULT '',
  resolution      text NOT NULL DEFAULT '',
  reference       text NOT NULL DEFAULT '',
  source          text NOT NULL DEFAULT 'USER' CHECK (source IN ('USER','TECHNICAL_STAFF','EVENT_MANAGEMENT','VENDOR','SERVICE_PROVIDER')),
  contact_name    text NOT NULL DEFAULT '',
  contact_phone   text NOT NULL DEFAULT '',
  contact_email   text NOT NULL DEFAULT '',
  reported_by     text NOT NULL DEFAULT '',
  opened_at       timestamptz NOT NULL,
  updated_at      timestamptz NOT NULL,
  resolved_at     timestamptz,
  closed_at       timestamptz,
  -- Refused until every door keeps confidential incidents from those who may not know of them.
  confidential    boolean NOT NULL DEFAULT false CONSTRAINT incident_confidential_not_kept_yet CHECK (NOT confidential),
  PRIMARY KEY (organisation_id, id),
  UNIQUE (organisation_id, number),
  CONSTRAINT incident_hold_reason_only_on_hold CHECK (hold_reason = '' OR state = 'ON_HOLD'),
  CONSTRAINT incident_deferral_has_its_reason CHECK (deferred_to IS NULL OR hold_reason = 'CUSTOMER_DEFERRAL')
) WITH (fillfactor = 85);
CREATE INDEX incident_newest ON incident (organisation_id, opened_at DESC, id DESC);
CREATE INDEX incident_open_newest ON incident (organisation_id, opened_at DESC, id DESC) WHERE state NOT IN ('CLOSED', 'CANCELLED');
CREATE INDEX incident_updated ON incident (organisation_id, updated_at DESC, id DESC);
CREATE INDEX incident_by_id ON incident (id);

CREATE TABLE external_link (
  organisation_id bigint NOT NULL,
  id              uuid NOT NULL,
  incident_id     uuid NOT NULL,
  system_id       bigint NOT NULL,
  -- Our name for the ticket, stored in the vendor's own field for it.
  correlation_id  uuid NOT NULL,
  external_id     text CHECK (external_id <> ''),
  number          text NOT NULL DEFAULT '',
  url             text NOT NULL DEFAULT '',
  -- The vendor's version of the ticket when the hub last agreed with it.
  remote_version  text NOT NULL DEFAULT '',
  -- The vendor's state in the vendor's words, for people.
  remote_state    text NOT NULL DEFAULT '',
  -- What both sides last agreed on: {field: {"hub": value, "vendor": {vendor field: word}}}.
  base            jsonb NOT NULL DEFAULT '{}',
  -- Fields that wait for a person: {field: reason}.
  parked          jsonb NOT NULL DEFAULT '{}',
  -- The vendor's journal up to here is in the hub.
  journal_mark    text NOT NULL DEFAULT '',
  -- Why the ticket is no longer followed: '', DELETED or MERGED.
  gone            text NOT NULL DEFAULT '' CHECK (gone IN ('', 'DELETED', 'MERGED')),
  last_synced_at  timestamptz,
  created_at      timestamptz NOT NULL,
  PRIMARY KEY (organisation_id, id),
  FOREIGN KEY (organisation_id, incident_id) REFERENCES incident (organisation_id, id),
  FOREIGN KEY (organisation_id, system_id) REFERENCES system_organisation (organisation_id, system_id),
  -- One ticket in each system for an incident, however often somebody escalates.
  CONSTRAINT external_link_one_per_system UNIQUE (organisation_id, incident_id, system_id),
  CONSTRAINT external_link_ticket_once UNIQUE (organisation_id, system_id, external_id)
) WITH (fillfactor = 85);
CREATE INDEX external_link_by_ticket ON external_link (system_id, external_id);
CREATE INDEX external_link_by_number ON external_link (system_id, number);
CREATE INDEX external_link_by_correlation ON external_link (correlation_id);

-- A link's exchange with its vendor: at most one at a time, in order. Kept apart from the link because it
-- changes with every exchange.
CREATE TABLE lane (
  organisation_id bigint NOT NULL,
  link_id         uuid NOT NULL,
  system_id       bigint NOT NULL,
  -- When the next delivery may be tried; NULL when none waits or the lane is held.
  due_at          timestamptz,
  -- A dead letter holds its lane until a person retries or skips it.
  held            boolean NOT NULL DEFAULT false,
  lease_until     timestamptz NOT NULL DEFAULT '-infinity',
  lease_token     bigint NOT NULL DEFAULT 0,
  PRIMARY KEY (organisation_id, link_id),
  FOREIGN KEY (organisation_id, link_id) REFERENCES external_link (organisation_id, id)
) WITH (fillfactor = 50);
CREATE INDEX lane_due ON lane (system_id, due_at) WHERE due_at IS NOT NULL;

CREATE TABLE ledger_entry (
  organisation_id bigint NOT NULL,
  incident_id     uuid NOT NULL,
  -- The incident's version that this entry made.
  version         bigint NOT NULL,
  -- Handed out before commit, so it orders nothing; feed.position does.
  id              bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
  kind            text NOT NULL CHECK (kind IN ('REPORTED','CHANGED','COMMENTED','ESCALATED','TICKET_OPENED','TICKET_CHANGED','TICKET_GONE',
                                                'CONFLICT','FIELD_PARKED','FIELD_FREED','DELIVERY_FAILED','DELIVERY_RETRIED','DELIVERY_SKIPPED')),
  visibility      text NOT NULL DEFAULT 'PUBLIC' CHECK (visibility IN ('PUBLIC','INTERNAL')),
  -- Who: a person by display name, or a system on its own account.
  actor_kind      text NOT NULL CHECK (actor_kind IN ('PERSON','SYSTEM','HUB')),
  actor           text NOT NULL,
  -- From where: the link whose ticket brought the change; NULL for changes made in the hub.
  link_id         uuid,
  comment_id      uuid,
  -- {field: [before, after]} in the hub's words.
  changes         jsonb NOT NULL DEFAULT '{}',
  -- What else is worth knowing, by kind: a conflict's loser and rule, a parked field's reason.
  detail          jsonb NOT NULL DEFAULT '{}',
  at              timestamptz NOT NULL,
  trace_id        text NOT NULL DEFAULT '',
  PRIMARY KEY (organisation_id, incident_id, version),
  FOREIGN KEY (organisation_id, incident_id) REFERENCES incident (organisation_id, id)
);
-- The sequencer finds committed entries by id; the ledger's list goes by it within an organisation.
CREATE INDEX ledger_entry_by_id ON ledger_entry (id);
CREATE INDEX ledger_entry_of_organisation ON ledger_entry (organisation_id, id);

-- +goose StatementBegin
CREATE FUNCTION ledger_entry_is_immutable() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog AS $$
BEGIN
  RAISE EXCEPTION 'ledger entries are never changed or deleted';
END $$;
-- +goose StatementEnd
CREATE TRIGGER ledger_entry_immutable BEFORE UPDATE OR DELETE ON ledger_entry
  FOR EACH ROW EXECUTE FUNCTION ledger_entry_is_immutable();

CREATE TABLE comment (
  organisation_id bigint NOT NULL,
  id              uuid NOT NULL,
  incident_id     uuid NOT NULL,
  visibility      text NOT NULL CHECK (visibility IN ('PUBLIC','INTERNAL')),
  body            text NOT NULL CHECK (body <> ''),
  author          text NOT NULL,
  -- The link it came through; NULL for comments made in the hub.
  link_id         uuid,
  at              timestamptz NOT NULL,
  PRIMARY KEY (organisation_id, id),
  FOREIGN KEY (organisation_id, incident_id) REFERENCES incident (organisation_id, id)
);
CREATE INDEX comment_newest ON comment (organisation_id, incident_id, at DESC, id DESC);

-- Which vendor's journal entry holds which comment: what makes "no comment twice" true in both directions.
CREATE TABLE comment_copy (
  organisation_id bigint NOT NULL,
  link_id         uuid NOT NULL,
  external_id     text NOT NULL CHECK (external_id <> ''),
  comment_id      uuid NOT NULL,
  PRIMARY KEY (organisation_id, link_id, external_id),
  UNIQUE (organisation_id, comment_id, link_id),
  FOREIGN KEY (organisation_id, link_id) REFERENCES external_link (organisation_id, id),
  FOREIGN KEY (organisation_id, comment_id) REFERENCES comment (organisation_id, id)
);

CREATE TABLE delivery (
  organisation_id bigint NOT NULL,
  id              uuid NOT NULL,
  link_id         uuid NOT NULL,
  incident_id     uuid NOT NULL,
  -- The entry that it carries; a lane goes by version, then by id.
  version         bigint NOT NULL,
  kind            text NOT NULL CHECK (kind IN ('CREATE','UPDATE','COMMENT')),
  -- CREATE and UPDATE: {field: value} in the hub's words.
  payload         jsonb NOT NULL DEFAULT '{}',
  comment_id      uuid,
  state           text NOT NULL DEFAULT 'PENDING' CHECK (state IN ('PENDING','SENDING','UNKNOWN','DELIVERED','DEAD','SKIPPED')),
  attempts        integer NOT NULL DEFAULT 0,
  -- The journal's end before a comment was sent: after a lost answer only entries beyond it are searched.
  journal_mark    text NOT NULL DEFAULT '',
  -- Written before the call: a hub that dies in between leaves the truth, "may have been sent".
  sent_at         timestamptz,
  error_kind      text NOT NULL DEFAULT '',
  error           text NOT NULL DEFAULT '',
  -- traceparent of the change, so that one trace reaches the vendor's call.
  trace           text NOT NULL DEFAULT '',
  created_at      timestamptz NOT NULL,
  settled_at      timestamptz,
  PRIMARY KEY (organisation_id, id),
  FOREIGN KEY (organisation_id, link_id) REFERENCES external_link (organisation_id, id),
  FOREIGN KEY (organisation_id, incident_id, version) REFERENCES ledger_entry (organisation_id, incident_id, version)
) WITH (fillfactor = 85);
-- The head of a lane is the first row of this index.
CREATE INDEX delivery_open ON delivery (organisation_id, link_id, version, id) WHERE state NOT IN ('DELIVERED', 'SKIPPED');
CREATE INDEX delivery_newest ON delivery (organisation_id, created_at, version, id);
CREATE INDEX delivery_of_incident ON delivery (organisation_id, incident_id, version);

-- What vendors sent and what polls noticed, as it came, before it is acknowledged.
CREATE TABLE inbox (
  id              uuid PRIMARY KEY,
  system_id       bigint NOT NULL REFERENCES external_system,
  source          text NOT NULL CHECK (source IN ('WEBHOOK','POLL','REPLAY')),
  -- NULL until the ticket is known to belong to an incident.
  organisation_id bigint,
  link_id         uuid,
  external_id     text NOT NULL DEFAULT '',
  number          text NOT NULL DEFAULT '',
  version         text NOT NULL DEFAULT '',
  body            bytea NOT NULL DEFAULT '',
  state           text NOT NULL DEFAULT 'WAITING' CHECK (state IN ('WAITING','DONE','IGNORED','PARKED')),
  reason          text NOT NULL DEFAULT '',
  attempts        integer NOT NULL DEFAULT 0,
  due_at          timestamptz NOT NULL,
  lease_until     timestamptz NOT NULL DEFAULT '-infinity',
  lease_token     bigint NOT NULL DEFAULT 0,
  received_at     timestamptz NOT NULL,
  settled_at      timestamptz,
  trace           text NOT NULL DEFAULT ''
);
CREATE INDEX inbox_waiting ON inbox (due_at) WHERE state = 'WAITING';
CREATE INDEX inbox_ticket ON inbox (system_id, external_id) WHERE state = 'WAITING';

-- The same key and input answer the first result again.
CREATE TABLE idempotency (
  organisation_id bigint NOT NULL REFERENCES organisation,
  subject         text NOT NULL,
  key             text NOT NULL,
  input_digest    bytea NOT NULL,
  incident_id     uuid NOT NULL,
  link_id         uuid,
  comment_id      uuid,
  at              timestamptz NOT NULL,
  PRIMARY KEY (organisation_id, subject, key)
);

-- Committed entries in the order in which everybody hears of them: dense positions, insert only.
CREATE TABLE feed (
  position        bigint PRIMARY KEY,
  organisation_id bigint NOT NULL,
  incident_id     uuid NOT NULL,
  version         bigint NOT NULL,
  CONSTRAINT feed_entry_once UNIQUE (organisation_id, incident_id, version)
);

-- Where the sequencer stands. Its row lock is what keeps two of them from stamping at once.
CREATE TABLE watermark (
  name        text PRIMARY KEY,
  -- Names this run of positions: a restored or copied database gets a new one, and old cursors expire.
  epoch       uuid NOT NULL DEFAULT gen_random_uuid(),
  fingerprint text NOT NULL DEFAULT '',
  position    bigint NOT NULL DEFAULT 0,
  -- Every entry up to this id is stamped, except those inside the gaps.
  scanned     bigint NOT NULL DEFAULT 0,
  -- Ids not yet seen committed: [{"from": id, "to": id, "writers": who held the insert lock when they were first missed}].
  gaps        jsonb NOT NULL DEFAULT '[]',
  holder      text NOT NULL DEFAULT '',
  lease_until timestamptz NOT NULL DEFAULT '-infinity'
);
INSERT INTO watermark (name) VALUES ('feed');

-- Keys that all hubs on this database share, such as the one that seals cursors. The app role has no right to it.
CREATE TABLE hub_key (
  name       text PRIMARY KEY,
  value      bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);

-- Who may see what. A request says who asks in transaction-local settings; without them it sees nothing.
CREATE FUNCTION viewer_organisations() RETURNS bigint[] LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog
  AS $$ SELECT coalesce(nullif(current_setting('liaison.organisations', true), ''), '{}')::bigint[] $$;
-- The desk's people read work notes, requesters do not.
CREATE FUNCTION viewer_is_staff() RETURNS boolean LANGUAGE sql STABLE PARALLEL SAFE SET search_path = pg_catalog
  AS $$ SELECT coalesce(current_setting('liaison.staff', true), '') = 'true' $$;

-- +goose StatementBegin
DO $$
DECLARE t text;
BEGIN
  FOREACH t IN ARRAY ARRAY['desk','organisation','external_system','system_organisation','poll','incident','external_link','lane','ledger_entry',
                           'comment','comment_copy','delivery','inbox','idempotency','feed','watermark','hub_key'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', t);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', t);
    EXECUTE format('CREATE POLICY background ON %I TO liaison_system USING (true) WITH CHECK (true)', t);
    EXECUTE format('GRANT ALL ON %I TO liaison_system', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['system_organisation','incident','external_link','lane','comment_copy','delivery','idempotency'] LOOP
    EXECUTE format('CREATE POLICY viewer ON %I TO liaison_app
      USING (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]))
      WITH CHECK (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]))', t);
  END LOOP;
  FOREACH t IN ARRAY ARRAY['ledger_entry','comment'] LOOP
    EXECUTE format('CREATE POLICY viewer ON %I TO liaison_app
      USING (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]) AND (visibility = ''PUBLIC'' OR (SELECT viewer_is_staff())))
      WITH CHECK (organisation_id = ANY ((SELECT viewer_organisations())::bigint[]) AND (visibility = ''PUBLIC'' OR (SELECT viewer_is_staff())))', t);
  END LOOP;
END $$;
-- +goose StatementEnd
CREATE POLICY viewer ON organisation FOR SELECT TO liaison_app USING (id = ANY ((SELECT viewer_organisations())::bigint[]));
CREATE POLICY viewer ON desk FOR SELECT TO liaison_app USING (id IN (SELECT desk_id FROM organisation));
CREATE POLICY viewer ON external_system FOR SELECT TO liaison_app USING (id IN (SELECT system_id FROM system_organisation));
CREATE POLICY viewer ON inbox FOR SELECT TO liaison_app
  USING ((SELECT viewer_is_staff()) AND organisation_id = ANY ((SELECT viewer_organisations())::bigint[]));

GRANT USAGE ON SEQUENCE incident_number, lease_token TO liaison_app, liaison_system;
GRANT SELECT ON desk, organisation, external_system, system_organisation, inbox TO liaison_app;
GRANT SELECT, INSERT, UPDATE ON incident, external_link, lane, delivery TO liaison_app;
GRANT SELECT, INSERT ON ledger_entry, comment, idempotency TO liaison_app;
GRANT SELECT ON comment_copy TO liaison_app;

-- +goose Down
-- There is no way down: the ledger is never thrown away by a tool.
SELECT 1;
