//go:build !failpoints

package main

import "liaison/cmd/liaison/hub"

// watch has nobody look on: the program that people use has no fail points.
func watch([]string) (hub.Watch, error) { return hub.Watch{}, nil }
