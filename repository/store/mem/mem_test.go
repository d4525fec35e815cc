package mem_test

import (
	"testing"

	"github.com/sombra-backup/sombra/repository/store"
	"github.com/sombra-backup/sombra/repository/store/mem"
	"github.com/sombra-backup/sombra/repository/store/storetest"
)

func TestStoreKeepsThePromisesOfStorage(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return mem.New() })
}
