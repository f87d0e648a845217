// Command setup installs what a make target needs beside git, make and Go, and says what it installs.
//
// It is run by the Makefile as "setup TARGET" and stays silent when nothing is missing. What is missing comes
// from the system's own packages (apt-get on Debian and Ubuntu), as root or through sudo; on other systems it
// ends with an error that says what to install by hand. No service starts from such an install, and no
// database cluster is made: Liaison starts a private server of its own.
//
// One run at a time: apt-get's own lock keeps two installs apart. An install that is killed may leave the two
// files behind that keep services from starting; the next install recognises its own marks and takes them
// away.
package main
