// Package outbound carries deliveries to vendors: one at a time on each link and in order, side by side across
// links, each system in a pool of its own so that a slow one delays nobody else.
//
// Every exchange is recorded as begun before the call is made and settled after it. A worker that dies in
// between, or whose answer is lost, leaves a delivery whose outcome is unknown: the vendor is asked what became
// of it, a ticket by its correlation id, a comment beyond the journal mark that was recorded before sending, and
// only when nothing is found after the system's settle window is it sent again. One function, failed, decides
// from an error's kind what happens next.
//
// Any number of workers, in any number of processes, may run at once: lanes are shared by leases, which a worker renews
// while it works, and a worker whose lease has ended cannot settle anything.
package outbound
