-- An incident's number has at least seven digits and as many as it needs: the first schema cut it to seven, so that the
-- ten-millionth report, and each one after it, would have met the number of an earlier one.
-- Locks: incident, for the moment that it takes to write the catalogue.
-- Oldest binary that may run beside it: 2.

-- +goose Up
ALTER TABLE incident ALTER COLUMN number SET DEFAULT 'INC' || to_char(nextval('incident_number'), 'FM9999999999990000000');
UPDATE hub_schema SET oldest = 2;

-- +goose Down
ALTER TABLE incident ALTER COLUMN number SET DEFAULT 'INC' || lpad(nextval('incident_number')::text, 7, '0');
