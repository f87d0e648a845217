// Package reconcile compares every followed link with its vendor's ticket, tells what differs, and mends it by policy.
//
// A comparison reads the ticket, many at a time where the connector offers that, and its whole journal, and weighs them
// as a pull would, without taking anything in. Where nothing differs it writes nothing but its own progress: no entry, no
// row of the link, no call that changes anything at the vendor. Where something differs it takes the link's lane, so that no
// exchange is under way, and looks again; what differs then is drift. Mending takes the vendor's news in as a pull does, and
// has the vendor hear those of the hub's values that it lacks. What only a person can mend is told. Differences that the
// ledger tells already are no drift: parked and stopped fields, conflicts under review, deliveries that wait.
//
// Every night each system is compared within a budget of requests, under the account's own limits. One hub does it at a
// time. A comparison that its budget, a stop or a crash ended keeps its place, and the next one goes on from there.
// Everything is safe for concurrent use.
package reconcile
