package main

import (
	"context"
	"os"

	"github.com/sombra-backup/sombra/internal/ledger"
	"github.com/sombra-backup/sombra/provider"
	"github.com/sombra-backup/sombra/provider/providers/btrfs"
	"github.com/sombra-backup/sombra/session/coordinator"
	"github.com/sombra-backup/sombra/session/coordinator/hold"
	"github.com/sombra-backup/sombra/session/coordinator/host"
	"github.com/sombra-backup/sombra/writer"
	"github.com/sombra-backup/sombra/writer/writers/sqlite"
)

// What the program starts itself again as.
const (
	roleKeeper  = "__keeper"
	roleHost    = "__writer-host"
	roleFill    = "__fill"
	roleLoad    = "__load"
	roleControl = "__control"
	roleRanges  = "__ranges"
	roleChain   = "__chain"
	roleLedger  = "__ledger"
	roleChurn   = "__churn"
)

var roles = map[string]func(args []string) error{
	roleKeeper:  keeperMain,
	roleHost:    func([]string) error { os.Exit(host.Main(context.Background(), kinds())); return nil },
	roleFill:    fillMain,
	roleLoad:    loadMain,
	roleControl: controlMain,
	roleRanges:  rangesMain,
	roleChain:   chainMain,
	roleLedger:  func(words []string) error { return ledger.Main(context.Background(), words) },
	roleChurn:   churnMain,
}

func kinds() []writer.Kind { return []writer.Kind{sqlite.Kind{}} }

func providers() []provider.Provider { return []provider.Provider{btrfs.New()} }

func keeperMain([]string) error {
	conn, err := hold.Inherited()
	if err != nil {
		return err
	}
	return hold.KeeperMain(context.Background(), conn, coordinator.KeeperHandlers(providers()))
}
