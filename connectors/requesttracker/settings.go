package requesttracker

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"liaison/connectors"
)

// defaultOverlap is how long a transaction may take from its id to its commit: as long as a request may run.
const defaultOverlap = settleWindow

// maxPage is the most rows that RT gives in one answer; it cuts higher wishes without a word.
const maxPage = 100

// Settings are the names that connectors.Config.Settings may hold for this vendor.
func Settings() []connectors.Setting {
	return []connectors.Setting{
		{Name: "queue", Default: "Incidents", Doc: "queue in which Liaison opens tickets"},
		{Name: "correlation_field", Default: "External ID", Doc: "custom field of tickets that holds Liaison's id: one line of text, single value"},
		{Name: "message_key_field", Default: "Message Key", Doc: "custom field of ticket transactions that holds a message's id at Liaison; empty: none"},
		{Name: "requestor", Doc: "Requestor of tickets that Liaison opens, a login name or mail address; RT mails it at every reply; empty: none"},
		{Name: "create.*", Doc: "any other field of tickets that Liaison opens, such as create.Cc or create.CustomFields.Severity"},
		{Name: "user", Doc: "login name of the account, where neither auth.basic nor the token tells it; tells own messages apart"},
		{
			Name: "active_statuses", Default: "open, stalled, acknowledged, in progress, on hold",
			Doc: "the lifecycle's active statuses: a reply to a ticket in another one would reopen it, so it carries the status along",
		},
		{
			Name: "duplicate_status", Default: "cancelled, rejected, closed, resolved",
			Doc: "statuses that end a ticket; one that was opened twice by mistake is given the first that its lifecycle takes",
		},
		{Name: "watch_queues", Doc: "queues whose changes are polled, separated by commas; empty: all that the account sees, so that a ticket is followed when it is moved"},
		{Name: "page_size", Default: "100", Doc: "rows of a page of changes, 1 to 100"},
		{Name: "hook_ticket", Default: "ticket", Doc: "key of the ticket's id in webhook bodies"},
		{Name: "hook_transaction", Default: "transaction", Doc: "key of the transaction's id in webhook bodies"},
	}
}

// settings are the checked form.
type settings struct {
	queue            string
	correlationField string
	keyField         string
	requestor        string
	onCreate         connectors.Fields // given to new tickets unless the draft has them
	user             string
	active           []string
	duplicate        []string
	watch            []string
	pageSize         int
	hookTicket       string
	hookTransaction  string
}

func readSettings(given map[string]string) (settings, error) {
	all, err := connectors.ReadSettings(given, Settings())
	if err != nil {
		return settings{}, err
	}
	s := settings{
		queue: all["queue"], correlationField: all["correlation_field"], keyField: all["message_key_field"], requestor: all["requestor"],
		onCreate: connectors.Fields{}, user: all["user"], active: list(all["active_statuses"]), watch: list(all["watch_queues"]),
		duplicate:  list(all["duplicate_status"]),
		hookTicket: all["hook_ticket"], hookTransaction: all["hook_transaction"],
	}
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !isName(s.queue) {
		fault("settings.queue: %q is no queue's name; write one such as Incidents", s.queue)
	}
	if !isName(s.correlationField) {
		fault(`settings.correlation_field: %q is no custom field's name; write one such as "External ID"`, s.correlationField)
	}
	if s.keyField != "" && !isName(s.keyField) {
		fault(`settings.message_key_field: %q is no custom field's name; write one such as "Message Key", or nothing`, s.keyField)
	}
	if s.hookTicket == "" {
		fault("settings.hook_ticket: is empty; name the key of the ticket's id, such as ticket")
	}
	if len(s.duplicate) == 0 {
		fault("settings.duplicate_status: is empty; name a status that ends a ticket, such as cancelled")
	}
	for _, q := range s.watch {
		if !isName(q) {
			fault("settings.watch_queues: %q is no queue's name; write names separated by commas", q)
		}
	}
	if s.pageSize, err = strconv.Atoi(all["page_size"]); err != nil || s.pageSize < 1 || s.pageSize > maxPage {
		fault("settings.page_size: %q is no number from 1 to %d", all["page_size"], maxPage)
	}
	if s.requestor != "" {
		s.onCreate["Requestor"] = s.requestor
	}
	for _, setting := range slices.Sorted(maps.Keys(all)) {
		name, ok := strings.CutPrefix(setting, "create.")
		if !ok {
			continue
		}
		if _, err := outgoing(name, all[setting]); err != nil || strings.EqualFold(name, "CustomFields."+s.correlationField) {
			fault("settings.%s: %q cannot be given to a new ticket; name a field such as create.Priority or create.CustomFields.Severity", setting, name)
		}
		s.onCreate[name] = all[setting]
	}
	return s, errors.Join(faults...)
}

// list splits at commas and drops what is blank.
func list(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// isName tells whether a queue's or custom field's name can stand in a query and a path. RT's query language has no
// dependable escapes, so what would need them is refused.
func isName(name string) bool {
	return name != "" && len(name) <= 200 && strings.TrimSpace(name) == name && name != "." && name != ".." &&
		!strings.ContainsFunc(name, func(r rune) bool { return unicode.IsControl(r) || strings.ContainsRune(`'"\{}/`, r) })
}
