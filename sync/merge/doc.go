// Package merge decides, field by field, what a vendor's news means for the hub: a three-way merge of the hub's value, the
// vendor's value and the base, which is what both sides last agreed on.
//
// Its guarantees, each of them a property test: it never invents a value, for whatever it lets the hub take came out of the
// mapping of what the vendor holds; it is echo-free, for vendor words that equal the base's are no change, whatever they map to;
// it is idempotent, for the same news weighed again with the new base decides nothing; news of two fields commutes; and a value
// that loses is always reported. Words that the mapping does not know park their own field and no other.
//
// The package is pure. Its functions keep no state, leave nothing behind when a process dies and are safe for concurrent use, as
// long as nobody writes to the maps that they are given. They compare values, and two machines' clocks only where a mapping says
// policy: latest: states are settled by the lifecycle, everything else by its owner or a person.
package merge
