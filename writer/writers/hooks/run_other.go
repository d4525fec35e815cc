//go:build !unix

package hooks

import "context"

func run(context.Context, string, string) error { return errSystem }

func exitStatus(error) uint32 { return 0 }
