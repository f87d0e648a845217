// Package archtest holds the rules of the house as tests: who may import whom, that each package says what it
// is for, and what no file may contain. It exports nothing, and no program contains it.
//
// The rules read the source tree, all build tags and nested modules included, without compiling it, so they
// also judge a tree that does not build and packages that do not exist yet. Each rule is itself tested against
// a small tree that breaks it. Nothing is written, so nothing is left behind.
package archtest
