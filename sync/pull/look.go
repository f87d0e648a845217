package pull

import (
	"liaison/connectors"
	"liaison/sync/ledger"
	"liaison/sync/system"
)

// Look says what a ticket as it was read would mean for the hub, as Pull would lay it into the ledger, and writes nothing.
func Look(s *system.System, now ledger.Situation, ticket connectors.Ticket, journal []connectors.JournalEntry, mark connectors.Mark) (ledger.Arrival, error) {
	return weigh(s, now, ticket, journal, mark)
}
