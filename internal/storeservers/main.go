// Command storeservers installs the servers of storage that tests run against.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/sombra-backup/sombra/repository/store/storetest/server"
)

func main() {
	if err := server.Install(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "storeservers:", err)
		os.Exit(1)
	}
}
