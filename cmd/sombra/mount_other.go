//go:build !linux

package main

import (
	"context"
	"errors"
)

// mount needs what only Linux has here.
func (a *app) mount(context.Context, string, mountOptions) error {
	return &hintError{errors.New("mount needs FUSE on Linux; this is another system"),
		"copy files out with: sombra extract, or look with: sombra ls, find, dump"}
}
