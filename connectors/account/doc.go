// Package account keeps what the systems that call one vendor under one account have in common: how many calls run at
// a time, how many a second, the pause that the vendor asked for, and the circuit breaker.
//
// Vendors count an account's calls together, whatever the calls are for, so the limits are shared by polls, backfills
// and writes of every system that signs in alike. A Registry hands the same Account to each of them; where their
// settings name different limits, the lower of each holds. One vendor's sickness is no other's: accounts share nothing.
//
// What an Account promises:
//
//   - never more calls at a time than Concurrency, and never more a second than Rate, evenly spaced, not even after an
//     idle hour or an outage;
//   - no call before the time that the vendor named, and at most MaxPause after the answer that named it;
//   - while the vendor gives no usable answer, one call a cooldown and no other;
//   - once it is well again, calls begin one at a time, and each usable answer allows one more beside it.
//
// Registries and Accounts are safe for concurrent use. They live in memory alone: a crash loses the pause and the
// breaker's state, which the vendor's next answers restore, and at most one call beyond them is made.
package account
