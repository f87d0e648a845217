package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// obtain installs packages, through sudo when this user may not.
func obtain(packages []string, sys system) error {
	byHand := "apt-get update && apt-get install -y --no-install-recommends " + strings.Join(packages, " ")
	if _, err := sys.lookPath("apt-get"); err != nil {
		return errors.New("there is no apt-get on this system, so nothing can be installed here")
	}
	if sys.uid == 0 {
		return install(packages, sys)
	}
	sudo, err := sys.lookPath("sudo")
	if err != nil {
		return fmt.Errorf("installing needs root, and there is no sudo; as root, run: %s", byHand)
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("finding this program: %w", err)
	}
	fmt.Fprintln(sys.out, "setup: asking sudo for the right to install")
	cmd := sys.command(sudo, append([]string{self, installVerb}, packages...)...)
	cmd.Stdin = sys.stdin
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("installing through sudo: %w; as root, run: %s", err, byHand)
	}
	return nil
}

// install installs packages as root. No service starts from it, and no database cluster is made.
func install(packages []string, sys system) (err error) {
	apt, err := sys.lookPath("apt-get")
	if err != nil {
		return err
	}
	fmt.Fprintf(sys.out, "setup: installing with apt-get: %s\n", strings.Join(packages, " "))
	restore, err := hold(sys, "usr/sbin/policy-rc.d", policy, 0o755)
	if err != nil {
		return fmt.Errorf("keeping services from starting: %w", err)
	}
	defer func() { err = errors.Join(err, restore()) }()

	if err := sys.apt(apt, "update", "-q"); errors.Is(err, errStopped) {
		return err
	} else if err != nil {
		// One broken source of many must not stop an install that does not need it.
		fmt.Fprintf(sys.out, "setup: %v; going on with the package lists there are\n", err)
	}
	if slices.Contains(packages, "postgresql") {
		// The package of the server makes a cluster "main" unless this file says otherwise, and the file comes
		// with postgresql-common: hence two steps.
		if err := sys.apt(apt, installArgs("postgresql-common")...); err != nil {
			return err
		}
		restoreCluster, holdErr := holdCluster(sys)
		if holdErr != nil {
			return fmt.Errorf("keeping the packages from making a cluster: %w", holdErr)
		}
		defer func() { err = errors.Join(err, restoreCluster()) }()
	}
	return sys.apt(apt, installArgs(packages...)...)
}

func installArgs(packages ...string) []string {
	// A new machine often runs its own upgrades at first: wait for them.
	return append([]string{
		"install", "-y", "-q", "--no-install-recommends", "-o", "DPkg::Lock::Timeout=600", "-o", "Dpkg::Use-Pty=0",
	}, packages...)
}

// errStopped says that a signal asked to stop.
var errStopped = errors.New("stopped by a signal")

// apt runs apt-get without questions, unless a signal has asked to stop.
func (s system) apt(program string, args ...string) error {
	select {
	case sig := <-s.signals:
		return fmt.Errorf("%w: %s", errStopped, sig)
	default:
	}
	cmd := s.command(program, args...)
	cmd.Env = append(cmd.Env, "DEBIAN_FRONTEND=noninteractive")
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("apt-get %s: %w", args[0], err)
	}
	return nil
}

func (s system) command(program string, args ...string) *exec.Cmd {
	cmd := exec.Command(program, args...)
	cmd.Env = slices.Clone(s.environ)
	cmd.Stdout, cmd.Stderr = s.out, s.out
	return cmd
}

// mark stands in everything that an install puts into the system's files for its own duration.
const mark = "# Liaison's make put this here while it installs packages; it may be deleted.\n"

// policy tells invoke-rc.d to start nothing: 101 is "action forbidden by policy".
const policy = "#!/bin/sh\n" + mark + "exit 101\n"

// hold creates a file for the time of an install and returns the function that removes it. A file of somebody
// else is left as it is: whoever forbids or allows services here has reasons. One of our own, left by a killed
// install, is taken over.
func hold(sys system, name, content string, mode fs.FileMode) (restore func() error, err error) {
	path := filepath.Join(sys.root, name)
	old, err := os.ReadFile(path)
	switch {
	case err == nil && !bytes.Contains(old, []byte(mark)):
		return func() error { return nil }, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		return nil, err
	}
	return func() error { return os.Remove(path) }, os.Chmod(path, mode)
}

// noCluster ends createcluster.conf during an install; the last value of a setting counts.
const noCluster = mark + "create_main_cluster = false\n"

// holdCluster adds noCluster to createcluster.conf and returns the function that takes it out again.
func holdCluster(sys system) (restore func() error, err error) {
	path := filepath.Join(sys.root, "etc/postgresql-common/createcluster.conf")
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	old, err := io.ReadAll(file)
	if err = errors.Join(err, file.Close()); err != nil {
		return nil, err
	}
	original, _, _ := strings.Cut(string(old), mark)
	if err := os.WriteFile(path, []byte(original+noCluster), 0o644); err != nil {
		return nil, err
	}
	return func() error { return os.WriteFile(path, []byte(original), 0o644) }, nil
}
