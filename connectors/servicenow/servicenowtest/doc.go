// Package servicenowtest plays a ServiceNow instance: the Table, Attachment, Aggregate, Import Set and Batch APIs,
// OAuth and Basic sign-in, the incident's business rules, journals and an outgoing call on every change, together with
// the faults that a client meets in the field. It stands to package servicenow as net/http/httptest stands to net/http.
//
// It is built from the vendor's documented behaviour, not from what Liaison's connector sends, so that any ServiceNow
// client can be pointed at it. Requests under /_sim/ are its control door: they read and move tickets as the vendor's
// own staff would, and set faults, switches and the webhook.
//
// Guarantees: a change is applied whole or not at all, and is stored before it is answered. With Config.Dir set,
// changes are appended to one log file, a line per transaction; after a kill -9 the next New finds every acknowledged
// change and drops a line that was cut short. The log is not forced to disk on each write, so a power cut may cost the
// last moments. OAuth tokens, faults, recorded calls and outgoing calls under way live in memory and end with the
// process.
//
// A Server is safe for concurrent use. Reads run side by side; writes run one at a time.
package servicenowtest
