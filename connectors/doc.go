// Package connectors is the contract between Liaison and the ticket systems of vendors.
//
// A connector speaks one vendor's API in that vendor's words and knows nothing of the hub: not its database,
// not its lifecycle, not GraphQL. Mapping files translate between the vendor's words and the hub's; lanes
// decide when a call is made and what its failure means. A connector therefore does exactly one exchange per
// call and reports honestly how it ended: above all, whether a write may have happened although no answer came.
//
// Connectors are safe for concurrent use. They keep no state that matters across a crash: every promise
// about "once" rests on ids that the hub keeps and on what the vendor can be asked afterwards.
package connectors
