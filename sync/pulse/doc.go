// Package pulse notes how each external system does, and tells it live.
//
// A Monitor belongs to one hub. Whoever deals with a vendor notes in memory what came of it, through that system's Pulse;
// every few seconds the Monitor lays what is new over the table that all hubs share, so that a call costs no
// statement of its own. Judge makes a status and alarms of what is known: it calls nothing well that was not seen to work
// lately, and lets no way to the vendor stand in for another. A system that nobody has spoken to for minutes is asked
// whether it is there (connectors.Connector.Check), unless it is paused.
//
// Everything is safe for concurrent use. A nil *Pulse notes nothing, so that tests and tools need no Monitor. A crash loses
// the notes of the last seconds; nothing but what people are shown rests on them.
package pulse
