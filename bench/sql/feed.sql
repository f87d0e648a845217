-- The feed as the sequencer leaves it when it has stamped every entry.
WITH stamped AS (
  INSERT INTO feed (position, organisation_id, incident_id, version)
  SELECT row_number() OVER (ORDER BY id), organisation_id, incident_id, version FROM ledger_entry
)
UPDATE watermark SET (position, scanned) = (SELECT count(*), max(id) FROM ledger_entry) WHERE name = 'feed';
