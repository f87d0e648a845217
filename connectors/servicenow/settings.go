package servicenow

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"liaison/connectors"
)

// defaultOverlap is longer than the vendor's transaction quota: a row becomes visible at its commit with the stamp of its
// beginning.
const defaultOverlap = 2 * time.Minute

// Settings are the names that connectors.Config.Settings may hold for this vendor.
func Settings() []connectors.Setting {
	return []connectors.Setting{
		{Name: "table", Default: "incident", Doc: "table of the tickets; it extends task"},
		{Name: "caller", Doc: "caller_id of tickets that Liaison opens: a sys_id of sys_user"},
		{Name: "assignment_group", Doc: "assignment_group of tickets that Liaison opens: a sys_id of sys_user_group"},
		{Name: "category", Doc: "category of tickets that Liaison opens, unless the mapping writes one"},
		{Name: "subcategory", Doc: "subcategory of tickets that Liaison opens, unless the mapping writes one"},
		{Name: "contact_type", Doc: "contact_type (channel) of tickets that Liaison opens"},
		{Name: "company", Doc: "company of tickets that Liaison opens: a sys_id of core_company"},
		{Name: "business_service", Doc: "business_service of tickets that Liaison opens: a sys_id of cmdb_ci_service"},
		{Name: "create.*", Doc: "any other column of tickets that Liaison opens, such as create.u_site"},
		{Name: "correlation_display", Default: "Liaison", Doc: "written beside the correlation id: who the partner is"},
		{Name: "user", Doc: "login name of the account, where it cannot be asked for; tells own messages apart"},
		{Name: "filter", Doc: "encoded query that narrows polling, such as correlation_display=Liaison"},
		{Name: "page_size", Default: "200", Doc: "rows asked for in one call, 1 to 10000"},
		{Name: "duplicate_state", Default: "8", Doc: "state in which a ticket ends that was opened twice by mistake; 8 is Canceled in the base system"},
		{Name: "duplicate_code", Default: "Duplicate", Doc: "close_code of such a ticket"},
		{Name: "token_header", Default: "x-sn-apikey", Doc: "header that carries auth.token; Authorization sends it as a bearer token"},
		{Name: "hook_id", Default: "sys_id", Doc: "key of the ticket's sys_id in webhook bodies; dots go into nested objects"},
		{Name: "hook_number", Default: "number", Doc: "key of the ticket's number in webhook bodies"},
		{Name: "hook_version", Default: "sys_mod_count", Doc: "key of sys_mod_count in webhook bodies"},
		{Name: "hook_updated", Default: "sys_updated_on", Doc: "key of sys_updated_on in webhook bodies: UTC, with a zone, or seconds or milliseconds since 1970"},
	}
}

// settings are the checked form.
type settings struct {
	table              string
	onCreate           connectors.Fields // columns given to new tickets unless the draft has them
	correlationDisplay string
	user               string
	filter             string
	pageSize           int
	duplicateState     string
	duplicateCode      string
	tokenHeader        string
	hookID             string
	hookNumber         string
	hookVersion        string
	hookUpdated        string
}

// createColumns are the settings whose names differ from the column, or are it.
var createColumns = map[string]string{
	"caller": "caller_id", "assignment_group": "assignment_group", "category": "category", "subcategory": "subcategory",
	"contact_type": "contact_type", "company": "company", "business_service": "business_service",
}

func readSettings(given map[string]string) (settings, error) {
	all, err := connectors.ReadSettings(given, Settings())
	if err != nil {
		return settings{}, err
	}
	s := settings{
		table: all["table"], onCreate: connectors.Fields{}, correlationDisplay: all["correlation_display"], user: all["user"],
		filter: all["filter"], tokenHeader: all["token_header"],
		duplicateState: all["duplicate_state"], duplicateCode: all["duplicate_code"],
		hookID: all["hook_id"], hookNumber: all["hook_number"], hookVersion: all["hook_version"], hookUpdated: all["hook_updated"],
	}
	var faults []error
	if !isColumn(s.table) {
		faults = append(faults, fmt.Errorf("settings.table: %q is no table name; write one such as incident", s.table))
	}
	if s.pageSize, err = strconv.Atoi(all["page_size"]); err != nil || s.pageSize < 1 || s.pageSize > 10_000 {
		faults = append(faults, fmt.Errorf("settings.page_size: %q is no number from 1 to 10000", all["page_size"]))
	}
	if s.duplicateState == "" {
		faults = append(faults, errors.New("settings.duplicate_state: is empty; write the value of a final state such as 8"))
	}
	if err := checkFilter(s.filter); err != nil {
		faults = append(faults, fmt.Errorf("settings.filter: %w", err))
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		column, known := createColumns[name]
		if custom, ok := strings.CutPrefix(name, "create."); ok {
			column, known = custom, true
		}
		if !known || all[name] == "" {
			continue
		}
		if !isColumn(column) || isJournal(column) || strings.HasPrefix(column, "sys_") {
			faults = append(faults, fmt.Errorf("settings.%s: %q cannot be given to a new ticket; name a plain column such as u_site", name, column))
		}
		s.onCreate[column] = all[name]
	}
	return s, errors.Join(faults...)
}

var (
	columnName = regexp.MustCompile(`^[a-z][a-z0-9_]{0,79}$`)
	columnPath = regexp.MustCompile(`^[a-z][a-z0-9_]{0,79}(\.[a-z][a-z0-9_]{0,79}){0,3}$`)
)

// isColumn tells whether a name can be written to; isPath also allows the dots that read through references.
func isColumn(name string) bool { return columnName.MatchString(name) }
func isPath(name string) bool   { return columnPath.MatchString(name) }

func trimSlash(s string) string { return strings.TrimRight(s, "/") }
