// Package mapping translates between the hub's words and a vendor's, as a YAML file declares it.
//
// A file names, per hub field, the vendor fields that hold it and the rows that translate it; rows match in order. Load and
// Overlay check the whole file before anything uses it: every hub value has exactly one row that writes it or is declared not
// writable, every documented vendor value is read by a row, every row can match, and what a row writes is read back as a value
// that shares its words. A file that passes therefore loses nothing in silence: a word that it does not know parks its field,
// with a reason that names the remedy, and every other field of the same update goes on.
//
// The package is pure: it does no I/O beyond the bytes that it is given and keeps no state, so a crash leaves nothing behind. A
// Mapping never changes after Load and is safe for concurrent use. What arrives in a reading is not merged here: that a vendor
// value which has not changed leaves the hub's alone is the business of sync/merge.
package mapping
