//go:build !linux

package main

import (
	"context"
	"errors"
	"io"
)

// roles are what the program may be started again as.
var roles map[string]func(args []string) error

func benchFreeze(context.Context, []string, io.Writer) error {
	return errors.New("freeze measures the shadow copy service for hosts without one of their own, and btrfs: it needs Linux")
}

func benchRepository(context.Context, []string, io.Writer) error {
	return errors.New("repository measures the processes of tools, and how they leave the disk: it needs Linux")
}

func benchIncremental(context.Context, []string, io.Writer) error {
	return errors.New("incremental measures shadow copies of btrfs and XFS: it needs Linux")
}

func benchChain(context.Context, []string, io.Writer) error {
	return errors.New("chain measures the processes of restores, and what they read and write: it needs Linux")
}

func benchInstant(context.Context, []string, io.Writer) error {
	return errors.New("instant measures the shadow copy service for hosts without one of their own: it needs Linux")
}

func benchLogBackup(context.Context, []string, io.Writer) error {
	return errors.New("logbackup measures writers of databases as they are on Linux")
}
