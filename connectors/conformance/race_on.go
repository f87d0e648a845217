//go:build race

package conformance

// raceDetector takes several times the memory of what it watches.
const raceDetector = true
