module liaison/bench

go 1.26

// The hub itself, from this very tree: what is measured is what stands beside it.
replace liaison => ../

require (
	github.com/gorilla/websocket v1.5.3
	github.com/jackc/pgx/v5 v5.9.2
	golang.org/x/sync v0.22.0
	liaison v0.0.0-00010101000000-000000000000
)
