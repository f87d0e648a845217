// Package failpoint ends the program at a chosen point, so that a test can prove what a crash there leaves behind.
//
// There is a point before and after everything that can be seen from outside a process: each statement sent to the
// database (what leaves in one piece is one: a batch, or COMMIT with the statement before it), each call to a vendor, and each answer to a POST. "After" means
// that the other side has done it and the program has not yet acted upon its word. The points lie in the layers through which
// all of that passes, not in the code that is tested, so none can be forgotten.
//
// A point's name tells the statements of the same transaction that came before it, so that "commit" after a change is
// another point than "commit" after an idle look: "LeaseLanes > BeginHeads > commit after". A statement that touched no row is
// written LeaseLanes=0, one that failed LeaseLanes=error. The same point may be passed many times; they are counted from the order on.
//
// Orders come through a folder, one file that holds either "list NAME" (append the name of each point passed to the file
// NAME) or "exit N POINT" (end when POINT is passed for the N-th time). An order replaced by another counts anew. Ending is
// os.Exit with [Code], at once and with all other points standing still: nothing deferred runs, nothing is said to anybody.
//
// It is linked into no released program: cmd/liaison uses it under the build tag failpoints alone. Points are safe for
// concurrent use. A crash leaves the file "exited" in the folder, with the point's name.
package failpoint
