// Package registry lists every connector that Liaison can speak through, in one function, so that the list can be
// read, tested and shown.
//
// It holds no state: its functions are pure and safe for concurrent use, and a crash leaves nothing behind.
package registry

import (
	"slices"

	"liaison/connectors"
	"liaison/connectors/requesttracker"
	"liaison/connectors/servicenow"
)

// Entry is one vendor's connector.
type Entry struct {
	Name    string // the word in the settings file: systems[].connector
	Title   string // the vendor's product as people call it
	Mapping []byte // the default mapping file; an organisation's own lies over it
	// Settings are the names that Config.Settings may hold.
	Settings []connectors.Setting
	// New makes a connector. Its error names the settings at fault.
	New func(connectors.Config) (connectors.Connector, error)
}

// All returns every connector, by name.
func All() []Entry {
	return []Entry{
		{
			Name: "requesttracker", Title: "Request Tracker", Mapping: requesttracker.Mapping(), Settings: requesttracker.Settings(),
			New: func(c connectors.Config) (connectors.Connector, error) { return made(requesttracker.New(c)) },
		},
		{
			Name: "servicenow", Title: "ServiceNow", Mapping: servicenow.Mapping(), Settings: servicenow.Settings(),
			New: func(c connectors.Config) (connectors.Connector, error) { return made(servicenow.New(c)) },
		},
	}
}

// made keeps a failed constructor's nil pointer from becoming an interface that is not nil.
func made[C connectors.Connector](c C, err error) (connectors.Connector, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

// Names returns the connectors' names, for the check of systems[].connector.
func Names() []string {
	var names []string
	for _, e := range All() {
		names = append(names, e.Name)
	}
	return names
}

// Find returns the connector of that name.
func Find(name string) (Entry, bool) {
	all := All()
	i := slices.IndexFunc(all, func(e Entry) bool { return e.Name == name })
	if i < 0 {
		return Entry{}, false
	}
	return all[i], true
}
