// Package config reads Liaison's settings: one YAML file with LIAISON_* environment variables over it.
//
// Load and Parse either return a Config that is complete and consistent, with every default filled in and every
// cross-reference known to exist, or an *Error that lists all that is wrong at once: each Issue names the setting, the
// file, line and column (or the variable) it stands in, the problem, and what to write instead. Unknown and repeated
// keys are errors, never ignored. Secrets are named by reference only (Secret) and no message, log line or marshalled
// form shows one. Default holds every default in one place; Describe is the same as a table for people.
//
// A Config is plain data that nobody changes after Load, so any number of goroutines may read it; the functions here
// are safe for concurrent use. The package only reads: a crash leaves nothing behind.
package config
