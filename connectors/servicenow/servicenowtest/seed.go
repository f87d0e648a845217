package servicenowtest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// adminID is the sys_id that the admin user has on every instance.
const adminID = "6816f79cc0a8016401c5a33be04be441"

// fixedID is the same for the same name on every simulator, so that examples can quote it.
func fixedID(kind, name string) string {
	sum := sha256.Sum256([]byte("liaison simulator " + kind + " " + name))
	return hex.EncodeToString(sum[:16])
}

// people are the seeded users beside those who sign in: login, full name, group.
var people = [][3]string{
	{"abel.tuter", "Abel Tuter", "Service Desk"},
	{"beth.anglin", "Beth Anglin", "Network"},
	{"david.loo", "David Loo", "Hardware"},
	{"fred.luddy", "Fred Luddy", "Software"},
	{"joe.employee", "Joe Employee", ""},
	{"system", "System", ""},
}

var groups = []string{"Service Desk", "Network", "Hardware", "Software", "Database"}

// choiceSeed is "element value|English|German[|dependent value]".
var choiceSeed = []string{
	"state 1|New|Neu", "state 2|In Progress|In Arbeit", "state 3|On Hold|Zurückgestellt", "state 6|Resolved|Gelöst",
	"state 7|Closed|Geschlossen", "state 8|Canceled|Abgebrochen",
	"hold_reason 1|Awaiting Caller|Warten auf Anrufer", "hold_reason 3|Awaiting Problem|Warten auf Problem",
	"hold_reason 4|Awaiting Vendor|Warten auf Lieferant", "hold_reason 5|Awaiting Change|Warten auf Change",
	"impact 1|1 - High|1 - Hoch", "impact 2|2 - Medium|2 - Mittel", "impact 3|3 - Low|3 - Niedrig",
	"urgency 1|1 - High|1 - Hoch", "urgency 2|2 - Medium|2 - Mittel", "urgency 3|3 - Low|3 - Niedrig",
	"severity 1|1 - High|1 - Hoch", "severity 2|2 - Medium|2 - Mittel", "severity 3|3 - Low|3 - Niedrig",
	"priority 1|1 - Critical|1 - Kritisch", "priority 2|2 - High|2 - Hoch", "priority 3|3 - Moderate|3 - Mäßig",
	"priority 4|4 - Low|4 - Niedrig", "priority 5|5 - Planning|5 - Planung",
	"category inquiry|Inquiry / Help|Anfrage / Hilfe", "category software|Software|Software", "category hardware|Hardware|Hardware",
	"category network|Network|Netzwerk", "category database|Database|Datenbank",
	"subcategory email|Email|E-Mail|software", "subcategory os|Operating System|Betriebssystem|software",
	"subcategory cpu|CPU|CPU|hardware", "subcategory disk|Disk|Festplatte|hardware", "subcategory ip address|IP Address|IP-Adresse|network",
	"subcategory vpn|VPN|VPN|network", "subcategory wireless|Wireless|WLAN|network", "subcategory dns|DNS|DNS|network",
	"contact_type email|Email|E-Mail", "contact_type phone|Phone|Telefon", "contact_type self-service|Self-service|Self-Service",
	"contact_type virtual_agent|Virtual Agent|Virtueller Agent",
	"notify 1|Do Not Notify|Nicht benachrichtigen", "escalation 0|Normal|Normal", "escalation 1|Moderate|Mäßig",
	"escalation 2|High|Hoch", "escalation 3|Overdue|Überfällig",
	"approval not requested|Not Yet Requested|Noch nicht angefordert", "approval requested|Requested|Angefordert",
	"approval approved|Approved|Genehmigt", "approval rejected|Rejected|Abgelehnt",
	"upon_approval proceed|Proceed to Next Task|Weiter zur nächsten Aufgabe", "upon_reject cancel|Cancel all future Tasks|Alle Aufgaben abbrechen",
}

var legacyStates = []string{
	"state 1|New|Neu", "state 2|Active|Aktiv", "state 3|Awaiting Problem|Warten auf Problem",
	"state 4|Awaiting User Info|Warten auf Anwenderinformation", "state 5|Awaiting Evidence|Warten auf Nachweis",
	"state 6|Resolved|Gelöst", "state 7|Closed|Geschlossen", "state 8|Canceled|Abgebrochen",
}

var closeCodes = []string{
	"Duplicate", "Known error", "No resolution provided", "Resolved by caller", "Resolved by change", "Resolved by problem",
	"Resolved by request", "Solution provided", "Workaround provided", "User error",
}

// seed fills a new instance, and adds the accounts of the configuration that an old one lacks.
func (s *Server) seed() error {
	t := s.begin(actor{login: "admin", id: adminID, admin: true})
	for _, u := range s.cfg.Users {
		t.seedUser(u.Name, u.FullName, "Service Desk", u.Password != "")
	}
	fresh := len(s.db.tables["sys_choice"].rows) == 0
	if fresh {
		t.seedTables()
		t.seedPeople()
		t.seedChoices()
		t.seedRow("sys_properties", "glide.invalid_query.returns_no_rows", map[string]string{
			"name": "glide.invalid_query.returns_no_rows", "value": strconv.FormatBool(s.cfg.BadQuery == BadQueryNone),
		})
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("seeding the tables: %w", err)
	}
	if fresh {
		return s.seedIncidents()
	}
	return nil
}

func (t *tx) seedRow(name, key string, vals map[string]string) *row {
	r := t.blank(name)
	for k, v := range vals {
		r.vals[k] = v
	}
	setDefaultKey(r.vals, "sys_id", fixedID(name, key))
	t.stampNew(r)
	t.put(r)
	return r
}

func (t *tx) seedUser(login, full, group string, password bool) {
	if t.s.db.find("sys_user", "user_name", login) != nil {
		return
	}
	if full == "" {
		full = strings.ReplaceAll(login, ".", " ")
	}
	first, last, _ := strings.Cut(full, " ")
	vals := map[string]string{"user_name": login, "name": full, "first_name": first, "last_name": last, "email": login + "@example.com"}
	if login == "admin" {
		vals["sys_id"] = adminID
	}
	if password {
		vals["user_password"] = "set" // never the password itself; shown as asterisks
	}
	r := t.seedRow("sys_user", login, vals)
	if group != "" {
		t.seedRow("sys_user_grmember", login+group, map[string]string{"user": r.id(), "group": fixedID("sys_user_group", group)})
	}
}

func (t *tx) seedPeople() {
	for _, g := range groups {
		t.seedRow("sys_user_group", g, map[string]string{"name": g, "email": strings.ToLower(strings.ReplaceAll(g, " ", "-")) + "@example.com"})
	}
	for _, p := range people {
		t.seedUser(p[0], p[1], p[2], false)
	}
	t.seedRow("core_company", "Example School", map[string]string{"name": "Example School"})
	t.seedRow("cmn_location", "Main Building", map[string]string{"name": "Main Building", "city": "Dublin", "country": "Ireland"})
	t.seedRow("cmdb_ci", "School Broadband", map[string]string{"name": "School Broadband"})
}

// seedTables lists the tables in the table of tables.
func (t *tx) seedTables() {
	for _, name := range slices.Sorted(maps.Keys(t.s.db.defs)) {
		d := t.s.db.defs[name]
		vals := map[string]string{"name": name, "label": d.label}
		if d.extends != "" {
			vals["super_class"] = fixedID("sys_db_object", d.extends)
		}
		t.seedRow("sys_db_object", name, vals)
	}
}

func (t *tx) seedChoices() {
	choices := choiceSeed
	if t.s.cfg.LegacyStates {
		choices = legacyStates
		for _, c := range choiceSeed {
			if !strings.HasPrefix(c, "state ") {
				choices = append(choices, c)
			}
		}
	}
	for i, c := range choices {
		part := strings.Split(c+"|", "|")
		element, value, _ := strings.Cut(part[0], " ")
		t.seedChoice(element, value, "en", part[1], part[3], i)
		t.seedChoice(element, value, "de", part[2], part[3], i)
		if element == "state" {
			t.seedChoice("incident_state", value, "en", part[1], "", i)
			t.seedChoice("incident_state", value, "de", part[2], "", i)
		}
	}
	for i, c := range closeCodes {
		t.seedChoice("close_code", c, "en", c, "", i)
	}
}

func (t *tx) seedChoice(element, value, language, label, dependent string, sequence int) {
	t.seedRow("sys_choice", element+"="+value+"/"+language, map[string]string{
		"name": "incident", "element": element, "value": value,
		"label": label, "language": language, "dependent_value": dependent, "sequence": strconv.Itoa(sequence),
	})
}

// seedIncidents makes the incidents that a fresh instance starts with, all in one second as a bulk job does.
func (s *Server) seedIncidents() error {
	if s.cfg.SeedIncidents == 0 {
		return nil
	}
	t := s.begin(s.person("joe.employee"))
	subjects := []string{"Wireless drops in the library", "Printer shows offline", "Cannot sign in to mail", "Broadband is slow", "Screen stays dark"}
	for i := range s.cfg.SeedIncidents {
		_, err := t.insert("incident", change{fields: map[string]string{
			"short_description": subjects[i%len(subjects)], "caller_id": t.who.id, "urgency": strconv.Itoa(i%3 + 1), "impact": strconv.Itoa(i/3%3 + 1),
		}})
		if err != nil {
			return fmt.Errorf("seeding incidents: %w", err)
		}
	}
	t.events = nil // they were there before anyone listened
	return t.commit()
}

func setDefaultKey(m map[string]string, key, def string) {
	if m[key] == "" {
		m[key] = def
	}
}
