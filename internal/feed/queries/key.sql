-- name: CreateKey :exec
-- Keeps the key that came first: hubs that start together agree on one.
INSERT INTO hub_key (name, value) VALUES (@name, @value) ON CONFLICT (name) DO NOTHING;

-- name: ReadKey :one
SELECT value FROM hub_key WHERE name = @name;
